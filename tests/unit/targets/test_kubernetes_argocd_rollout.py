"""A Rollout of Argo Rollouts that an Argo CD application looks after, on small ones of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rollbackd.errors import Conflict
from rollbackd.targets.base import Target
from rollbackd.targets.kubernetes import completion
from tests.support.argocd_server import APP, TOKEN, ArgoServer
from tests.support.kube_store import Object
from tests.support.waiting import eventually
from tests.unit.targets.kube_rollout import CANARY, Rollout, opened
from tests.unit.targets.kube_shop import IMAGE, ORDER


class Both:
    """The application has the Rollout `checkout`, whose v2 is on its way."""

    def __init__(self, rollout: Rollout, server: ArgoServer, token_file: Path) -> None:
        self.rollout, self.server, self._token_file = rollout, server, token_file

    def make(self, **settings: object) -> Target:
        argocd = {"url": self.server.url, "token_file": self._token_file, "timeout": "3s"}
        return self.rollout.make(**{"owners": {"argocd": argocd}, **settings})

    async def reverted(self, target: Target) -> None:
        """Have it reverted, and Argo CD do what it was told."""
        reverting = asyncio.create_task(target.revert(ORDER))
        await eventually(lambda: "operation" in self.server.app or reverting.done())
        self.server.run()
        await reverting

    @property
    def rollbacks(self) -> int:
        return sum(line.endswith("/rollback") for line in self.server.requests)

    def only_labelled(self) -> None:
        """As Argo CD 2 leaves it, which tracks by a label that Helm charts set, too."""
        found = self.rollout.found
        del found["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"]
        found["metadata"]["labels"] = {"app.kubernetes.io/instance": APP}
        self.rollout.server.store.put("rollouts", found)


def manifest(version: str) -> Object:
    container = {"name": "app", "image": f"{IMAGE}:{version}"}
    template = {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [container]}}
    selector = {"matchLabels": {"app": "checkout"}}
    spec = {"replicas": 2, "strategy": CANARY, "selector": selector, "template": template}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "checkout"}, "spec": spec}


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    async with opened(tmp_path) as rollout:
        server = ArgoServer(rollout.server)
        await server.start()
        token_file = tmp_path / "argocd-token"
        token_file.write_text(TOKEN)
        server.commit("commit-v1", manifest("v1"))
        server.commit("commit-v2", manifest("v2"))
        yield Both(rollout, server, token_file)
        await server.stop()


@pytest.mark.parametrize("labelled", [False, True])
async def test_it_goes_back_over_argo_cd_and_is_promoted(both: Both, labelled: bool) -> None:
    """However Argo CD tracks it: put back beside Argo CD, it would be the bad release again in no time."""
    both.rollout.change("status", promoteFull=True)
    if labelled:
        both.only_labelled()
    target = both.make()
    assert (await target.readiness("v1")).problems == ()
    await both.reverted(target)
    assert (both.rollbacks, both.rollout.patches) == (1, ["/status"])
    assert await target.settled("v1")
    assert both.rollout.images == ["v1", "v1"]
    await target.revert(ORDER)
    assert (both.rollbacks, both.rollout.patches) == (1, ["/status"])


async def test_one_on_its_way_needs_no_promotion(both: Both) -> None:
    target = both.make()
    await both.reverted(target)
    assert both.rollout.patches == []
    assert await target.settled("v1")


async def test_its_steps_are_kept_where_that_is_wished(both: Both) -> None:
    both.rollout.change("status", promoteFull=True)
    target = both.make(rollout_steps="keep")
    await target.revert(ORDER)
    both.server.run()
    assert both.rollout.patches == []
    assert not await target.settled("v1")


async def test_killed_before_the_promotion_it_is_promoted_by_the_same_order(both: Both) -> None:
    both.rollout.change("status", promoteFull=True)
    reverting = asyncio.create_task(both.make().revert(ORDER))
    await eventually(lambda: "operation" in both.server.app)
    reverting.cancel()
    await asyncio.gather(reverting, return_exceptions=True)
    both.server.run()
    await both.make().revert(ORDER)
    assert (both.rollbacks, both.rollout.patches) == (1, ["/status"])


async def test_an_argo_cd_that_takes_long_leaves_the_rest_to_people(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "PUT_THERE_S", 0.0)
    both.rollout.change("status", promoteFull=True)
    with capture_logs() as logs:
        await both.make().revert(ORDER)
    (told,) = [line for line in logs if line["event"] == "revert_not_completed"]
    assert told["cure"].endswith("promote the Rollout fully")


async def test_what_somebody_else_puts_there_meanwhile_is_left_alone(both: Both) -> None:
    both.rollout.change("status", promoteFull=True)
    reverting = asyncio.create_task(both.make().revert(ORDER))
    await eventually(lambda: "operation" in both.server.app)
    both.rollout.promoted("v3")
    with pytest.raises(Conflict, match="v3 was put in place"):
        await reverting


async def test_the_right_to_promote_is_asked_for_beforehand(both: Both) -> None:
    both.rollout.server.denied.add("patch rollouts/status")
    assert "we may not patch rollouts checkout status" in str((await both.make().readiness("v1")).problems)
