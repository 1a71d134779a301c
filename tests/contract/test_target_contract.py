"""What every registered target must do, on real folders with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from rollbackd import registry
from rollbackd.aiokit import SystemClock
from rollbackd.errors import Conflict, RollbackdError, Temporary
from rollbackd.targets.base import RevertOrder, Target, TargetChange
from tests.contract.place import SECRET, SECRET_VARIABLE, Place
from tests.contract.targets import PLACES, build, make_place
from tests.support.clock import ManualClock
from tests.support.waiting import eventually, eventually_async
from tests.support.watching import watching

ROOT = Path(__file__).parents[2]
ORDER = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-1")


def _with_programs(name: str, *values: object) -> object:
    """A line of a table of targets, which needs what the target's place needs."""
    programs = PLACES[name].PROGRAMS if name in PLACES else ()
    return pytest.param(name, *values, marks=[pytest.mark.needs(*programs)] if programs else [])


TARGETS = [_with_programs(name) for name in registry.names("target")]
ENDING_IN_A_PROGRAM = [name for name, place in PLACES.items() if place.RUNS_PROGRAMS]
runs_programs = pytest.mark.parametrize("name", ENDING_IN_A_PROGRAM, indirect=True)
"""For tests that need a revert to end in a program of the operator's."""


@pytest.fixture(params=TARGETS)
def name(request: pytest.FixtureRequest) -> str:
    found = str(request.param)
    assert found in PLACES, f"target `{found}` has no line in PLACES"
    return found


@pytest.fixture
async def place(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Place]:
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    one = make_place(name, tmp_path, request.getfixturevalue)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def target(name: str, place: Place) -> AsyncIterator[Target]:
    one = build(name, place.settings, place.state_dir, SystemClock())
    yield one
    await one.close()


async def in_place(target: Target) -> str | None:
    release = await target.current()
    return release.version if release else None


def group_is_gone(pid: int) -> bool:
    """Whether nothing but what waits to be reaped is left of the process group."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return all(
        _is_zombie(member) for member in Path("/proc").iterdir() if member.name.isdigit() and _group(member) == pid
    )


def _stat(process: Path) -> list[str]:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z", "0", "0"]


def _is_zombie(process: Path) -> bool:
    return _stat(process)[0] == "Z"


def _group(process: Path) -> int:
    return int(_stat(process)[2])


# -- telling the truth


async def test_current_is_what_is_in_place(target: Target, place: Place) -> None:
    assert await in_place(target) == "v2"
    place.deploy("v3")
    assert await in_place(target) == "v3"


async def test_history_lists_what_could_be_put_in_place(target: Target) -> None:
    assert {release.version for release in await target.history()} == {"v1", "v2", "v3"}


async def test_ready_where_a_revert_would_work(target: Target) -> None:
    assert (await target.readiness("v1")).problems == ()


async def test_the_release_in_place_is_one_that_could_be_put_back(target: Target) -> None:
    """It is asked at first sight, when the next release is the one that would be reverted to it."""
    assert (await target.readiness("v2")).problems == ()


async def test_not_ready_for_a_release_that_is_not_there(target: Target) -> None:
    (problem,) = (await target.readiness("v9")).problems
    assert "v9" in problem


async def test_a_name_that_is_no_release_is_not_put_in_place(target: Target, place: Place) -> None:
    before = place.snapshot()
    for to in ("../v1", "", "v1/../v2", "v1\n", "-rf", "v1\0", "\udcff", "$(touch pwned)"):
        assert not (await target.readiness(to)).ready, repr(to)
        with pytest.raises(RollbackdError):
            await target.revert(RevertOrder(to=to, expect="v2", key=f"k-{to!r}"))
        assert place.snapshot() == before, repr(to)


async def test_nothing_but_revert_changes_anything(target: Target, place: Place) -> None:
    before = place.snapshot()
    await target.current()
    await target.history()
    await target.readiness("v1")
    await target.settled("v1")
    async with watching(target) as seen:
        assert seen == []
    assert place.snapshot() == before


# -- reverting


async def test_a_revert_puts_the_release_in_place(target: Target, place: Place) -> None:
    assert not await target.settled("v1")
    await target.revert(ORDER)
    assert await in_place(target) == "v1"
    assert place.finished == [f"{ORDER.key} v1"]
    await eventually_async(lambda: target.settled("v1"))
    assert not await target.settled("v2")


async def test_the_same_key_again_changes_nothing(name: str, target: Target, place: Place) -> None:
    await target.revert(ORDER)
    before = place.snapshot()
    await target.revert(ORDER)
    again = build(name, place.settings, place.state_dir, SystemClock())
    await again.revert(ORDER)
    await again.close()
    assert place.snapshot() == before


async def test_the_same_key_at_the_same_time_reverts_once(target: Target, place: Place) -> None:
    await asyncio.gather(target.revert(ORDER), target.revert(ORDER))
    assert place.finished == [f"{ORDER.key} v1"]


@runs_programs
async def test_two_objects_on_one_place_do_not_revert_at_the_same_time(name: str, target: Target, place: Place) -> None:
    """As after a reload, while the target of the configuration before still reverts."""
    other = build(name, place.settings, place.state_dir, SystemClock())
    place.hold()
    first = asyncio.create_task(target.revert(ORDER))
    await eventually(lambda: place.held)
    with pytest.raises(Temporary) if place.LOCKS else nullcontext():
        await other.revert(ORDER)
    place.let_go()
    await first
    await other.revert(ORDER)
    await other.close()
    assert place.finished == [f"{ORDER.key} v1"]


async def test_a_deployment_by_somebody_else_is_not_undone(target: Target, place: Place) -> None:
    place.deploy("v3")
    before = place.snapshot()
    with pytest.raises(Conflict):
        await target.revert(ORDER)
    assert place.snapshot() == before


@pytest.mark.parametrize("later", ["v3", "v2"])
async def test_a_spent_key_does_not_undo_a_later_deployment(target: Target, place: Place, later: str) -> None:
    """Not even one of the very release that the key once condemned: somebody wants it now."""
    await target.revert(ORDER)
    place.deploy(later)
    before = place.snapshot()
    with pytest.raises(Conflict):
        await target.revert(ORDER)
    assert place.snapshot() == before


async def test_a_key_is_spent_after_a_later_revert(target: Target, place: Place) -> None:
    await target.revert(ORDER)
    place.deploy("v3")
    await target.revert(RevertOrder(to="v1", expect="v3", key="another"))
    assert await in_place(target) == "v1", "a second revert rolls forward"
    before = place.snapshot()
    with pytest.raises(Conflict):
        await target.revert(ORDER)
    assert place.snapshot() == before


async def test_what_is_in_place_already_stays_there(target: Target, place: Place) -> None:
    place.deploy("v1")
    await target.revert(ORDER)
    assert await in_place(target) == "v1"
    await target.revert(ORDER)
    assert await in_place(target) == "v1"


# -- being interrupted


@runs_programs
async def test_a_failed_end_is_temporary_and_can_be_finished(target: Target, place: Place) -> None:
    place.fail()
    with pytest.raises(Temporary):
        await target.revert(ORDER)
    assert not await target.settled("v1")
    place.heal()
    await target.revert(ORDER)
    assert (await in_place(target), place.finished) == ("v1", [f"{ORDER.key} v1"])
    assert await target.settled("v1")


@runs_programs
async def test_a_kill_after_the_switch_is_finished_by_the_same_key(name: str, target: Target, place: Place) -> None:
    """SIGKILL hits the daemon and what it ran, as when the machine goes down between the switch and the end."""
    place.hold()
    order, settings = msgspec.json.encode(ORDER).decode(), msgspec.json.encode(place.settings).decode()
    arguments = ("-m", "tests.contract.revert_program", name, settings, str(place.state_dir), order)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)
    await eventually(lambda: place.held)
    process.kill()
    await process.wait()
    for pid in place.pids:
        os.killpg(pid, signal.SIGKILL)
    assert await in_place(target) == "v1"
    assert await target.settled("v1") is place.ATOMIC

    place.let_go()
    switched = place.snapshot()
    await target.revert(ORDER)
    assert place.finished == [f"{ORDER.key} v1"]
    if name == "release_dir":
        assert place.snapshot()[:-1] == switched[:-1], "the link was switched a second time"
    await target.revert(ORDER)
    assert place.finished == [f"{ORDER.key} v1"]
    assert await target.settled("v1")


@runs_programs
async def test_a_deployment_after_a_kill_is_not_undone(name: str, target: Target, place: Place) -> None:
    place.hold()
    reverting = asyncio.create_task(target.revert(ORDER))
    await eventually(lambda: place.held)
    reverting.cancel()
    with suppress(asyncio.CancelledError):
        await reverting
    place.let_go()
    place.deploy("v3")
    with pytest.raises(Conflict):
        await target.revert(ORDER)
    assert (await in_place(target), place.finished) == ("v3", [f"{ORDER.key} v1"] if place.ATOMIC else [])


@runs_programs
async def test_cancelling_a_revert_leaves_no_process_and_can_be_finished(target: Target, place: Place) -> None:
    place.hold()
    reverting = asyncio.create_task(target.revert(ORDER))
    await eventually(lambda: place.held)
    reverting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reverting
    # killed, they need no more of us, but the kernel may still be at it
    await eventually(lambda: all(group_is_gone(pid) for pid in place.pids))
    place.let_go()
    await target.revert(ORDER)
    assert (await in_place(target), place.finished) == ("v1", [f"{ORDER.key} v1"])


# -- faults


def _calls(target: Target) -> list[Callable[[], Awaitable[object]]]:
    return [
        target.current,
        target.history,
        lambda: target.readiness("v1"),
        lambda: target.settled("v1"),
        lambda: target.revert(ORDER),
    ]


FAULTS = [
    _with_programs(target, fault)
    for target in registry.names("target")
    if target in PLACES
    for fault in PLACES[target].FAULTS
]


@pytest.mark.parametrize(("name", "fault"), FAULTS, indirect=["name"])
async def test_a_fault_is_told_in_our_own_errors_and_ends_readiness(
    name: str, place: Place, target: Target, fault: str
) -> None:
    place.FAULTS[fault](place)
    raised = []
    for call in _calls(target):
        try:
            await call()
        except RollbackdError as error:
            raised.append(error)
    assert raised, "nothing noticed the fault"
    assert all(str(error) and "\n" not in str(error) for error in raised)
    assert SECRET not in "".join("".join(traceback.format_exception(error)) for error in raised)
    with suppress(Temporary):
        assert not (await target.readiness("v1")).ready


@runs_programs
async def test_secrets_are_told_to_nobody(target: Target, place: Place) -> None:
    """What a revert runs gets the secret and prints it while failing."""
    place.fail()
    with capture_logs() as logs, pytest.raises(Temporary) as caught:
        await target.revert(ORDER)
    assert "cannot log in with" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(logs) + repr(vars(target))
    kept = b"".join(path.read_bytes() for path in place.state_dir.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept


async def test_closing_twice_is_safe(target: Target) -> None:
    await target.current()
    await target.close()
    await target.close()


# -- seeing deployments


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def watched(name: str, place: Place, clock: ManualClock) -> AsyncIterator[list[TargetChange]]:
    """What the target saw, after its first look."""
    target = build(name, place.settings, place.state_dir, clock)
    async with watching(target) as seen:
        await place.caught_up(clock)
        yield seen
    await target.close()


async def look_again(clock: ManualClock, place: Place) -> None:
    await clock.advance(Place.POLL)
    await place.caught_up(clock)


async def test_the_first_sight_is_no_deployment(watched: list[TargetChange], clock: ManualClock, place: Place) -> None:
    await look_again(clock, place)
    assert watched == []


async def test_a_deployment_is_seen_within_one_look(
    watched: list[TargetChange], clock: ManualClock, place: Place
) -> None:
    began = clock.now()
    place.deploy("v3")
    await look_again(clock, place)
    assert [(change.version, change.previous, change.phase) for change in watched] == [
        ("v3", "v2", "started"),
        ("v3", "v2", "finished"),
    ]
    assert all(began <= change.t <= clock.now() for change in watched)


async def test_watching_outlives_a_place_that_is_empty_for_a_while(
    watched: list[TargetChange], clock: ManualClock, place: Place
) -> None:
    place.vanish()
    await look_again(clock, place)
    await look_again(clock, place)
    place.deploy("v2")
    await look_again(clock, place)
    assert watched == []
    place.vanish()
    await look_again(clock, place)
    place.deploy("v3")
    await look_again(clock, place)
    assert [(change.version, change.previous) for change in watched] == [("v3", "v2"), ("v3", "v2")]


async def test_watching_outlives_a_place_that_is_gone_for_a_while(
    watched: list[TargetChange], clock: ManualClock, place: Place
) -> None:
    place.go_away()
    with capture_logs() as logs:
        await look_again(clock, place)
        await look_again(clock, place)
    assert len(logs) <= 1, "one fault is told once"
    place.come_back()
    place.deploy("v3")
    await look_again(clock, place)
    assert [change.version for change in watched] == ["v3", "v3"]


async def test_our_own_revert_is_seen_too(
    name: str, watched: list[TargetChange], clock: ManualClock, place: Place
) -> None:
    target = build(name, place.settings, place.state_dir, SystemClock())
    await target.revert(ORDER)
    await eventually_async(lambda: target.settled("v1"))
    await target.close()
    await look_again(clock, place)
    assert [(change.version, change.previous) for change in watched] == [("v1", "v2"), ("v1", "v2")]
