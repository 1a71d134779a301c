"""The target `kubernetes` on a real API server with real controllers, under the shipped RBAC alone.

Left out where `make built` has not built them; tests/built/README.md tells more.
"""

from __future__ import annotations

import asyncio
import copy
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.kubernetes.api import Api
from rollbackd.targets.base import RevertOrder, Target
from tests.support.dying import Deadly, Killed
from tests.support.inside import Inside
from tests.support.kube_shop import IMAGE, KINDS, Shop, insisting, manifest, settled
from tests.support.waiting import eventually, eventually_async
from tests.support.watching import seen, watching
from tests.system.kubernetes.conftest import Targets

pytestmark = [
    pytest.mark.built("kubernetes"),
    pytest.mark.needs("etcd", "openssl"),
    pytest.mark.timeout(180),
]
ROOT = Path(__file__).parents[2]
ORDER = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-1")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_release_is_seen_reverted_and_settled(shop: Shop, targets: Targets, kind: str) -> None:
    target = targets(kind)
    await shop.deploy("v1", kind)
    await shop.rolled_out(target, "v1")
    good = await target.current()
    assert good is not None
    assert good.digest is not None
    shop.kubelet.broken = {f"{IMAGE}:v2"}
    async with watching(target) as changes:
        await asyncio.sleep(0.5)
        await shop.deploy("v2", kind)
        await eventually(lambda: seen(changes) == [("v2", "v1", "started")], within=30)
        await eventually_async(lambda: _has_broken_pod(shop), within=30)
        assert (await target.readiness("v1")).problems == ()

        await target.revert(ORDER)
        await settled(target, "v1")
        back = await target.current()
        assert back is not None
        assert (back.version, back.digest) == ("v1", good.digest)
        await eventually(lambda: seen(changes)[1:] == [("v1", "v2", "started"), ("v1", "v2", "finished")], within=30)
    assert {release.version for release in await target.history()} == {"v1", "v2"}
    before = await shop.get(kind)
    await target.revert(ORDER)
    assert (await shop.get(kind))["metadata"]["generation"] == before["metadata"]["generation"]


async def _has_broken_pod(shop: Shop) -> bool:
    pods = (await shop.admin("GET", f"/api/v1/namespaces/{shop.namespace}/pods"))["items"]
    return any("CrashLoopBackOff" in str(pod["status"]) for pod in pods)


async def test_a_pod_of_a_stateful_set_that_breaks_during_the_revert_does_not_block_it(
    shop: Shop, targets: Targets
) -> None:
    """It was ready when the revert was accepted, and its turn had not come. What flaps for a moment is left alone."""
    target = targets("statefulset")
    await shop.deploy("v1", "statefulset")
    await shop.rolled_out(target, "v1")
    await shop.deploy("v2", "statefulset")
    await shop.rolled_out(target, "v2")
    shop.kubelet.starts_after = 2.0
    with capture_logs() as logs:
        await target.revert(ORDER)
        await _unready(shop, "checkout-0", since=0.0)
        await eventually_async(lambda: _nothing_moves(shop, beside="checkout-0"), within=60)
        for _ in range(5):
            assert not await target.settled("v1")
        assert not [line for line in logs if line["event"] == "stuck_pod_deleted"], "it may be well again"
        await _unready(shop, "checkout-0", since=60.0)
        await settled(target, "v1")
    deleted = [line["pod"] for line in logs if line["event"] == "stuck_pod_deleted"]
    assert deleted == ["checkout-0"], "once, and no pod of the good release"


async def _unready(shop: Shop, name: str, since: float) -> None:
    """Its readiness probe fails, since so many seconds."""
    at = (datetime.now(UTC) - timedelta(seconds=since)).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": at}]
    place = f"/api/v1/namespaces/{shop.namespace}/pods/{name}/status"
    await shop.admin("PATCH", place, {"status": {"conditions": conditions}})


async def _nothing_moves(shop: Shop, beside: str) -> bool:
    """Whether all other pods are ready: those that the controller had begun to replace before it was blocked."""
    pods = (await shop.admin("GET", f"/api/v1/namespaces/{shop.namespace}/pods"))["items"]
    others = [pod for pod in pods if pod["metadata"]["name"] != beside]
    ready = [_conditions(pod).get("Ready") == "True" for pod in others]
    return all(ready) and not any("deletionTimestamp" in pod["metadata"] for pod in others)


def _conditions(pod: Any) -> dict[str, str]:
    return {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}


async def test_replicas_that_somebody_scaled_stay(shop: Shop, targets: Targets) -> None:
    target = targets()
    await shop.deploy("v1")
    await shop.rolled_out(target, "v1")
    await shop.deploy("v2")
    await shop.rolled_out(target, "v2")
    await shop.admin("PATCH", f"{shop.path('deployment')}/scale", {"spec": {"replicas": 4}})
    await shop.rolled_out(target, "v2")
    await target.revert(ORDER)
    await settled(target, "v1")
    assert (await shop.get())["spec"]["replicas"] == 4


async def test_what_is_put_back_is_what_kubectl_puts_back(shop: Shop, targets: Targets) -> None:
    target = targets()
    await shop.deploy("v1", **{"kubernetes.io/change-cause": "first"})
    await shop.rolled_out(target, "v1")
    await shop.deploy("v2", **{"kubernetes.io/change-cause": "second"})
    await shop.rolled_out(target, "v2")
    undo = [str(shop.kubectl), f"--kubeconfig={shop.kubeconfig}", "rollout", "undo", "deployment/checkout"]
    undone = await asyncio.create_subprocess_exec(*undo, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    said = await undone.communicate()
    assert undone.returncode == 0, said
    await shop.rolled_out(target, "v1")
    theirs = await shop.get()
    await shop.deploy("v2", **{"kubernetes.io/change-cause": "second"})
    await shop.rolled_out(target, "v2")
    await target.revert(ORDER)
    await settled(target, "v1")
    ours = copy.deepcopy(await shop.get())
    notes = ours["metadata"]["annotations"]
    assert notes.pop("io.rollbackd/key") == '["rollback-checkout-v2-1"]'
    revision = "deployment.kubernetes.io/revision"
    assert int(notes.pop(revision)) == int(theirs["metadata"]["annotations"].pop(revision)) + 2
    assert (ours["spec"], notes) == (theirs["spec"], theirs["metadata"]["annotations"])


@pytest.mark.parametrize("kind", KINDS)
async def test_the_daemon_reverts_a_release_whose_pods_crash(shop: Shop, targets: Targets, kind: str) -> None:
    """Nothing tells it of the deployment or of the trouble but Kubernetes, and it has no other right than it ships."""
    await shop.deploy("v1", kind)
    await shop.rolled_out(targets(kind), "v1")
    shop.kubelet.broken = {f"{IMAGE}:v2"}
    shop.kubelet.starts_after = 0.5  # ten seconds by the daemon's clock
    where = f"{kind}: checkout, namespace: {shop.namespace}, kubeconfig: {shop.kubeconfig}"
    block = (
        f"  shop:\n    target: {{kubernetes: {{{where}}}}}\n    sources: [{{kubernetes: {{{where}, interval: 1s}}}}]"
    )
    async with Inside(shop.folder, block) as daemon:
        await daemon.until_known(looks=5)
        await shop.deploy("v2", kind)
        rollback = await daemon.ended()
        assert (rollback.state, rollback.version, rollback.to) == ("verified", "v2", "v1"), rollback.steps
        (told,) = await daemon.decisions()
        assert told.decision.rule == "alert"
        assert "CrashLoopBackOff" in told.decision.reason


async def test_the_daemon_reverts_a_release_that_does_not_become_available_in_time(
    shop: Shop, targets: Targets
) -> None:
    """Its pods never get as far as to crash, as where no node has room for them."""
    await shop.deploy("v1")
    await shop.admin("PATCH", shop.path("deployment"), {"spec": {"progressDeadlineSeconds": 2}})
    await shop.rolled_out(targets(), "v1")
    where = f"deployment: checkout, namespace: {shop.namespace}, kubeconfig: {shop.kubeconfig}"
    source = f"{{kubernetes: {{{where}, interval: 1s, not_ready_after: 1h}}}}"
    block = f"  shop:\n    bake: 10m\n    target: {{kubernetes: {{{where}}}}}\n    sources: [{source}]"
    async with Inside(shop.folder, block) as daemon:
        await daemon.until_known(looks=5)
        shop.kubelet.starts_after = 3600.0
        await shop.deploy("v2")
        await eventually_async(lambda: _is_reverting(daemon), within=60)
        shop.kubelet.starts_after = 0.0
        rollback = await daemon.ended()
        assert (rollback.state, rollback.version, rollback.to) == ("verified", "v2", "v1"), rollback.steps
        (told,) = await daemon.decisions()
        assert "ProgressDeadlineExceeded" in told.decision.reason


async def _is_reverting(daemon: Inside) -> bool:
    return bool(await daemon.decisions())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_humans_change_is_not_overwritten(
    shop: Shop, targets: Targets, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes at the worst moment: after everything was looked at, and before the revert is sent."""
    target = targets(kind)
    await shop.deploy("v1", kind)
    await shop.rolled_out(target, "v1")
    await shop.deploy("v2", kind)
    await shop.rolled_out(target, "v2")
    patch, tried = Api.patch, 0

    async def late(self: Api, *arguments: Any) -> bytes:
        nonlocal tried
        tried += 1
        if tried == 1:
            await shop.deploy("v3", kind)
        return await patch(self, *arguments)

    monkeypatch.setattr(Api, "patch", late)
    with pytest.raises(Conflict):
        await insisting(target, ORDER)
    await shop.rolled_out(target, "v3")
    assert tried == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_between_any_two_calls_it_reverts_once(
    shop: Shop, targets: Targets, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """At each call in turn: just before it is sent, and just before its answer is read."""
    deadly = Deadly(when)
    monkeypatch.setattr(Api, "_answer", deadly.around(Api._answer))
    target = targets()
    await shop.deploy("v1")
    await shop.rolled_out(target, "v1")
    shop.kubelet.broken = {f"{IMAGE}:v2"}
    for fatal_call in range(1, 30):
        deadly.at(0)
        await shop.deploy("v2")
        await eventually_async(lambda: _in_place(target, "v2"), within=30)
        generation = (await shop.get())["metadata"]["generation"]
        order = RevertOrder(to="v1", expect="v2", key=f"key-{fatal_call}")
        deadly.at(fatal_call)
        died = False
        try:
            await target.revert(order)
        except Killed:
            died = True
        deadly.at(0)
        again = targets()
        await again.revert(order)
        await settled(again, "v1")
        after = await shop.get()
        assert after["metadata"]["generation"] - generation == 2, "paused once and reverted once"
        assert after["spec"].get("paused", False) is False
        if not died:
            break
    assert fatal_call > 4, "it has more calls than that"


async def _in_place(target: Target, version: str) -> bool:
    with suppress(Temporary):
        release = await target.current()
        return release is not None and release.version == version
    return False


async def test_a_tag_that_was_moved_is_no_success(shop: Shop, targets: Targets) -> None:
    target = targets()
    await shop.deploy("v1")
    await shop.rolled_out(target, "v1")
    await target.current()
    await shop.deploy("v2")
    await shop.rolled_out(target, "v2")
    shop.kubelet.moved = {f"{IMAGE}:v1": "sha256:" + 64 * "b"}
    await target.revert(ORDER)
    with pytest.raises(Permanent, match="tag was moved"):
        await settled(target, "v1")


async def test_a_lost_right_is_told_beforehand(shop: Shop, targets: Targets) -> None:
    target = targets()
    await shop.deploy("v1")
    await shop.rolled_out(target, "v1")
    await shop.deploy("v2")
    await shop.rolled_out(target, "v2")
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{shop.namespace}/roles/rollbackd"
    rules = (await shop.admin("GET", role))["rules"]
    rules[0]["verbs"].remove("patch")
    await shop.admin("PATCH", role, {"rules": rules})

    async def told() -> bool:
        return any("may not patch" in problem for problem in (await target.readiness("v1")).problems)

    await eventually_async(told, within=30)
    with pytest.raises(RollbackdError, match="403"):
        await target.revert(ORDER)
    assert await _in_place(target, "v2")


async def test_what_the_old_release_needs_is_looked_for(shop: Shop, targets: Targets) -> None:
    target = targets()
    folder = f"/api/v1/namespaces/{shop.namespace}/configmaps"
    await shop.admin("POST", folder, {"metadata": {"name": "settings"}})
    first = manifest("deployment", "v1", {})
    first["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    await shop.admin("POST", shop.path("deployment").rpartition("/")[0], first)
    await shop.rolled_out(target, "v1")
    await shop.deploy("v2")
    await shop.rolled_out(target, "v2")
    assert (await target.readiness("v1")).ready
    await shop.admin("DELETE", f"{folder}/settings")
    assert (await target.readiness("v1")).problems == ("release v1: ConfigMap settings, which it needs, is gone",)
