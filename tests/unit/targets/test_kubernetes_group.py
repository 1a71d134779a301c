"""Workloads that are released together: the target `kubernetes` with a label selector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.kubernetes import ADAPTER
from tests.support.kube_server import KubeServer, status
from tests.support.kube_store import Refused
from tests.support.waiting import eventually
from tests.support.watching import seen, watching
from tests.unit.targets.kube_shop import ORDER, in_place, versions
from tests.unit.targets.making import Make, making

LABELS = {"app.kubernetes.io/part-of": "checkout"}


class Stack:
    """Deployments `web` and `worker` of one application, and one of somebody else."""

    def __init__(self, server: KubeServer, make: Make) -> None:
        self.server, self.make = server, make

    def deploy(self, version: str, *names: str) -> None:
        for name in names or ("web", "worker"):
            try:
                found = self.server.store.get("deployments", name)
            except Refused:
                found = {"metadata": {"name": name, "labels": LABELS}, "spec": {"replicas": 1}}
            container = {"name": "app", "image": f"registry.test/shop/{name}:{version}"}
            template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
            found["spec"] |= {"selector": {"matchLabels": {"app": name}}, "template": template}
            self.server.store.put("deployments", found)
        for _ in range(2):
            self.server.controllers.run()

    @property
    def images(self) -> dict[str, str]:
        """The tag of each Deployment's image."""
        return {
            one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]
            for one in self.server.store.all("deployments")
        }


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    server = KubeServer("a-token")
    await server.start()
    usual: dict[str, object] = {
        "selector": "app.kubernetes.io/part-of=checkout",
        "kubeconfig": server.kubeconfig(tmp_path / "kubeconfig"),
    }
    async with making(ADAPTER, usual, tmp_path / "state") as make:
        one = Stack(server, make)
        one.deploy("v1")
        yield one
    await server.stop()


async def test_a_release_is_in_place_where_all_run_it(stack: Stack) -> None:
    target = stack.make()
    assert await in_place(target) == "v1"
    stack.deploy("v2", "web")
    assert await in_place(target) == "v2", "it is being deployed"
    assert await in_place(stack.make()) == "v2", "which is remembered"
    assert not await target.settled("v2")
    stack.deploy("v2", "worker")
    assert await in_place(target) == "v2"
    assert await target.settled("v2")
    assert await versions(target) == ["v2", "v1"]


async def test_all_are_reverted_together(stack: Stack) -> None:
    target = stack.make()
    stack.deploy("v2")
    stack.server.store.put("deployments", {"metadata": {"name": "other"}, "spec": _strange()})
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    assert {name: stack.images[name] for name in ("web", "worker")} == {"web": "v1", "worker": "v1"}
    assert stack.images["other"] == "v9"
    for _ in range(2):
        stack.server.controllers.run()
    assert await target.settled("v1")
    patches = len(stack.server.patched)
    await target.revert(ORDER)
    assert len(stack.server.patched) == patches, "the same order once more changes nothing"


async def test_a_deployment_that_reached_some_of_them_is_reverted_there(stack: Stack) -> None:
    target = stack.make()
    assert await in_place(target) == "v1"
    stack.deploy("v2", "web")
    await target.revert(ORDER)
    assert stack.images == {"web": "v1", "worker": "v1"}


async def test_none_is_touched_where_one_cannot_go_along(stack: Stack) -> None:
    target = stack.make()
    stack.deploy("v2")
    stack.deploy("v3", "worker")
    with pytest.raises(Conflict, match=r"Deployment worker: v3 is in place, not v2"):
        await target.revert(ORDER)
    stack.deploy("v2", "worker", "cron")
    with pytest.raises(Permanent, match="Deployment cron has no release v1 to go back to"):
        await target.revert(ORDER)
    assert stack.server.patched == []
    assert any("Deployment cron: there is no revision" in one for one in (await target.readiness("v1")).problems)


async def test_what_went_wrong_with_one_holds_up_no_other_and_is_told(stack: Stack) -> None:
    target = stack.make()
    stack.deploy("v2")

    async def away(request: web.Request) -> web.StreamResponse | None:
        refused = request.method == "PATCH" and request.path.endswith("/web")
        return status(503, "ServiceUnavailable", "no") if refused else None

    stack.server.misbehave = away
    with pytest.raises(Temporary, match=r"Deployment web: .*\(reverted: Deployment worker\)"):
        await target.revert(ORDER)
    assert stack.images == {"web": "v2", "worker": "v1"}
    stack.server.misbehave = None
    await stack.make().revert(ORDER)
    assert stack.images == {"web": "v1", "worker": "v1"}


async def test_workloads_with_releases_of_their_own_are_no_group(stack: Stack) -> None:
    stack.deploy("v7", "worker")
    with pytest.raises(Permanent, match=r"run different releases .*services of their own"):
        await stack.make().current()


async def test_nobody_there_is_nothing_deployed(stack: Stack) -> None:
    target = stack.make(selector="app=none")
    assert await target.current() is None
    assert await target.history() == []
    assert (await target.readiness("v1")).problems == ("nothing is deployed: no workload has the labels app=none",)
    assert not await target.settled("v1")
    with pytest.raises(Conflict):
        await target.revert(ORDER)


async def test_the_first_that_changes_begins_a_deployment_and_the_last_one_ends_it(stack: Stack) -> None:
    target = stack.make()
    async with watching(target) as found:
        await eventually(lambda: len(stack.server.watching) == 2 and stack.server.quiet)
        stack.deploy("v2", "web")
        await eventually(lambda: seen(found) == [("v2", "v1", "started")])
        await eventually(lambda: stack.server.quiet)
        stack.deploy("v2", "worker")
        await eventually(lambda: seen(found) == [("v2", "v1", "started"), ("v2", "v1", "finished")])


def _strange() -> dict[str, object]:
    containers = [{"name": "app", "image": "registry.test/other:v9"}]
    template = {"metadata": {"labels": {"app": "other"}}, "spec": {"containers": containers}}
    return {"replicas": 1, "selector": {"matchLabels": {"app": "other"}}, "template": template}
