"""Target `docker`: where the earlier release does not come up, the situation before is restored."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from rollbackd.errors import Permanent
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.kept_releases import KeptReleases
from tests.support.containers import Breakable, Shop
from tests.support.waiting import eventually
from tests.unit.targets.cutting import Cut, CutOff, dies
from tests.unit.targets.docker.conftest import Ahead
from tests.unit.targets.docker.deploying import deployed, kept_as
from tests.unit.targets.making import ORDER, Make, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]


@pytest.fixture
def program(tmp_path: Path) -> Breakable:
    return Breakable(tmp_path / "marks")


NEVER = 1000.0
"""Seconds that nothing runs for here: what ends at once may, on a busy machine, run for as long as a release has to."""

CHECK = ("--health-cmd", "test ! -e /marks/broken", "--health-interval", "50ms", "--health-retries", "2")


async def is_restored(target: Target, shop: Shop, bad: str) -> str:
    """A revert fails, and what was in place is so again, however often it is asked for; what is told."""
    with pytest.raises(Permanent, match="v2 is in place as before") as caught:
        await target.revert(ORDER)
    assert shop.running == {shop.name: f"{shop.repository}:v2"}
    assert list(shop.containers) == [shop.name]
    assert shop.inspect()["Id"] == bad
    with pytest.raises(Permanent):
        await target.revert(ORDER)
    assert shop.inspect()["Id"] == bad
    assert not await target.settled("v1")
    return str(caught.value)


@pytest.mark.parametrize(
    ("overlap", "options", "says"),
    [(True, (), "exit code 3"), (False, (), "exit code 3"), (True, CHECK, "health check")],
)
async def test_where_the_old_one_does_not_come_up_the_situation_before_is_restored(
    make: Make, shop: Shop, program: Breakable, overlap: bool, options: tuple[str, ...], says: str
) -> None:
    target = make(overlap=overlap, stable_for=NEVER)
    command = ("/bin/sh", "-c", "sleep 1000") if options else program.command(3)
    shop.deploy("v1", *program.options, *options, command=command, run=False)
    assert await version(target) == "v1"
    bad = shop.deploy("v2")
    assert await version(target) == "v2"
    program.shatter()
    assert says in await is_restored(target, shop, bad)


async def test_where_the_old_one_cannot_be_started_the_situation_before_is_restored(
    make: Make, shop: Shop, program: Breakable
) -> None:
    target = make(overlap=False)
    shop.deploy("v1", *program.options, command=("/marks/program",), run=False)
    assert await version(target) == "v1"
    bad = shop.deploy("v2")
    assert await version(target) == "v2"
    assert "cannot be started" in await is_restored(target, shop, bad)


async def test_where_the_old_one_ends_again_and_again_the_situation_before_is_restored(
    make: Make, shop: Shop, program: Breakable, clock: Ahead
) -> None:
    target = make(overlap=True, healthy_within=NEVER, stable_for=NEVER * 1000)
    shop.deploy("v1", *program.options, "--restart", "always", command=program.command(4), run=False)
    assert await version(target) == "v1"
    bad = shop.deploy("v2")
    assert await version(target) == "v2"
    program.shatter()
    reverting = asyncio.create_task(is_restored(target, shop, bad))

    def time_is_up() -> bool:
        """It is each time that the old one was seen to be started again: who waits for it may only begin to."""
        with suppress(AssertionError):  # it may be removed between the two questions
            if any(shop.inspect(name)["RestartCount"] for name in shop.containers):
                clock.by += NEVER
        return reverting.done()

    await eventually(time_is_up, every=0.1)
    assert "started again" in await reverting


async def test_one_that_removes_itself_is_made_again(make: Make, shop: Shop, program: Breakable) -> None:
    target = make(overlap=False, stable_for=NEVER)
    shop.deploy("v1", *program.options, command=program.command(), run=False)
    assert await version(target) == "v1"
    shop.deploy("v2", "--rm")
    assert await version(target) == "v2"
    program.shatter()
    with pytest.raises(Permanent, match="v2 is in place as before"):
        await target.revert(ORDER)
    assert shop.running == {shop.name: f"{shop.repository}:v2"}


async def test_what_was_replaced_already_is_made_again_where_the_rest_fails(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, program: Breakable
) -> None:
    """The bad one is removed, the daemon dies, and what is to take its name ends meanwhile."""
    shop.deploy("v1", *program.options, command=program.command(), run=False)
    assert await version(make()) == "v1"
    for at in (None, 2):  # the restoring goes well, or dies once the bad one is made and does not run yet
        program.mend()
        shop.deploy("v2", "--env", "POOL=1")
        bad = str(await version(make()))
        order = RevertOrder(to="v1", expect=bad, key=f"key-{at}")
        await dies(monkeypatch, make(), order, 4, heard=True)
        (draft,) = shop.containers
        program.shatter()
        shop.engine.docker("kill", draft)
        if at is not None:
            await dies(monkeypatch, make(), order, 1 + at, heard=False)
        for _ in range(2):
            with pytest.raises(Permanent, match=f"{bad} is in place as before".replace("+", r"\+")):
                await make().revert(order)
            assert shop.running == {shop.name: f"{shop.repository}:v2"}
            assert list(shop.containers) == [shop.name]
            assert "POOL=1" in shop.inspect()["Config"]["Env"]


async def test_what_cannot_be_made_again_is_told(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await deployed(shop, make())
    await dies(monkeypatch, make(), ORDER, 4, heard=True)
    shop.engine.remove(*shop.containers)
    kept = KeptReleases(tmp_path / "state", keep=10)
    (tmp_path / "state" / "releases.json").unlink()
    kept.note(kept_as("v1", how={"config": {"Cmd": ["true"]}, "host": {}, "networks": {}}))
    with pytest.raises(Permanent, match="how v2 was made is not kept any more"):
        await make().revert(ORDER)


async def test_what_the_engine_says_is_told_without_the_environment(make: Make, shop: Shop, tmp_path: Path) -> None:
    """An engine that cannot start a program repeats the whole of what it was to start."""
    program = tmp_path / "sesame-7f3a9c"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    shop.deploy("v1", "--env", f"TOKEN={program.name}", "--volume", f"{tmp_path}:/m", command=(f"/m/{program.name}",))
    assert await version(make()) == "v1"
    shop.deploy("v2")
    program.unlink()
    with pytest.raises(Permanent, match=r"cannot be started: .*/m/\*\*\*") as caught:
        await make().revert(ORDER)
    assert program.name not in str(caught.value)


async def test_what_an_order_before_stopped_runs_again_where_the_next_one_fails(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, program: Breakable
) -> None:
    shop.deploy("v1", *program.options, command=program.command(), run=False)
    assert await version(make()) == "v1"
    shop.deploy("v2")
    await dies(monkeypatch, make(overlap=False, stable_for=NEVER), ORDER, 2, heard=True)
    assert shop.running == {}
    program.shatter()
    with pytest.raises(Permanent, match="v2 is in place as before"):
        await make(overlap=False, stable_for=NEVER).revert(RevertOrder(to="v1", expect="v2", key="another"))
    assert shop.running == {shop.name: f"{shop.repository}:v2"}


async def test_a_failed_revert_that_dies_while_restoring_is_restored_by_the_same_key(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, program: Breakable
) -> None:
    shop.deploy("v1", *program.options, command=program.command(), run=False)
    assert await version(make()) == "v1"
    program.shatter()
    for at in (3, 4):  # it was started, it was removed
        bad = shop.deploy("v2")
        assert await version(make()) == "v2"
        order = RevertOrder(to="v1", expect="v2", key=f"key-{at}")
        with monkeypatch.context() as patch:
            CutOff(patch, at, heard=True)
            with pytest.raises((Cut, Permanent)):
                await make(overlap=False, stable_for=NEVER).revert(order)
        with pytest.raises(Permanent, match="v2 is in place as before"):
            await make(overlap=False, stable_for=NEVER).revert(order)
        assert shop.running == {shop.name: f"{shop.repository}:v2"}
        assert list(shop.containers) == [shop.name]
        assert shop.inspect()["Id"] == bad
