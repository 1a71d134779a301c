"""The road over Helm on a small Kubernetes and a small helm; tests/system/kubernetes/test_helm.py has the real ones."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.kubernetes.api import Api
from rollbackd.targets.base import Target
from rollbackd.targets.kubernetes import helm_program
from rollbackd.targets.process import Commands, Finished, TooSlow
from tests.support.dying import Deadly, Killed
from tests.support.helm_program import main as helm
from tests.unit.targets.kube_shop import ORDER, Shop, in_place, shop

__all__ = ["shop"]

PROGRAM = Path(__file__).parents[2] / "support" / "helm_program.py"
BLOCKED = """admission webhook "validate.kyverno.svc-fail" denied the request:

resource Deployment/shop/checkout was blocked due to the following policies

no-literals:
  check: env DB_PASSWORD=sesame is not allowed"""
"""What Kyverno answers, in more than one line."""
NOTES = {"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": "shop"}


class Charts:
    """The release `shop` of a small helm, whose chart holds the Deployment `checkout`."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.folder = shop, shop.folder / "helm-state"
        self.folder.mkdir()
        self._write([])
        url = f"http://127.0.0.1:{shop.server.port}/apis/apps/v1/namespaces/shop/deployments/checkout"
        (self.folder / "place.json").write_text(json.dumps({"url": url, "token": shop.server.token}))
        self.program = shop.folder / "bin" / "helm"
        self.program.parent.mkdir()
        self.program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {PROGRAM} {self.folder} "$@"\n')
        self.program.chmod(0o755)

    def target(self, **options: object) -> Target:
        return self.shop.make(owners={"helm": {"program": str(self.program), **options}})

    def upgrade(self, version: str, **more: object) -> None:
        """Somebody deploys by helm."""
        self.shop.deploy(version)
        found = self.shop.deployment
        found["metadata"]["annotations"] = {**found["metadata"].get("annotations", {}), **NOTES}
        self.shop.server.store.put("deployments", found)
        self.shop.run()
        kept = copy.deepcopy(found)
        manifest = {"kind": "Deployment", "metadata": {"name": "checkout"}, "spec": kept["spec"]}
        history = self.history
        for one in history:
            one["status"] = "superseded" if one["status"] == "deployed" else one["status"]
        new = {"revision": len(history) + 1, "status": "deployed", "description": "Upgrade complete"}
        self._write([*history, {**new, "updated": _now(), "manifest": json.dumps(manifest), **more}])

    @property
    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / "history.json").read_text())
        return found

    def change(self, revision: int, **values: object) -> None:
        self._write([one | values if one["revision"] == revision else one for one in self.history])

    def _write(self, history: list[dict[str, Any]]) -> None:
        (self.folder / "history.json").write_text(json.dumps(history))

    def fault(self, fault: str) -> None:
        (self.folder / "fault").write_text(fault)

    @property
    def calls(self) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    @property
    def rollbacks(self) -> int:
        return sum(one["description"].startswith("Rollback") for one in self.history)


def _now() -> str:
    return datetime.now(UTC).isoformat()


@pytest.fixture
def charts(shop: Shop) -> Charts:
    one = Charts(shop)
    one.upgrade("v1")
    one.upgrade("v2")
    return one


async def test_with_helm_on_the_path_nothing_is_configured(charts: Charts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{charts.program.parent}:/usr/bin:/bin")
    target = charts.shop.make()
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    assert (await in_place(target), charts.history[-1]["description"]) == ("v1", "Rollback to 1")
    assert await target.settled("v1")


async def test_helms_first_revision_could_be_put_back(charts: Charts) -> None:
    """As long as it is in place: no older one holds what it does."""
    assert (await charts.target().readiness("v2")).problems == ()


async def test_without_helm_it_is_told(charts: Charts) -> None:
    target = charts.shop.make(owners={"helm": {"program": "helm-that-is-not-there"}})
    (problem,) = (await target.readiness("v1")).problems
    assert problem.startswith("helm: there is no program helm-that-is-not-there that the daemon's user may run")
    with pytest.raises(Permanent):
        await target.revert(ORDER)
    assert charts.shop.image == "v2"


async def test_helm_is_told_the_cluster_and_namespace_and_nothing_more(
    charts: Charts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELM_NAMESPACE", "elsewhere")
    monkeypatch.setenv("HELM_KUBEAPISERVER", "https://elsewhere.test")
    monkeypatch.setenv("HELM_DRIVER", "configmap")
    await charts.target(timeout="2m", hooks=False, env={"HELM_DRIVER": "sql"}).revert(ORDER)
    (call,) = [one for one in charts.calls if one["arguments"][0] == "rollback"]
    where = ["--namespace", "shop", "--kubeconfig", str(charts.shop.folder / "kubeconfig")]
    assert call["arguments"] == [
        "rollback",
        "shop",
        "1",
        "--history-max",
        "0",
        "--timeout",
        "120s",
        "--no-hooks",
        *where,
    ]
    assert call["environment"] == {"HELM_DRIVER": "sql"}


async def test_in_a_pod_helm_finds_the_service_account_by_itself(
    charts: Charts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helm_program, "in_pod", lambda _options, _environment: True)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    await charts.target().readiness("v1")
    assert charts.calls[0]["arguments"][-2:] == ["--namespace", "shop"]
    assert charts.calls[0]["environment"] == {"KUBECONFIG": "/dev/null", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}


async def test_a_label_of_helm_alone_names_no_release(charts: Charts) -> None:
    found = charts.shop.deployment
    for name in NOTES:
        del found["metadata"]["annotations"][name]
    found["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    charts.shop.server.store.put("deployments", found)
    (problem,) = (await charts.target().readiness("v1")).problems
    assert problem.startswith("a Helm release that is not known looks after it")
    with pytest.raises(Permanent, match="and no annotation"):
        await charts.target().revert(ORDER)


@pytest.mark.parametrize("name", ["--post-renderer=/bin/sh", "Shop", "a" * 54])
async def test_a_name_that_no_release_has_never_gets_to_helm(charts: Charts, name: str) -> None:
    notes = {**charts.shop.deployment["metadata"]["annotations"], "meta.helm.sh/release-name": name}
    charts.shop.change("metadata", annotations=notes)
    assert "looks after it" in (await charts.target().readiness("v1")).problems[0]
    assert not (charts.folder / "calls").exists()


async def test_if_managed_refuse_refuses(charts: Charts) -> None:
    target = charts.shop.make(if_managed="refuse", owners={"helm": {"program": str(charts.program)}})
    with pytest.raises(Permanent, match="use `helm rollback shop`"):
        await target.revert(ORDER)
    assert charts.rollbacks == 0


async def test_only_what_helm_called_good_is_gone_back_to(charts: Charts) -> None:
    charts.change(1, status="failed")
    (problem,) = (await charts.target().readiness("v1")).problems
    assert problem.startswith("no good revision of Helm release shop holds the images of v1")


async def test_revisions_that_cannot_be_told_apart_are_not_chosen_from(charts: Charts) -> None:
    first = json.loads(charts.history[0]["manifest"])
    first["spec"]["template"]["spec"]["priorityClassName"] = "high"
    other = copy.deepcopy(first)
    other["spec"]["template"]["spec"]["priorityClassName"] = "low"
    charts.change(1, manifest=json.dumps(first))
    charts.upgrade("v2", manifest=charts.history[1]["manifest"])
    charts.change(2, manifest=json.dumps(other))
    (problem,) = (await charts.target().readiness("v1")).problems
    assert problem.startswith("which of Helm's revisions 2, 1 of shop is v1 cannot be told")


async def test_a_paused_deployment_is_told(charts: Charts) -> None:
    charts.shop.change("spec", paused=True)
    assert "is paused, and helm resumes nothing" in str((await charts.target().readiness("v1")).problems)
    with pytest.raises(Conflict, match="is paused"):
        await charts.target().revert(ORDER)
    assert charts.rollbacks == 0


async def test_what_is_back_already_is_noted(charts: Charts) -> None:
    charts.shop.deploy("v1")
    target = charts.target()
    await target.revert(ORDER)
    await target.revert(ORDER)
    assert charts.rollbacks == 0


# -- faults


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("garbage", Permanent, "prints no history that can be read"),
        ("say release: not found", Permanent, "helm knows no release shop in namespace shop"),
        ("say secrets is forbidden", Permanent, "docs/targets/helm.md lists the rights"),
        ("say connection refused", Temporary, "helm history shop: ended with exit code 1: Error: connection refused"),
        (
            'say "checkout" is invalid: spec.x: Invalid value: "sesame": no',
            Temporary,
            "is invalid: spec.x: Invalid value$",
        ),
        (f'say {"x" * 20_000} "sesame" said', Temporary, "exit code 1: it printed more than 16 KiB, which may hold"),
        (
            f"say cannot patch: {BLOCKED}",
            Temporary,
            'exit code 1: Error: cannot patch: admission webhook "validate.kyverno.svc-fail" denied the request$',
        ),
        (
            "say one\nW1124 23:06:02.000000      12 warnings.go:70] env PASSWORD=sesame is a literal\ntwo",
            Temporary,
            r"exit code 1: Error: one \| two$",
        ),
        (f"say {BLOCKED.replace('policies', 'p ' * 9000)}", Temporary, "it printed more than 16 KiB"),
        ('say it is 5" wide\nnot "sesame"', Temporary, r'exit code 1: Error: it is 5"\*\*\*"$'),
        ("cut", Temporary, "helm get shop: ended with exit code 1"),
        ("refuse", Temporary, "helm rollback shop: ended with exit code 1: Error: cannot connect"),
    ],
)
async def test_what_helm_says_is_told_without_secrets(
    charts: Charts, fault: str, kind: type[RollbackdError], words: str
) -> None:
    charts.change(2, manifest=charts.history[1]["manifest"] + "\n---\nkind: Secret\nstringData: {password: sesame}")
    charts.fault(fault)
    with pytest.raises(kind, match=words) as raised:
        await charts.target().revert(ORDER)
    assert "sesame" not in str(raised.value)
    assert charts.shop.image == "v2"
    charts.fault("")
    await charts.target().revert(ORDER)
    assert charts.shop.image == "v1"


@pytest.mark.parametrize(
    "manifest", ["a: [", "&a [*a]", "a: " + "[" * 3000, "kind: Deployment\nmetadata: {name: checkout}"]
)
async def test_a_manifest_that_holds_nothing_that_can_be_read_is_told(charts: Charts, manifest: str) -> None:
    charts.change(1, manifest=manifest)
    assert len((await charts.target().readiness("v1")).problems) == 1


async def test_a_helm_that_hangs_is_ended_and_followed_by_another(
    charts: Charts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helm_program, "GRACE_S", 2.0)
    charts.fault("hang")
    target = charts.target(timeout="1s")
    with pytest.raises(TooSlow):
        await target.revert(ORDER)
    assert charts.history[-1]["status"] == "pending-rollback"
    charts.fault("")
    monkeypatch.undo()
    await target.revert(ORDER)
    assert [one["status"] for one in charts.history[2:]] == ["pending-rollback", "deployed"]


async def test_a_helm_that_died_with_the_daemon_is_given_its_time(charts: Charts) -> None:
    charts.fault("die")
    with pytest.raises(Temporary, match="SIGKILL"):
        await charts.target().revert(ORDER)
    charts.fault("")
    with pytest.raises(Temporary, match="still rolling shop back"):
        await charts.target().revert(ORDER)
    charts.change(3, updated="2026-01-01T00:00:00Z")
    await charts.target().revert(ORDER)
    assert [one["status"] for one in charts.history[2:]] == ["pending-rollback", "deployed"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_any_call_it_rolls_back_once(
    charts: Charts, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    async def within_this_process(_self: Commands, *arguments: Any) -> Finished:
        """The small helm, without starting Python each time."""
        _label, command, _within, variables = arguments
        printed = await asyncio.to_thread(helm, charts.folder, [*command[1:]], variables)
        return Finished(0, printed, overflowed=False, tail="")

    deadly = Deadly(when)
    monkeypatch.setattr(Api, "_answer", deadly.around(Api._answer))
    monkeypatch.setattr(Commands, "run", deadly.around(within_this_process))
    for fatal_call in range(1, 40):
        if fatal_call > 1:
            charts.upgrade("v2")
        order = type(ORDER)(to="v1", expect="v2", key=f"key-{fatal_call}")
        before = charts.rollbacks
        deadly.at(fatal_call)
        died = False
        try:
            await charts.target().revert(order)
        except Killed:
            died = True
        deadly.at(0)
        await charts.target().revert(order)
        assert charts.rollbacks == before + 1
        assert charts.shop.image == "v1"
        if not died:
            break
    assert fatal_call > 10, "it has more calls than that"
