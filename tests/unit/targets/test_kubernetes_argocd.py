"""The road over Argo CD, on a small one; tests/system/kubernetes/test_argocd.py has the real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import ValidationError
from structlog.testing import capture_logs

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.kubernetes.argocd import turn_on
from rollbackd.targets.kubernetes.argocd_api import ArgoApi, ArgoCDOptions
from rollbackd.targets.kubernetes.argocd_history import fits
from tests.support.argocd_server import APP, TOKEN, ArgoServer, fault_of
from tests.support.kube_store import Object
from tests.unit.targets.kube_shop import IMAGE, ORDER, Shop, shop

__all__ = ["shop"]


class Argo:
    """The small Argo CD that looks after the shop, and targets that know of it."""

    def __init__(self, shop: Shop, server: ArgoServer, token_file: Path) -> None:
        self.shop, self.server, self.token_file = shop, server, token_file

    def make(self, **settings: object) -> Target:
        owners = {"argocd": {"url": self.server.url, "token_file": self.token_file, "timeout": "3s"}}
        return self.shop.make(**{"owners": owners, **settings})

    def commit(self, version: str, revision: str | None = None, **env: str) -> None:
        self.server.commit(revision or f"commit-{version}", manifest(version, **env))

    @property
    def note(self) -> Object:
        found: Object = json.loads(self.server.app["metadata"]["annotations"]["io.rollbackd/rollback"])
        return found

    @property
    def rollbacks(self) -> int:
        return sum(line.endswith("/rollback") for line in self.server.requests)


def manifest(version: str, **env: str) -> Object:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    container = {"name": "app", "image": f"{IMAGE}:{version}", **({"env": variables} if variables else {})}
    template = {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "checkout"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "checkout"}, "spec": spec}


@pytest.fixture
async def argo(shop: Shop, tmp_path: Path) -> AsyncIterator[Argo]:
    server = ArgoServer(shop.server)
    await server.start()
    token_file = tmp_path / "argocd-token"
    token_file.write_text(f"{TOKEN}\n")
    found = Argo(shop, server, token_file)
    found.commit("v1")
    found.commit("v2")
    yield found
    await server.stop()


async def problem(argo: Argo, **settings: object) -> str:
    return "; ".join((await argo.make(**settings).readiness("v1")).problems)


# -- the revert


async def test_the_application_is_rolled_back_and_auto_sync_stays_off(argo: Argo) -> None:
    target = argo.make()
    assert (await target.readiness("v1")).problems == ()
    with capture_logs() as logs:
        await target.revert(ORDER)
    assert not await target.settled("v1")
    argo.server.run()
    assert await target.settled("v1")
    assert argo.shop.image == "v1"
    assert not argo.server.automated
    argo.server.run()
    assert argo.shop.image == "v1", "git still says v2, and nothing may put that back"
    assert argo.note["key"] == ORDER.key
    assert argo.note["automated"] == {"prune": True, "selfHeal": True}
    (told,) = [line for line in logs if line["event"] == "auto_sync_turned_off"]
    assert told["until"].endswith(f"argocd app set {APP} --sync-policy automated --auto-prune --self-heal")
    await target.revert(ORDER)
    await argo.make().revert(ORDER)
    assert argo.rollbacks == 1


async def test_what_goes_back_with_it_is_told(argo: Argo) -> None:
    other = {**manifest("v1"), "metadata": {"name": "cart"}}
    argo.server.commit("both", manifest("v3"), other)
    with capture_logs() as logs:
        await argo.make().revert(RevertOrder(to="v1", expect="v3", key="k"))
    (told,) = [line for line in logs if line["event"] == "application_rolled_back"]
    assert told["others"] == ["Deployment cart"]
    assert (told["entry"], told["revision"]) == (0, "commit-v1")


async def test_without_auto_sync_nothing_is_turned_off(argo: Argo) -> None:
    del argo.server.app["spec"]["syncPolicy"]
    with capture_logs() as logs:
        await argo.make().revert(ORDER)
    argo.server.run()
    assert argo.shop.image == "v1"
    assert "auto_sync_turned_off" not in [line["event"] for line in logs]


async def test_a_second_revert_remembers_how_auto_sync_was(argo: Argo) -> None:
    target = argo.make()
    await target.revert(ORDER)
    argo.server.run()
    argo.server.commits["commit-v3"] = [manifest("v3")]
    argo.server.sync("commit-v3")
    argo.server.run()
    await target.revert(RevertOrder(to="v1", expect="v3", key="key-2"))
    argo.server.run()
    assert argo.shop.image == "v1"
    assert argo.note["automated"] == {"prune": True, "selfHeal": True}


@pytest.mark.parametrize("method", ["GET", "PATCH", "POST"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_any_call_it_goes_on_from_there(argo: Argo, method: str, when: str) -> None:
    """As the daemon would be: the call arrived, or did not; nothing after it was done by this object."""
    number = 0
    while True:
        number += 1
        arrived = asyncio.Event()
        calls = 0

        async def hold(request: web.Request, fatal: int = number, here: asyncio.Event = arrived) -> None:
            nonlocal calls
            calls += request.method == method
            if calls == fatal and request.method == method:
                here.set()
                await asyncio.sleep(30)

        async def held(request: web.Request) -> None:
            await hold(request)

        argo.server.after = held if when == "after" else None
        argo.server.misbehave = held if when == "before" else None
        before = argo.rollbacks
        order = RevertOrder(to="v1", expect="v2", key=f"{method}-{when}-{number}")
        reverting = asyncio.create_task(argo.make().revert(order))
        dying = asyncio.create_task(arrived.wait())
        await asyncio.wait({reverting, dying}, return_when=asyncio.FIRST_COMPLETED)
        died = arrived.is_set()
        for task in (reverting, dying):
            task.cancel()
        await asyncio.gather(reverting, dying, return_exceptions=True)
        argo.server.after = argo.server.misbehave = None
        await argo.make().revert(order)
        argo.server.run()
        assert argo.shop.image == "v1"
        unheard = method == "POST" and when == "before" and died
        assert argo.rollbacks - before - unheard == 1
        assert argo.server.app["status"]["history"][-1]["id"] == number * 2, "one sync more, and no other"
        if not died:
            break
        argo.server.app["spec"]["syncPolicy"] = {"automated": {"prune": True}}
        argo.server.run()
        assert argo.shop.image == "v2"
    assert number > 1


# -- somebody else


async def test_what_a_human_synced_since_is_not_overwritten(argo: Argo) -> None:
    target = argo.make()
    argo.commit("v3")
    with pytest.raises(Conflict, match="v3 is in place"):
        await target.revert(ORDER)
    assert argo.shop.image == "v3"
    assert argo.server.automated


async def test_what_is_synced_while_auto_sync_is_turned_off_is_not_overwritten(argo: Argo) -> None:
    """At the worst moment: after everything was looked at, and before the patch arrives."""

    async def late(request: web.Request) -> web.StreamResponse | None:
        if request.method == "PATCH":
            argo.server.misbehave = None
            argo.commit("v3")
        return None

    argo.server.misbehave = late
    target = argo.make()
    with pytest.raises(Temporary, match="test failed"):
        await target.revert(ORDER)
    with pytest.raises(Conflict, match="v3"):
        await target.revert(ORDER)
    assert argo.rollbacks == 0
    assert argo.server.automated


async def test_what_is_synced_after_auto_sync_was_turned_off_is_not_overwritten(argo: Argo) -> None:
    async def late(request: web.Request) -> web.StreamResponse | None:
        if request.method == "POST":
            argo.server.misbehave = None
            argo.server.commits["commit-v3"] = [manifest("v3")]
            argo.server.sync("commit-v3")
        return None

    argo.server.misbehave = late
    target = argo.make()
    with pytest.raises(Permanent, match="another operation"):
        await target.revert(ORDER)
    with pytest.raises(Temporary, match="running already"):
        await target.revert(ORDER)
    argo.server.run()
    with capture_logs() as logs, pytest.raises(Conflict, match="v3"):
        await target.revert(ORDER)
    assert "auto_sync_stays_off" in [line["event"] for line in logs]
    assert argo.shop.image == "v3"


async def test_the_same_bad_release_synced_again_since_is_left_alone(argo: Argo) -> None:
    async def cut(request: web.Request) -> web.StreamResponse | None:
        return fault_of(503, 14, "unavailable") if request.method == "POST" else None

    argo.server.misbehave = cut
    target = argo.make()
    with pytest.raises(Temporary, match="unavailable"):
        await target.revert(ORDER)
    argo.server.misbehave = None
    argo.server.sync("commit-v2")
    argo.server.run()
    with pytest.raises(Conflict, match="deployed again"):
        await target.revert(ORDER)
    assert argo.rollbacks == 1


async def test_auto_sync_that_somebody_turned_on_again_is_not_turned_off_twice(argo: Argo) -> None:
    async def cut(request: web.Request) -> web.StreamResponse | None:
        return fault_of(503, 14, "unavailable") if request.method == "POST" else None

    argo.server.misbehave = cut
    target = argo.make()
    with pytest.raises(Temporary):
        await target.revert(ORDER)
    argo.server.misbehave = None
    argo.server.app["spec"]["syncPolicy"] = {"automated": {}}
    with pytest.raises(Conflict, match="turned auto-sync"):
        await target.revert(ORDER)
    assert argo.server.automated


async def test_an_operation_that_is_running_is_waited_for(argo: Argo) -> None:
    argo.server.sync("commit-v2")
    with pytest.raises(Temporary, match="running already"):
        await argo.make().revert(ORDER)
    assert argo.server.automated


async def test_a_closed_sync_window_is_told_and_waited_for(argo: Argo) -> None:
    argo.server.can_sync = False
    assert "sync windows" in await problem(argo)
    with pytest.raises(Temporary, match="sync windows"):
        await argo.make().revert(ORDER)
    assert argo.server.automated


async def test_a_rollback_that_argo_cd_could_not_finish_is_told(argo: Argo) -> None:
    target = argo.make()
    await target.revert(ORDER)
    argo.server.run()
    argo.server.app["status"]["operationState"]["phase"] = "Failed"
    with pytest.raises(Permanent, match="could not roll application shop-app back: it Succeeded"):
        await target.settled("v1")


async def test_what_argo_cd_passes_on_of_a_refusal_is_told_without_values(argo: Argo) -> None:
    target = argo.make()
    await target.revert(ORDER)
    argo.server.run()
    refused = 'Deployment.apps "checkout" is invalid: spec.template.labels: Invalid value: "hunter 2": a label hunter 2'
    argo.server.app["status"]["operationState"] |= {"phase": "Failed", "message": f"not applied, reason: {refused}"}
    with pytest.raises(Permanent, match=r"not applied, reason: .*is invalid: spec\.template\.labels: Invalid value$"):
        await target.settled("v1")


# -- who looks after the application


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({}, False),
        ({"syncPolicy": {"applicationsSync": "create-only"}}, True),
        ({"syncPolicy": {"applicationsSync": "create-update"}}, False),
        ({"ignoreApplicationDifferences": [{"jsonPointers": ["/spec/syncPolicy/automated"]}]}, True),
        ({"ignoreApplicationDifferences": [{"jqPathExpressions": [".spec.syncPolicy"]}]}, True),
        ({"ignoreApplicationDifferences": [{"name": "x", "jsonPointers": ["/spec/syncPolicy"]}]}, False),
        ({"ignoreApplicationDifferences": [{"jsonPointers": ["/spec/syncPolicy/automated/prune"]}]}, False),
    ],
)
async def test_an_application_set_that_would_turn_auto_sync_on_again(
    argo: Argo, spec: dict[str, object], allowed: bool
) -> None:
    argo.server.app["metadata"]["ownerReferences"] = [{"kind": "ApplicationSet", "name": "all", "controller": True}]
    assert "which may turn auto-sync on again" in await problem(argo)
    argo.server.sets["all"] = {"metadata": {"name": "all"}, "spec": spec}
    assert ("ApplicationSet all" in await problem(argo)) is not allowed
    if not allowed:
        with pytest.raises(Permanent, match=r"owners\.git"):
            await argo.make().revert(ORDER)
        assert argo.server.automated
        del argo.server.app["spec"]["syncPolicy"]
        assert await problem(argo) == "", "where it is off anyway, nothing has to be turned off"


@pytest.mark.parametrize(
    ("above", "allowed"),
    [
        ({"syncPolicy": {"automated": {}}}, False),
        ({"syncPolicy": {"automated": {"enabled": False}}}, True),
        ({}, True),
        (
            {
                "syncPolicy": {"automated": {}, "syncOptions": ["RespectIgnoreDifferences=true"]},
                "ignoreDifferences": [
                    {"group": "argoproj.io", "kind": "Application", "jsonPointers": ["/spec/syncPolicy/automated"]}
                ],
            },
            True,
        ),
        (
            {
                "syncPolicy": {"automated": {}},
                "ignoreDifferences": [{"group": "*", "kind": "*", "jsonPointers": ["/spec/syncPolicy"]}],
            },
            False,
        ),
    ],
)
@pytest.mark.parametrize("by", ["annotation", "label"])
async def test_an_application_of_applications_that_would_turn_auto_sync_on_again(
    argo: Argo, above: dict[str, object], allowed: bool, by: str
) -> None:
    meta = argo.server.app["metadata"]
    if by == "annotation":
        meta["annotations"] = {"argocd.argoproj.io/tracking-id": f"apps:argoproj.io/Application:argocd/{APP}"}
    else:
        meta["labels"] = {"app.kubernetes.io/instance": "apps"}
    assert await problem(argo) == "", "there is none of that name"
    resource = {"group": "argoproj.io", "kind": "Application", "namespace": "argocd", "name": APP}
    status = {"resources": [resource]}
    argo.server.others["apps"] = {"metadata": {"name": "apps"}, "spec": above, "status": status}
    assert ("synced by application apps" in await problem(argo)) is not allowed
    resource["name"] = "another"
    assert await problem(argo) == "", "it does not look after this one"


# -- which application, and which entry


async def test_the_label_that_helm_sets_too_is_asked_about(argo: Argo) -> None:
    notes = argo.shop.deployment["metadata"]["annotations"]
    del notes["argocd.argoproj.io/tracking-id"]
    argo.shop.change("metadata", labels={"app.kubernetes.io/instance": APP}, annotations=notes)
    assert (await argo.make().readiness("v1")).ready
    await argo.make().revert(ORDER)
    assert argo.rollbacks == 1
    argo.server.run()
    assert argo.shop.image == "v1"


@pytest.mark.parametrize("why", ["unknown", "not listed", "another cluster", "not configured"])
async def test_a_label_that_is_not_argo_cds_leads_straight(argo: Argo, why: str) -> None:
    notes = argo.shop.deployment["metadata"]["annotations"]
    del notes["argocd.argoproj.io/tracking-id"]
    name = "release" if why == "unknown" else APP
    argo.shop.change("metadata", labels={"app.kubernetes.io/instance": name}, annotations=notes)
    if why == "not listed":
        argo.server.app["status"]["resources"].clear()
    if why == "another cluster":
        argo.server.misbehave = _another_cluster
    target = argo.shop.make() if why == "not configured" else argo.make()
    assert (await target.readiness("v1")).ready
    await target.revert(ORDER)
    assert (argo.rollbacks, argo.shop.image) == (0, "v1")


async def test_an_argo_cd_that_cannot_be_asked_keeps_nothing_else_from_settling(argo: Argo) -> None:
    notes = argo.shop.deployment["metadata"]["annotations"]
    del notes["argocd.argoproj.io/tracking-id"]
    argo.shop.change("metadata", labels={"app.kubernetes.io/instance": "release"}, annotations=notes)
    for kept in argo.shop.server.store.all("replicasets"):
        kept["metadata"]["annotations"].pop("argocd.argoproj.io/tracking-id", None)
        argo.shop.server.store.put("replicasets", kept)
    target = argo.make()
    await target.revert(ORDER)
    argo.shop.run()
    await argo.server.stop()
    assert await target.settled("v1")
    for question in (target.readiness("v2"), target.revert(RevertOrder(to="v2", expect="v1", key="key-2"))):
        with pytest.raises(Temporary, match="Argo CD at"):
            await question
    assert argo.shop.image == "v1"


async def _another_cluster(request: web.Request) -> web.StreamResponse | None:
    live = {"kind": "Deployment", "metadata": {"name": "checkout", "uid": "another"}}
    return web.json_response({"manifest": json.dumps(live)}) if request.path.endswith("/resource") else None


async def test_a_label_about_which_the_token_may_not_ask_is_no_way_around(argo: Argo) -> None:
    notes = argo.shop.deployment["metadata"]["annotations"]
    del notes["argocd.argoproj.io/tracking-id"]
    argo.shop.change("metadata", labels={"app.kubernetes.io/instance": "hidden"}, annotations=notes)
    argo.server.denied = {"get"}
    with pytest.raises(Permanent, match="may name Argo CD application hidden"):
        await argo.make().revert(ORDER)
    assert argo.shop.image == "v2"


async def test_an_application_that_looks_after_another_workload_is_left_alone(argo: Argo) -> None:
    argo.server.misbehave = _another_cluster
    assert "does not look after this Deployment checkout" in await problem(argo)
    with pytest.raises(Permanent, match="the Argo CD of this cluster"):
        await argo.make().revert(ORDER)


async def test_the_newest_entry_that_renders_the_release_is_taken(argo: Argo) -> None:
    argo.commit("v1", "again")
    argo.commit("v2", "worse")
    await argo.make().revert(ORDER)
    assert argo.note["id"] == 2


async def test_an_entry_of_the_same_images_is_told_apart_by_its_template(argo: Argo) -> None:
    argo.commit("v2", "tuned", LEVEL="2")
    history = [one.version for one in await argo.make().history()]
    assert history[0].startswith("v2-")
    await argo.make().revert(RevertOrder(to="v2", expect=history[0], key="k"))
    assert argo.note["id"] == 1


async def test_an_entry_with_other_parameters_is_not_guessed(argo: Argo) -> None:
    argo.server.app["status"]["history"][0]["source"]["path"] = "elsewhere"
    said = await problem(argo)
    assert "entry 0 has other sources or parameters than it has now" in said
    assert "owners.git" in said
    with pytest.raises(Permanent, match="is known to render release v1"):
        await argo.make().revert(ORDER)
    assert argo.server.automated


async def test_an_entry_that_cannot_be_rendered_now_is_waited_for(argo: Argo) -> None:
    del argo.server.commits["commit-v1"]
    with pytest.raises(Temporary, match="unable to resolve commit-v1"):
        await argo.make().revert(ORDER)
    assert argo.server.automated


async def test_an_entry_that_is_kept_no_longer_is_told(argo: Argo) -> None:
    argo.server.app["status"]["history"].pop(0)
    assert "no entry in the history of Argo CD application shop-app" in await problem(argo)


async def test_a_paused_deployment_is_told(argo: Argo) -> None:
    argo.shop.change("spec", paused=True)
    assert "is paused" in await problem(argo)
    with pytest.raises(Permanent, match="resume it"):
        await argo.make().revert(ORDER)


def test_defaults_may_be_added_to_what_is_written() -> None:
    live = {"a": 1, "b": [{"name": "x", "more": True}], "c": {"d": "e", "f": None}}
    assert fits({"a": 1, "b": [{"name": "x"}], "c": {"d": "e"}, "g": None}, live)
    wrongs: list[object] = [{"a": 2}, {"b": []}, {"b": [{"name": "y"}]}, {"c": []}, {"h": 1}]
    assert not any(fits(wrong, live) for wrong in wrongs)


def test_the_command_names_the_namespace_of_an_application_elsewhere() -> None:
    assert turn_on("a", "teams", {}) == "argocd app set teams/a --sync-policy automated"


# -- rights, faults and secrets


@pytest.mark.parametrize("right", ["update", "sync"])
async def test_a_right_that_the_token_lacks_is_told(argo: Argo, right: str) -> None:
    argo.server.denied = {right}
    assert f"may not {right} application {APP}" in await problem(argo)
    with pytest.raises(Permanent, match="403"):
        await argo.make().revert(ORDER)
    assert argo.shop.image == "v2"


@pytest.mark.parametrize(
    ("status", "raised", "told"),
    [
        (400, Permanent, "400"),
        (401, Temporary, "does not accept the token"),
        (403, Permanent, "lacks a right"),
        (404, Permanent, "404"),
        (409, Temporary, "409"),
        (429, Temporary, "429"),
        (500, Temporary, "500"),
        (302, Permanent, "redirects"),
        (200, Permanent, "none of Argo CD's"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_fault_is_told_without_the_token(
    argo: Argo, status: int, raised: type[RollbackdError], told: str, method: str
) -> None:
    async def fault(request: web.Request) -> web.StreamResponse | None:
        headers = {"Retry-After": "7"} | ({"Location": "https://elsewhere.test/"} if status == 302 else {})
        body = f"<html>{TOKEN} \xff" if status == 200 else json.dumps({"message": f"you sent {TOKEN}"})
        return web.Response(status=status, text=body, headers=headers) if request.method == method else None

    argo.server.misbehave = fault
    with pytest.raises(raised, match=told) as caught:
        await argo.make().revert(ORDER)
    assert TOKEN not in str(caught.value)
    if isinstance(caught.value, Temporary) and status in (429, 500):
        assert caught.value.retry_after == 7
    argo.server.misbehave = None
    if raised is Temporary:
        await argo.make().revert(ORDER)
        argo.server.run()
        assert argo.shop.image == "v1"


async def test_a_connection_that_is_cut_is_tried_again(argo: Argo) -> None:
    async def cut(request: web.Request) -> web.StreamResponse | None:
        if request.method == "POST" and request.transport is not None:
            request.transport.abort()
        return None

    argo.server.misbehave = cut
    target = argo.make()
    with pytest.raises(Temporary, match="Argo CD at"):
        await target.revert(ORDER)
    argo.server.misbehave = None
    await target.revert(ORDER)
    argo.server.run()
    assert argo.shop.image == "v1"
    assert len(argo.server.app["status"]["history"]) == 3


async def test_an_answer_that_never_comes_or_never_ends_is_given_up(
    argo: Argo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollbackd.targets.kubernetes.argocd_api.MAX_ANSWER", 100)
    with pytest.raises(Permanent, match="larger than 100 bytes"):
        await argo.make().revert(ORDER)
    monkeypatch.undo()

    async def silent(_request: web.Request) -> web.StreamResponse | None:
        await asyncio.sleep(30)
        return None

    argo.server.misbehave = silent
    owners = {"argocd": {"url": argo.server.url, "token_file": argo.token_file, "timeout": "200ms"}}
    with pytest.raises(Temporary, match=r"no answer within 0\.2 s"):
        await argo.make(owners=owners).revert(ORDER)


async def test_a_token_is_read_anew(argo: Argo) -> None:
    target = argo.make()
    argo.token_file.write_text("old")
    with pytest.raises(Temporary, match="does not accept the token"):
        await target.revert(ORDER)
    for wrong in ("", "two\nlines"):
        argo.token_file.write_text(wrong)
        with pytest.raises(Permanent, match="holds no token"):
            await target.revert(ORDER)
    argo.token_file.unlink()
    with pytest.raises(Permanent, match="No such file"):
        await target.revert(ORDER)
    argo.token_file.write_text(TOKEN)
    await target.revert(ORDER)
    assert argo.rollbacks == 1


async def test_where_nobody_listens_that_is_told(argo: Argo) -> None:
    await argo.server.stop()
    with pytest.raises(Temporary, match="Argo CD at http://127"):
        await argo.make().revert(ORDER)


async def test_an_authority_that_is_none_is_told(argo: Argo, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    api = ArgoApi(ArgoCDOptions(url="https://127.0.0.1:1", token_file=argo.token_file, ca_file=tmp_path / "ca"))
    with pytest.raises(Permanent, match="no PEM certificate"):
        await api.get("/", dict, "it")
    await api.close()


@pytest.mark.parametrize(
    "url", ["argocd.test", "ftp://argocd.test", "https://a:b@argocd.test", "https://argocd.test?x"]
)
def test_an_address_is_plain_http(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="URL"):
        ArgoCDOptions(url=url, token_file=tmp_path)
