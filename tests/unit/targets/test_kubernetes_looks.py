"""What the target `kubernetes` sees: what is in the way of a revert, whether it has settled, and rollouts."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from rollbackd.errors import Permanent
from rollbackd.kubernetes.revisions import Revision
from rollbackd.targets.kubernetes import rollout
from rollbackd.targets.kubernetes.memory import Memory
from rollbackd.targets.kubernetes.rollout import began
from tests.support.kube_server import status
from tests.support.kube_store import digest
from tests.support.waiting import eventually
from tests.unit.targets.kube_shop import IMAGE, ORDER, Shop, shop, watching

__all__ = ["shop"]


# -- what would keep it from working


@pytest.mark.parametrize(
    ("labels", "notes", "told"),
    [
        ({}, {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/checkout"}, "Argo CD application shop"),
        ({"argocd.argoproj.io/instance": "shop"}, {}, "Argo CD application shop"),
        ({"kustomize.toolkit.fluxcd.io/name": "shop"}, {}, "Flux kustomization shop"),
        ({"helm.toolkit.fluxcd.io/name": "shop"}, {"meta.helm.sh/release-name": "x"}, "Flux Helm release shop"),
        ({}, {"meta.helm.sh/release-name": "shop"}, "helm rollback shop"),
    ],
)
async def test_what_somebody_else_looks_after_is_left_to_them(
    shop: Shop, labels: dict[str, str], notes: dict[str, str], told: str
) -> None:
    shop.deploy("v1")
    shop.deploy("v2")
    shop.change("metadata", labels=labels, annotations={**shop.deployment["metadata"]["annotations"], **notes})
    target = shop.make()
    (problem,) = (await target.readiness("v1")).problems
    assert told in problem
    assert "if_managed: revert" in problem
    with pytest.raises(Permanent, match=told):
        await target.revert(ORDER)
    assert shop.image == "v2"
    anyway = shop.make(if_managed="revert")
    assert (await anyway.readiness("v1")).ready
    await anyway.revert(ORDER)
    assert shop.image == "v1"


async def test_a_label_that_everybody_may_set_makes_nobody_an_owner(shop: Shop) -> None:
    """Argo CD may track by it, and so do charts and kustomizations that were applied by hand."""
    shop.deploy("v1")
    shop.deploy("v2")
    shop.change("metadata", labels={"app.kubernetes.io/instance": "shop", "app.kubernetes.io/managed-by": "make"})
    assert (await shop.make().readiness("v1")).problems == ()


async def test_what_a_template_needs_is_looked_for(shop: Shop) -> None:
    container = {
        "name": "app",
        "image": f"{IMAGE}:v1",
        "envFrom": [{"configMapRef": {"name": "there"}}, {"secretRef": {"name": "gone"}}],
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "a", "optional": True}}}],
    }
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "b", "projected": {"sources": [{"configMap": {"name": "parts"}}]}},
        {"name": "c", "secret": {"secretName": "optional", "optional": True}},
        {"name": "d", "configMap": {"name": "there"}},
    ]
    shop.deploy("v1", containers=[container], volumes=volumes, serviceAccountName="robot")
    shop.deploy("v2")
    shop.server.store.put("configmaps", {"metadata": {"name": "there"}})
    target = shop.make()
    told = " ".join((await target.readiness("v1")).problems)
    assert all(
        f"{one}, which it needs, is gone" in told
        for one in (
            "ServiceAccount robot",
            "Secret gone",
            "PersistentVolumeClaim data",
            "ConfigMap parts",
        )
    )
    assert told.count("is gone") == 4

    async def forbid(request: web.Request) -> web.StreamResponse | None:
        return status(403, "Forbidden", "no") if "/secrets/" in request.path else None

    shop.server.misbehave = forbid
    assert "Secret" not in " ".join((await target.readiness("v1")).problems), "what we may not see may be there"


async def test_a_missing_right_is_told(shop: Shop) -> None:
    shop.deploy("v1")
    shop.deploy("v2")
    shop.server.denied = {"patch deployments"}
    (problem,) = (await shop.make().readiness("v1")).problems
    assert "we may not patch deployments checkout" in problem


# -- settling


async def test_a_tag_that_was_moved_is_no_success(shop: Shop) -> None:
    shop.deploy("v1")
    target = shop.make()
    await target.current()
    shop.deploy("v2")
    shop.server.controllers.moved = {f"{IMAGE}:v1": digest("another")}
    await target.revert(ORDER)
    shop.run()
    with pytest.raises(Permanent, match="tag was moved"):
        await target.settled("v1")


async def test_nothing_is_settled_while_old_pods_run(shop: Shop) -> None:
    shop.deploy("v1")
    shop.deploy("v2")
    target = shop.make()
    assert await target.settled("v2")
    left = copy.deepcopy(shop.server.store.all("pods")[0])
    await target.revert(ORDER)
    shop.run()
    assert await target.settled("v1")
    shop.server.controllers.off = True
    shop.server.store.put("pods", {**left, "metadata": {**left["metadata"], "resourceVersion": None}})
    assert not await target.settled("v1")


async def test_two_that_look_at_the_same_time_forget_nothing(tmp_path: Path) -> None:
    """As after a reload, while the target of the configuration before still looks."""
    one = Revision("", "", "", "", 1, None, {}, {})

    def look(who: str) -> None:
        memory = Memory(tmp_path, "Deployment shop/checkout")
        for number in range(20):
            found = replace(one, identity=f"{who}{number}")
            memory.names([found], lambda revision: revision.identity)
            memory.learn(found.identity, {"app": "sha256:1"})

    await asyncio.gather(*(asyncio.to_thread(look, who) for who in "ab"))
    memory = Memory(tmp_path, "Deployment shop/checkout")
    assert all(memory.digests(f"{who}{number}") for who in "ab" for number in range(20))


# -- seeing deployments


async def test_a_rollout_is_started_until_its_pods_are_ready(shop: Shop) -> None:
    shop.deploy("v1")
    async with watching(shop.server, shop.make()) as seen:
        shop.server.controllers.stalled = True
        shop.deploy("v2")
        await eventually(lambda: seen == [("v2", "v1", "started")])
        shop.server.controllers.stalled = False
        shop.run()
        await eventually(lambda: seen[1:] == [("v2", "v1", "finished")])


async def test_a_rollout_that_runs_out_of_time_has_failed_once_nobody_reverted_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its release is looked at, trouble of its pods is a reason to revert it."""
    shop.deploy("v1")
    async with watching(shop.server, shop.make()) as seen:
        shop.server.controllers.stalled = True
        shop.deploy("v2")
        await eventually(lambda: seen == [("v2", "v1", "started")])
        stuck = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        shop.server.controllers.off = True
        shop.change("status", conditions=[stuck])
        await eventually(lambda: shop.server.quiet)
        shop.change("status", readyReplicas=1)
        await eventually(lambda: shop.server.quiet)
        assert seen == [("v2", "v1", "started")]
        monkeypatch.setattr(rollout, "GIVEN_UP_S", 0.0)
        shop.server.store.put("configmaps", {"metadata": {"name": "of-somebody-else"}})  # brings a bookmark, no change
        await eventually(lambda: seen[1:] == [("v2", "v1", "failed")])


async def test_a_rollout_that_was_under_way_is_told_when_it_ends(shop: Shop) -> None:
    shop.deploy("v1")
    shop.server.controllers.stalled = True
    shop.deploy("v2")
    async with watching(shop.server, shop.make()) as seen:
        shop.server.controllers.stalled = False
        shop.run()
        await eventually(lambda: seen == [("v2", None, "finished")])


@pytest.mark.parametrize(
    ("made", "since", "t"),
    [
        (1000.0, 990.0, 1000.0),
        (1000.0, 1000.4, 1000.4),
        (1000.0, None, 1005.0),
        (None, 990.0, 1005.0),
        (500.0, 990.0, 1005.0),
        (500.0, 700.0, 700.0),
        (1009.0, 1004.0, 1005.0),
    ],
)
def test_a_rollout_began_when_its_revision_was_made_as_far_as_that_can_be(
    made: float | None, since: float | None, t: float
) -> None:
    assert began(made, since, now=1005.0) == t


async def test_scaling_is_no_deployment(shop: Shop) -> None:
    shop.deploy("v1")
    async with watching(shop.server, shop.make()) as seen:
        shop.change("spec", replicas=5)
        await eventually(lambda: shop.server.quiet)
        shop.deploy("v2")
        await eventually(lambda: seen[:1] == [("v2", "v1", "started")])


async def test_a_watch_that_fell_behind_lists_anew(shop: Shop) -> None:
    shop.deploy("v1")
    async with watching(shop.server, shop.make()) as seen:
        await shop.server.stop()
        shop.deploy("v2")
        shop.server.store.forget()
        await shop.server.start()
        await eventually(lambda: [one[2] for one in seen] == ["started", "finished"])


async def test_a_watch_that_is_ended_goes_on_where_it_was(shop: Shop) -> None:
    shop.deploy("v1")
    async with watching(shop.server, shop.make()) as seen:
        for task in [*shop.server.watching]:
            assert task is not None
            task.cancel()
        shop.deploy("v2")
        await eventually(lambda: [one[2] for one in seen] == ["started", "finished"])
        lists = [line for line in shop.server.requests if line == "GET /apis/apps/v1/namespaces/shop/deployments"]
        assert len(lists) == 1


@pytest.mark.parametrize("damaged", [b"garbage", b'{"workload":"\xff"}', b'{"revisions":' + b"[" * 5000])
def test_a_damaged_memory_of_names_is_told(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "revisions.json").write_bytes(damaged)
    with pytest.raises(Permanent, match="not a file of ours"):
        Memory(tmp_path, "shop").digests("a")
