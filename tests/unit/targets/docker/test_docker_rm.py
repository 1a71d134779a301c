"""Containers that remove themselves (`docker run --rm`), on a real engine."""

from __future__ import annotations

import pytest

from rollbackd.errors import Conflict
from rollbackd.targets.base import Target
from tests.support.containers import Shop
from tests.support.waiting import eventually_async
from tests.unit.targets.making import ORDER, Make, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]


async def test_one_that_runs_is_reverted_as_any_other(make: Make, shop: Shop) -> None:
    target = make()
    shop.deploy("v1")
    assert await version(target) == "v1"
    shop.deploy("v2", "--rm")
    assert await version(target) == "v2"
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    await eventually_async(lambda: target.settled("v1"), within=20)
    assert shop.running == {shop.name: f"{shop.repository}:v1"}


@pytest.mark.parametrize("options", [(), ("--rm",)])
async def test_one_that_is_gone_is_left_alone_and_the_cure_is_told(
    make: Make, shop: Shop, options: tuple[str, ...]
) -> None:
    """Whether it crashed, or somebody stopped it for good, nobody can tell."""
    target = make()
    shop.deploy("v1")
    assert await version(target) == "v1"
    shop.deploy("v2", *options)
    assert await version(target) == "v2"
    shop.engine.docker("rm", "--force", shop.name) if not options else shop.engine.docker("stop", shop.name)
    await eventually_async(lambda: _gone(target), within=20)
    (problem,) = (await target.readiness("v1")).problems
    assert problem.startswith("nothing is deployed")
    assert ("run it with `--restart` instead" in problem) == bool(options)
    with pytest.raises(Conflict):
        await target.revert(ORDER)
    assert shop.running == {}


async def _gone(target: Target) -> bool:
    return await target.current() is None
