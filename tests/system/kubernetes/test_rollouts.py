"""Argo Rollouts: the real controller on the real Kubernetes, under the shipped RBAC alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rollbackd.errors import Conflict, RollbackdError, Temporary
from rollbackd.kubernetes.api import Api
from rollbackd.targets.base import RevertOrder, Target
from tests.support.dying import Deadly, Killed
from tests.support.inside import Inside
from tests.support.kube_real import Cluster, administering
from tests.support.kube_rollouts import BLUE_GREEN, PAUSED_AT_HALF, Rollouts, controller, installed
from tests.support.kube_shop import IMAGE, Shop, insisting, settled
from tests.support.waiting import eventually, eventually_async
from tests.support.watching import seen, watching
from tests.system.kubernetes.conftest import Targets

pytestmark = [
    pytest.mark.built("kubernetes", "rollouts"),
    pytest.mark.needs("etcd", "openssl"),
    pytest.mark.timeout(240),
]
ORDER = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-1")


@pytest.fixture(scope="module")
def argo(real: Cluster) -> Iterator[None]:
    async def install() -> None:
        async with administering(real) as admin:
            await installed(admin)

    asyncio.run(install())
    with controller(real):
        yield


@pytest.fixture
async def opens(argo: None, shop: Shop) -> AsyncIterator[Callable[..., Any]]:
    opened: list[Rollouts] = []

    async def open_one(strategy: Any) -> Rollouts:
        opened.append(Rollouts(shop, strategy))
        await opened[-1].open()
        return opened[-1]

    yield open_one
    for one in opened:
        with suppress(AssertionError):
            await one.close()


Opens = Callable[..., Any]


@pytest.mark.parametrize("strategy", [PAUSED_AT_HALF, BLUE_GREEN], ids=["canary", "blue-green"])
async def test_a_release_on_its_way_is_aborted_and_its_template_is_gone(
    opens: Opens, targets: Targets, strategy: Any
) -> None:
    rollout: Rollouts = await opens(strategy)
    target = targets("rollout")
    await rollout.promoted("v1")
    await settled(target, "v1")
    good = await target.current()
    assert good is not None
    async with watching(target) as changes:
        await asyncio.sleep(0.5)
        await rollout.deploy("v2")
        await eventually(lambda: seen(changes) == [("v2", "v1", "started")], within=30)
        await rollout.reaches("Paused", "v2")
        assert not await target.settled("v1")
        assert (await target.readiness("v1")).problems == ()

        await target.revert(ORDER)
        await settled(target, "v1")
        assert await target.current() == good
        await eventually(lambda: ("v1", "v2", "finished") in seen(changes), within=30)
    assert [one for one in seen(changes) if one[0] == "v1"] == [("v1", "v2", "started"), ("v1", "v2", "finished")]
    after = await rollout.get()
    assert after["status"].get("abort", False) is False
    assert after["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":v1")
    assert {release.version for release in await target.history()} == {"v1", "v2"}
    await target.revert(ORDER)
    assert (await rollout.get())["metadata"]["generation"] == after["metadata"]["generation"]


@pytest.mark.parametrize("strategy", [PAUSED_AT_HALF, BLUE_GREEN], ids=["canary", "blue-green"])
async def test_a_release_that_was_promoted_is_undone_without_its_steps(
    opens: Opens, targets: Targets, strategy: Any
) -> None:
    rollout: Rollouts = await opens(strategy)
    target = targets("rollout")
    await rollout.promoted("v1")
    await target.current()
    async with watching(target) as changes:
        await asyncio.sleep(0.5)
        await rollout.promoted("v2")
        await eventually(lambda: seen(changes) == [("v2", "v1", "started"), ("v2", "v1", "finished")], within=30)
        await target.revert(ORDER)
        await settled(target, "v1")
        undone = [("v1", "v2", "started"), ("v1", "v2", "finished")]
        await eventually(lambda: seen(changes)[2:] == undone, within=30)
    left = await rollout.images()
    assert left == (["v1", "v1"] if strategy is PAUSED_AT_HALF else ["v1", "v1", "v2", "v2"]), "without traffic"


async def test_steps_are_kept_where_that_is_wanted(opens: Opens, targets: Targets) -> None:
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    target = targets("rollout", rollout_steps="keep")
    await rollout.promoted("v1")
    await rollout.promoted("v2")
    await target.revert(ORDER)
    await rollout.reaches("Paused", "v1")
    assert not await target.settled("v1")
    await rollout.promote()
    await settled(target, "v1")


async def test_what_argo_adds_to_a_template_does_not_go_back_with_it(opens: Opens, targets: Targets) -> None:
    canary: dict[str, Any] = {
        "steps": [{"setWeight": 50}, {"pause": {}}],
        "canaryMetadata": {"labels": {"role": "canary"}},
        "stableMetadata": {"labels": {"role": "stable"}, "annotations": {"note": "a"}},
        "antiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}},
    }
    rollout: Rollouts = await opens({"canary": canary})
    target = targets("rollout")
    await rollout.promoted("v1")
    before = (await rollout.get())["status"]["currentPodHash"]
    await rollout.promoted("v2")
    await target.revert(ORDER)
    await settled(target, "v1")
    after = await rollout.get()
    assert after["status"]["currentPodHash"] == before
    assert after["spec"]["template"]["metadata"]["labels"] == {"app": "checkout"}
    assert "affinity" not in after["spec"]["template"]["spec"]


async def test_a_release_that_argo_aborts_has_failed_and_can_be_undone(opens: Opens, targets: Targets) -> None:
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    rollout.deadline = {"progressDeadlineSeconds": 2, "progressDeadlineAbort": True}
    target = targets("rollout")
    await rollout.promoted("v1")
    rollout.shop.kubelet.broken = {f"{IMAGE}:v2"}
    async with watching(target) as changes:
        await asyncio.sleep(0.5)
        await rollout.deploy("v2")
        await eventually(lambda: seen(changes) == [("v2", "v1", "started"), ("v2", "v1", "failed")], within=60)
        await target.revert(ORDER)
        await settled(target, "v1")


async def test_a_human_pause_is_lifted(opens: Opens, targets: Targets) -> None:
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    target = targets("rollout")
    await rollout.promoted("v1")
    await rollout.deploy("v2")
    await rollout.reaches("Paused", "v2")
    await rollout.patch({"spec": {"paused": True}})
    await rollout.reaches("Paused", "v2")
    await target.revert(ORDER)
    await settled(target, "v1")


# -- somebody else, and ourselves dying


@pytest.mark.parametrize("call", [1, 2, 3])
async def test_a_humans_change_is_not_overwritten(
    opens: Opens, targets: Targets, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """It comes at the worst moment: just before the abort is noted and sent, and just before the old template is."""
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    target = targets("rollout")
    await rollout.promoted("v1")
    await rollout.deploy("v2")
    await rollout.reaches("Paused", "v2")
    patch, tried = Api.patch, 0

    async def late(self: Api, *arguments: Any) -> bytes:
        nonlocal tried
        tried += 1
        if tried == call:
            await rollout.deploy("v3")
        return await patch(self, *arguments)

    monkeypatch.setattr(Api, "patch", late)
    with pytest.raises(Conflict):
        await insisting(target, ORDER)
    assert tried == call
    await rollout.reaches("Paused", "v3")


async def test_who_resumes_what_was_aborted_is_left_alone(
    opens: Opens, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    target = targets("rollout")
    await rollout.promoted("v1")
    await rollout.deploy("v2")
    await rollout.reaches("Paused", "v2")
    patch, tried = Api.patch, 0

    async def retried(self: Api, *arguments: Any) -> bytes:
        nonlocal tried
        tried += 1
        if tried == 3:
            await rollout.patch({"status": {"abort": False}}, "/status")
        return await patch(self, *arguments)

    monkeypatch.setattr(Api, "patch", retried)
    with pytest.raises(Conflict, match="somebody resumed"):
        await insisting(target, ORDER)


def turned(rollout: Any) -> datetime:
    """When its condition Progressing changed last."""
    (at,) = [one["lastTransitionTime"] for one in rollout["status"]["conditions"] if one["type"] == "Progressing"]
    return datetime.fromisoformat(at)


async def test_who_resumes_what_was_aborted_is_left_alone_after_a_death_as_well(
    opens: Opens, targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    await rollout.promoted("v1")
    await rollout.deploy("v2")
    await rollout.reaches("Paused", "v2")
    patch, paused = Api.patch, turned(await rollout.get())

    async def dies(self: Api, path: str, *arguments: Any) -> bytes:
        if (await rollout.get())["status"].get("abort"):
            raise Killed
        return await patch(self, path, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Api, "patch", dies)
        with pytest.raises(Killed):
            await insisting(targets("rollout"), ORDER)
    await rollout.reaches("Degraded", "v2")
    await eventually(lambda: datetime.now(UTC) >= paused + timedelta(seconds=1))  # moments are told in whole seconds
    await rollout.patch({"status": {"abort": False}}, "/status")
    await rollout.reaches("Paused", "v2")
    with pytest.raises(Conflict, match="somebody resumed"):
        await insisting(targets("rollout"), ORDER)
    assert (await rollout.get())["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":v2")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("promoted", [False, True])
async def test_killed_between_any_two_calls_it_reverts_once(
    opens: Opens, targets: Targets, monkeypatch: pytest.MonkeyPatch, when: str, promoted: bool
) -> None:
    """At each call in turn: just before it is sent, and just before its answer is read."""
    deadly = Deadly(when)
    monkeypatch.setattr(Api, "_answer", deadly.around(Api._answer))
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    await rollout.promoted("v1")
    for fatal_call in range(1, 30):
        deadly.at(0)
        if promoted:
            await rollout.promoted("v2")
        else:
            await rollout.deploy("v2")
            await rollout.reaches("Paused", "v2")
        generation = (await rollout.get())["metadata"]["generation"]
        order = RevertOrder(to="v1", expect="v2", key=f"key-{fatal_call}")
        deadly.at(fatal_call)
        died = False
        try:
            await targets("rollout").revert(order)
        except Killed:
            died = True
        deadly.at(0)
        again = targets("rollout")
        await _until_done(again, order)
        await settled(again, "v1")
        after = await rollout.get()
        assert after["metadata"]["generation"] - generation == 1, "one template was put in place"
        assert after["status"].get("abort", False) is False
        if not died:
            break
    assert fatal_call > 4, "it has more calls than that"


async def _until_done(target: Target, order: RevertOrder) -> None:
    async def done() -> bool:
        with suppress(Temporary):
            await target.revert(order)
            return True
        return False

    await eventually_async(done, within=60)


# -- the rest of the daemon


async def test_the_daemon_reverts_a_canary_whose_pods_crash(opens: Opens, shop: Shop) -> None:
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    await rollout.promoted("v1")
    shop.kubelet.broken = {f"{IMAGE}:v2"}
    shop.kubelet.starts_after = 0.5  # ten seconds by the daemon's clock
    where = f"rollout: checkout, namespace: {shop.namespace}, kubeconfig: {shop.kubeconfig}"
    block = (
        f"  shop:\n    target: {{kubernetes: {{{where}}}}}\n    sources: [{{kubernetes: {{{where}, interval: 1s}}}}]"
    )
    async with Inside(shop.folder, block) as daemon:
        await daemon.until_known(looks=5)
        await rollout.deploy("v2")
        rollback = await daemon.ended()
        assert (rollback.state, rollback.version, rollback.to) == ("verified", "v2", "v1"), rollback.steps


async def test_a_template_that_is_kept_elsewhere_is_left_alone(opens: Opens, shop: Shop, targets: Targets) -> None:
    rollout: Rollouts = await opens(PAUSED_AT_HALF)
    target = targets("rollout")
    await shop.deploy("v1")
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}
    body = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "checkout"},
        "spec": {"replicas": 1, "workloadRef": ref, "strategy": PAUSED_AT_HALF},
    }
    await shop.admin("POST", f"/apis/argoproj.io/v1alpha1/namespaces/{shop.namespace}/rollouts", body)
    await eventually_async(lambda: _in_place(target, "v1"), within=60)
    await shop.deploy("v2")
    await eventually_async(lambda: _in_place(target, "v2"), within=60)
    (problem,) = (await target.readiness("v1")).problems
    assert "its pod template is that of Deployment checkout" in problem
    with pytest.raises(RollbackdError, match="workloadRef"):
        await target.revert(ORDER)
    assert (await rollout.get())["status"].get("abort", False) is False


async def _in_place(target: Target, version: str) -> bool:
    with suppress(Temporary):
        release = await target.current()
        return release is not None and release.version == version
    return False
