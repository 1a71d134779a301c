"""Target `docker`: a revert that is cut off anywhere is finished, or undone, by the same order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest

from rollbackd.docker.engine import EngineFault
from rollbackd.errors import Conflict, Temporary
from rollbackd.targets.base import RevertOrder
from tests.support.containers import Shop
from tests.support.waiting import eventually_async
from tests.unit.targets.cutting import CutOff, dies
from tests.unit.targets.docker.deploying import deployed
from tests.unit.targets.making import ORDER, Make, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]

CALLS = [("POST", "create"), ("POST", "start"), ("POST", "stop"), ("DELETE", ""), ("POST", "rename")]
"""The calls of a revert that have an effect. With `overlap: false` the second is the stop, and the third the start."""


@pytest.mark.parametrize(("overlap", "ats"), [(True, range(len(CALLS) + 1)), (False, [2])])
async def test_a_revert_that_dies_between_any_two_calls_is_finished_by_the_same_key(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, overlap: bool, ats: Sequence[int]
) -> None:
    first = shop.deploy("v1", run=False)
    assert await version(make()) == "v1"
    for at in ats:
        shop.deploy("v2")
        assert await version(make()) == "v2"
        order = RevertOrder(to="v1", expect="v2", key=f"key-{at}")
        await dies(monkeypatch, make(overlap=overlap), order, max(at, 1), heard=at > 0)
        again = make(overlap=overlap)
        await again.revert(order)
        assert shop.running == {shop.name: f"{shop.repository}:v1"}
        assert list(shop.containers) == [shop.name]
        made = shop.inspect()["Id"]
        assert made != first
        await again.revert(order)
        assert shop.inspect()["Id"] == made
    await eventually_async(lambda: again.settled("v1"))


async def test_a_revert_makes_no_other_calls(make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or there would be more places to die at than are tried above."""
    await deployed(shop, make())
    with monkeypatch.context() as patch:
        cut = CutOff(patch, 0, heard=False)
        await make().revert(ORDER)
    assert [(method, "" if method == "DELETE" else path.rpartition("/")[2]) for method, path in cut.made] == CALLS


@pytest.mark.parametrize(("status", "ats"), [(500, (1, 2, 5)), (0, (2,))])
async def test_a_fault_in_the_middle_is_finished_or_restored(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, status: int, ats: Sequence[int]
) -> None:
    """Whatever the engine answers: either it is to be tried again, or all is as before. A start is tried thrice."""
    shop.deploy("v1", run=False)
    assert await version(make()) == "v1"
    for at in ats:
        shop.deploy("v2")
        assert await version(make()) == "v2"
        order = RevertOrder(to="v1", expect="v2", key=f"key-{at}")
        with monkeypatch.context() as patch:
            CutOff(patch, at, heard=False, error=EngineFault("injected", status))
            with suppress(Temporary):
                await make().revert(order)
        await make().revert(order)
        assert shop.running == {shop.name: f"{shop.repository}:v1"}
        assert list(shop.containers) == [shop.name]


async def test_a_deployment_after_it_died_is_not_undone_and_nothing_is_left_over(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at, later in ((2, "v3"), (2, "v2")):
        target = make()
        await deployed(shop, target)
        order = RevertOrder(to="v1", expect="v2", key=f"key-{later}")
        await dies(monkeypatch, target, order, at, heard=True)
        theirs = shop.deploy(later)
        with pytest.raises(Conflict):
            await make().revert(order)
        assert list(shop.containers) == [shop.name]
        assert shop.inspect()["Id"] == theirs


async def test_what_a_dead_order_left_is_known_and_goes_with_the_next(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(shop, make())
    await dies(monkeypatch, make(), ORDER, 2, heard=True)
    (problem,) = (await make().readiness("v1")).problems
    assert "left behind" in problem
    assert not await make().settled("v2")
    await make().revert(RevertOrder(to="v1", expect="v2", key="another"))
    assert list(shop.containers) == [shop.name]


async def test_what_alone_still_runs_is_left_alone_by_another_order(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad one is removed, and what is to take its name does not have it yet."""
    await deployed(shop, make())
    await dies(monkeypatch, make(), ORDER, 4, heard=True)
    before = shop.running
    assert len(before) == 1
    with pytest.raises(Conflict):
        await make().revert(RevertOrder(to="v1", expect="v2", key="another"))
    assert shop.running == before
    await make().revert(ORDER)
    assert shop.running == {shop.name: f"{shop.repository}:v1"}
