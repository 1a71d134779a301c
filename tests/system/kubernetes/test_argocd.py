"""The road over a real Argo CD, which syncs a repository into a real cluster, under the rights that the docs list."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.kubernetes.argocd_api import ArgoApi
from tests.support.argocd_real import NAMESPACE, RealArgo, Running, administering_argo, argocd
from tests.support.dying import Killed
from tests.support.kube_real import Cluster
from tests.support.kube_shop import IMAGE, Shop, manifest, settled
from tests.support.repository import Repository
from tests.support.waiting import eventually_async
from tests.system.kubernetes.conftest import Targets

pytestmark = [
    pytest.mark.built("kubernetes", "argocd"),
    pytest.mark.needs("etcd", "openssl", "redis-server", "git"),
    pytest.mark.timeout(300),
]
ORDER = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-1")
SELF_HEAL = {"prune": True, "selfHeal": True}


@pytest.fixture(scope="module")
def running_argo(real: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with argocd(real, tmp_path_factory.mktemp("argocd")) as one:
        yield one


@pytest.fixture
async def argo(running_argo: Running, shop: Shop) -> AsyncIterator[RealArgo]:
    async with administering_argo(running_argo, shop.admin) as one:
        yield one


class Road:
    """An application that deploys `checkout` from a repository of its own."""

    def __init__(self, argo: RealArgo, shop: Shop, make: Callable[..., Target], kind: str = "deployment") -> None:
        self.argo, self.shop, self._make, self._kind = argo, shop, make, kind
        self.name = f"app-{shop.namespace}"[:50].rstrip("-")
        self.repository = Repository(shop.folder / "repository.git")

    def make(self) -> Target:
        return self._make(self._kind, owners={"argocd": {"url": self.argo.url, "token_file": self.argo.token_file}})

    def push(self, version: str, extra: str = "") -> str:
        files = {"app/checkout.yaml": yaml.safe_dump(manifest(self._kind, version, {}))}
        return self.repository.commit(files | ({"app/extra.yaml": extra} if extra else {}), version)

    async def release(self, version: str) -> None:
        """Push it, and wait until Argo CD has put it in place."""
        self.push(version)
        await self.argo.refresh(self.name)
        await self.in_place(version)

    async def in_place(self, version: str) -> None:
        async def there() -> bool:
            with suppress(AssertionError):
                spec = (await self.shop.get(self._kind))["spec"]["template"]["spec"]
                if spec["containers"][0]["image"] == f"{IMAGE}:{version}":
                    return "operation" not in await self.app()
            return False

        await eventually_async(there, within=90)
        await self.shop.rolled_out(self.make(), version)

    async def app(self) -> Any:
        return await self.argo("GET", f"/applications/{self.name}")

    async def newest(self) -> int:
        """The id of the newest sync."""
        return int((await self.app())["status"]["history"][-1]["id"])

    async def entries(self) -> list[str]:
        """The message of each commit that was synced, oldest first."""
        history = (await self.app())["status"]["history"]
        return [self.repository.git("log", "-1", "--format=%s", one["revision"]) for one in history]


@pytest.fixture
async def road(argo: RealArgo, shop: Shop, targets: Targets) -> AsyncIterator[Road]:
    found = Road(argo, shop, targets)
    found.push("v1")
    await argo.create(found.name, found.repository.url, shop.namespace, SELF_HEAL)
    await found.in_place("v1")
    yield found
    await argo("DELETE", f"/applications/{found.name}?cascade=false")


async def test_a_bad_release_is_rolled_back_and_stays_so(road: Road) -> None:
    await road.release("v2")
    target = road.make()
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    await target.revert(ORDER)
    await settled(target, "v1")
    app = await road.app()
    assert "automated" not in app["spec"].get("syncPolicy", {})
    note = json.loads(app["metadata"]["annotations"]["io.rollbackd/rollback"])
    assert (note["key"], note["automated"]) == (ORDER.key, SELF_HEAL)
    app = await road.argo.refresh(road.name)
    assert app["status"]["sync"]["status"] == "OutOfSync", "git still says v2"
    await settled(target, "v1")
    assert await road.entries() == ["v1", "v2", "v1"]
    await target.revert(ORDER)
    await road.make().revert(ORDER)
    assert len(await road.entries()) == 3


async def test_pods_that_a_stateful_set_is_stuck_on_are_deleted(argo: RealArgo, shop: Shop, targets: Targets) -> None:
    road = Road(argo, shop, targets, "statefulset")
    road.push("v1")
    await argo.create(road.name, road.repository.url, shop.namespace, SELF_HEAL)
    await road.in_place("v1")
    shop.kubelet.broken = {f"{IMAGE}:v2"}
    road.push("v2")
    await argo.refresh(road.name)

    async def is_stuck() -> bool:
        pods = (await shop.admin("GET", f"/api/v1/namespaces/{shop.namespace}/pods"))["items"]
        return any("CrashLoopBackOff" in str(pod["status"]) for pod in pods)

    await eventually_async(is_stuck, within=90)
    target = road.make()
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    await settled(target, "v1")
    await argo("DELETE", f"/applications/{road.name}?cascade=false")


async def test_killed_between_any_two_calls_it_rolls_back_once(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each call in turn that changes something: just before it is sent, and just before its answer is read."""
    answer = ArgoApi._answer
    fatal, when = "", ""

    async def mortal(self: ArgoApi, method: str, *arguments: Any) -> bytes:
        if method == fatal and when == "before":
            raise Killed
        got = await answer(self, method, *arguments)
        if method == fatal:
            raise Killed
        return got

    monkeypatch.setattr(ArgoApi, "_answer", mortal)
    for number, (method, moment) in enumerate((one, two) for one in ("PATCH", "POST") for two in ("before", "after")):
        policy = [{"op": "add", "path": "/spec/syncPolicy", "value": {"automated": SELF_HEAL}}]
        patch = {"name": road.name, "patchType": "json", "patch": json.dumps(policy)}
        await road.argo("PATCH", f"/applications/{road.name}", patch)
        bad = f"bad-{number}"
        await road.release(bad)
        before = await road.newest()
        order = RevertOrder(to="v1", expect=bad, key=f"key-{number}")
        fatal, when = method, moment
        with pytest.raises(Killed):
            await road.make().revert(order)
        fatal = ""
        await road.make().revert(order)
        await settled(road.make(), "v1")
        assert await road.newest() == before + 1, "one sync more, and no other"


@pytest.mark.parametrize("method", ["PATCH", "POST"])
async def test_what_a_human_syncs_meanwhile_is_not_overwritten(
    road: Road, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """It comes at the worst moments: just before automated sync is turned off, and just before the rollback."""
    await road.release("v2")
    target = road.make()
    answer, came = ArgoApi._answer, False

    async def late(self: ArgoApi, asked: str, *arguments: Any) -> bytes:
        nonlocal came
        if asked == method and not came:
            came = True
            road.push("v3")
            await road.argo.refresh(road.name)
            if method == "POST":  # by hand, since automated sync is off
                await road.argo("POST", f"/applications/{road.name}/sync", {"name": road.name, "revision": "main"})
            else:
                await road.in_place("v3")
        return await answer(self, asked, *arguments)

    monkeypatch.setattr(ArgoApi, "_answer", late)

    async def refused() -> bool:
        try:
            await target.revert(ORDER)
        except Temporary:
            return False
        except Conflict:
            return True
        except Permanent as error:
            assert "another operation" in str(error)  # noqa: PT017  one of three that may come
            return False
        return False

    await eventually_async(refused, within=60)
    await road.in_place("v3")
    assert await road.entries() == ["v1", "v2", "v3"]


async def test_an_application_of_applications_would_turn_it_on_again(road: Road) -> None:
    await road.release("v2")
    child = await road.app()
    document = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": road.name, "namespace": NAMESPACE},
        "spec": child["spec"],
    }
    above = Repository(road.shop.folder / "above.git")
    above.commit({"app/child.yaml": yaml.safe_dump(document)})
    parent = f"all-{road.name}"[:50]
    await road.argo.create(parent, above.url, NAMESPACE, SELF_HEAL)
    try:

        async def told() -> bool:
            problems = (await road.make().readiness("v1")).problems
            return any(f"itself synced by application {parent}" in problem for problem in problems)

        await eventually_async(told, within=60)
        with pytest.raises(Permanent, match="would turn auto-sync on again"):
            await road.make().revert(ORDER)
        assert "automated" in (await road.app())["spec"]["syncPolicy"]
    finally:
        await road.argo("DELETE", f"/applications/{parent}?cascade=false")


async def test_a_closed_sync_window_is_told(road: Road) -> None:
    await road.release("v2")
    project = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/appprojects/default"
    window = {"kind": "deny", "schedule": "* * * * *", "duration": "1h", "applications": [road.name]}
    await road.argo.kube("PATCH", project, {"spec": {"syncWindows": [window]}})
    try:

        async def told() -> bool:
            return any("sync windows" in problem for problem in (await road.make().readiness("v1")).problems)

        await eventually_async(told, within=60)
        with pytest.raises(Temporary, match="sync windows"):
            await road.make().revert(ORDER)
    finally:
        await road.argo.kube("PATCH", project, {"spec": {"syncWindows": None}})


async def test_a_right_that_the_token_lacks_is_told(road: Road) -> None:
    await road.release("v2")
    policies = f"/api/v1/namespaces/{NAMESPACE}/configmaps/argocd-rbac-cm"
    whole = (await road.argo.kube("GET", policies))["data"]["policy.csv"]
    less = "\n".join(line for line in whole.splitlines() if " sync," not in line)
    await road.argo.kube("PATCH", policies, {"data": {"policy.csv": less}})
    try:

        async def told() -> bool:
            return any("may not sync" in problem for problem in (await road.make().readiness("v1")).problems)

        await eventually_async(told, within=60)
        with pytest.raises(Permanent, match="403"):
            await road.make().revert(ORDER)
        await road.in_place("v2")
    finally:
        await road.argo.kube("PATCH", policies, {"data": {"policy.csv": whole}})

        async def again() -> bool:
            return (await road.make().readiness("v1")).ready or "automated" not in str(await road.app())

        await eventually_async(again, within=60)


async def test_the_default_label_of_argo_cd_2_is_asked_about(road: Road) -> None:
    """As with label tracking, which marks nothing else."""
    await road.release("v2")
    patch = {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": None}}}
    labels: dict[str, object] = {"metadata": {"labels": {"app.kubernetes.io/instance": road.name}}}
    settings = f"/api/v1/namespaces/{NAMESPACE}/configmaps/argocd-cm"
    await road.argo.kube("PATCH", settings, {"data": {"application.resourceTrackingMethod": "label"}})
    try:

        async def marked_so() -> bool:
            await road.argo.refresh(road.name)
            await road.shop.admin("PATCH", road.shop.path("deployment"), patch | labels)
            await road.shop.admin("PATCH", road.shop.path("deployment"), patch)
            meta = (await road.shop.get())["metadata"]
            listed = (await road.app())["status"].get("resources", [])
            return (
                "argocd.argoproj.io/tracking-id" not in meta.get("annotations", {})
                and meta["labels"].get("app.kubernetes.io/instance") == road.name
                and [one["name"] for one in listed] == ["checkout"]
            )

        await eventually_async(marked_so, within=60)

        async def reverted() -> bool:
            with suppress(Temporary):  # automated sync heals what we did to the marks
                await road.make().revert(ORDER)
                return True
            return False

        await eventually_async(reverted, within=60)
        await settled(road.make(), "v1")
        assert (await road.entries())[-1] == "v1"
    finally:
        await road.argo.kube("PATCH", settings, {"data": {"application.resourceTrackingMethod": None}})


def test_the_rights_are_those_that_the_docs_list() -> None:
    page = (Path(__file__).parents[3] / "docs" / "targets" / "argocd.md").read_text()
    for action in ("get", "update", "sync"):
        assert f"applications, {action}," in page
