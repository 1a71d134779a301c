"""Containers that share something with others, on a real engine."""

from __future__ import annotations

import pytest

from tests.support.containers import Shop
from tests.unit.targets.making import Make, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    ("option", "kind", "told"),
    [
        ("--network", "container:", "v1 lived in the network of container "),
        ("--pid", "container:", "v1 lived in the processes (--pid) of container "),
        ("--ipc", "container:", "v1 lived in the shared memory (--ipc) of container "),
        ("--volumes-from", "", "v1 had the volumes of container "),
    ],
)
async def test_a_container_that_was_joined_and_is_gone_is_told(
    make: Make, shop: Shop, option: str, kind: str, told: str
) -> None:
    other = f"{shop.name}-joined"
    target = make()
    shop.deploy("v1", "--ipc=shareable", name=other)
    shop.deploy("v1", option, f"{kind}{other}")
    assert await version(target) == "v1"
    shop.deploy("v2")
    assert await version(target) == "v2"
    assert (await target.readiness("v1")).problems == ()
    shop.engine.docker("rm", "--force", other)
    (problem,) = (await target.readiness("v1")).problems
    assert problem.startswith(told)
    assert "which is gone" in problem


@pytest.mark.parametrize(
    ("option", "told"),
    [("--network", "network"), ("--pid", "processes (--pid)"), ("--ipc", "shared memory (--ipc)")],
)
async def test_a_container_that_lives_in_this_one_is_told(make: Make, shop: Shop, option: str, told: str) -> None:
    target = make()
    shop.deploy("v1")
    assert await version(target) == "v1"
    shop.deploy("v2", "--ipc=shareable")
    assert await version(target) == "v2"
    other = f"{shop.name}-sidecar"
    shop.deploy("v1", option, f"container:{shop.name}", name=other)
    (problem,) = (await target.readiness("v1")).problems
    assert problem == f"container {other} shares the {told} of {shop.name}, and would lose it"
