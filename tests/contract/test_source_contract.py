"""What every registered source must do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import structlog.testing

from rollbackd import registry
from rollbackd.adapter import Adapter
from rollbackd.config.docstrings import field_docstrings
from tests.contract.sources import FAR_SIDES, SECRET, FarSide, build
from tests.support.clock import ManualClock
from tests.support.servers import Run, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually, eventually_async

MANY_LOOKS = 20
"""After so many looks a source must have noticed what changed."""


@pytest.fixture(params=registry.names("source"))
def name(request: pytest.FixtureRequest) -> str:
    found = str(request.param)
    assert found in FAR_SIDES, f"source `{found}` has no far side in tests/contract/sources.py"
    return found


@pytest.fixture
async def far_side(name: str, tmp_path: Path) -> AsyncIterator[FarSide]:
    one = FAR_SIDES[name](tmp_path)
    await one.start()
    yield one
    await one.stop()


async def looks(run: Run, far_side: FarSide, count: int = MANY_LOOKS) -> None:
    for _ in range(count):
        await run.after(far_side.interval)


async def comes_true(run: Run, far_side: FarSide, condition: Callable[[], bool]) -> bool:
    """Whether the condition holds after many looks; what comes to a source by itself may need real time as well."""
    for _ in range(MANY_LOOKS):
        if condition():
            return True
        await run.after(far_side.interval)
    with suppress(AssertionError):
        await eventually(condition, within=30)
    return condition()


async def becomes(run: Run, far_side: FarSide, sink: RecordingSink, state: str) -> None:
    """Look until the source says so."""
    assert await comes_true(run, far_side, lambda: sink.state.startswith(state)), (
        f"after {MANY_LOOKS} looks still `{sink.state}`, not `{state}`"
    )


async def happens(run: Run, far_side: FarSide, sink: RecordingSink) -> None:
    """Something happens, and the source tells of it."""
    before = len(sink.events)
    await far_side.happen()
    assert await comes_true(run, far_side, lambda: len(sink.events) > before), f"no event after {MANY_LOOKS} looks"


async def is_held_up(clock: ManualClock, far_side: FarSide, sink: RecordingSink) -> None:
    """Look until the source waits for room, however long its looks take."""

    async def waits() -> bool:
        await clock.advance(far_side.interval)
        return sink.waiting > 0

    await eventually_async(waits)


def held_open() -> list[str]:
    """The files and sockets of this process."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.append(f"{descriptor.name} {descriptor.readlink()}")
        except OSError:
            continue
    return sorted(found)


def test_it_is_an_adapter_with_a_configuration_that_explains_itself(name: str) -> None:
    adapter = registry.load("source", name)
    assert isinstance(adapter, Adapter)
    assert adapter.config.__doc__
    assert adapter.shorthand is None or adapter.shorthand in adapter.config.model_fields
    explained = field_docstrings(adapter.config)
    assert [field for field in adapter.config.model_fields if not explained.get(field)] == []


async def test_it_tells_what_happens(name: str, far_side: FarSide) -> None:
    clock = ManualClock()
    async with running(build(name, far_side, clock), clock) as (run, sink):
        for _ in range(3):
            await happens(run, far_side, sink)
    assert sink.history == ["up"]
    assert sink.drops == {}
    assert {event.service for event in sink.events} == {"shop"}


async def test_its_events_are_valid_and_in_order_of_time(name: str, far_side: FarSide) -> None:
    clock = ManualClock()
    began = clock.now()
    async with running(build(name, far_side, clock), clock) as (run, sink):
        for _ in range(3):
            await happens(run, far_side, sink)
            await far_side.break_()
            await looks(run, far_side, 7)
            await far_side.heal()
    assert sink.invalid() == []
    assert began <= sink.events[0].t <= sink.events[-1].t <= clock.now()


async def test_it_reports_a_gap_as_a_gap_and_goes_on_after_it(name: str, far_side: FarSide) -> None:
    """Down and up are told; in between there is no event, neither bad nor good nor zero."""
    clock = ManualClock()
    async with running(build(name, far_side, clock), clock) as (run, sink):
        await happens(run, far_side, sink)
        await looks(run, far_side, 5)
        await far_side.break_()
        told = len(sink.events)
        await becomes(run, far_side, sink, "down: ")
        await looks(run, far_side)
        assert len(sink.events) == told
        assert len(sink.history) == 2, "one gap is one `down`, with one reason"
        await far_side.heal()
        await happens(run, far_side, sink)
        assert sink.state == "up"


async def test_it_begins_while_the_far_side_is_broken(name: str, far_side: FarSide) -> None:
    clock = ManualClock()
    source = build(name, far_side, clock)
    await far_side.break_()
    async with running(source, clock) as (run, sink):
        await becomes(run, far_side, sink, "down: ")
        assert sink.events == []
        await far_side.heal()
        await becomes(run, far_side, sink, "up")
        await happens(run, far_side, sink)


async def test_building_it_touches_nothing(name: str, far_side: FarSide) -> None:
    await far_side.break_()
    before = held_open()
    build(name, far_side, ManualClock())
    assert held_open() == before
    assert not far_side.asked()


@pytest.mark.parametrize("moment", ["between looks", "in a gap", "while the queue is full"])
async def test_it_cancels_at_once_and_leaves_nothing_open(name: str, far_side: FarSide, moment: str) -> None:
    clock = ManualClock()
    tasks, held = asyncio.all_tasks(), held_open()
    async with running(build(name, far_side, clock), clock) as (run, sink):
        await happens(run, far_side, sink)
        if moment == "in a gap":
            await far_side.break_()
            await becomes(run, far_side, sink, "down: ")
            await far_side.heal()
            await becomes(run, far_side, sink, "up")
        elif moment == "while the queue is full":
            sink.hold()
            await far_side.happen()
            await is_held_up(clock, far_side, sink)
        run.task.cancel()
        await asyncio.wait([run.task], timeout=20)
        assert run.task.cancelled()
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    await far_side.break_()
    await far_side.heal()  # the far side lets go of its own ends, too
    await eventually(lambda: len(held_open()) == len(held))


async def test_it_can_run_again(name: str, far_side: FarSide) -> None:
    """A crashed source is started again; it looks afresh."""
    clock = ManualClock()
    source = build(name, far_side, clock)
    for _ in range(2):
        async with running(source, clock) as (run, sink):
            await happens(run, far_side, sink)


async def test_it_waits_while_the_queue_is_full(name: str, far_side: FarSide) -> None:
    """Back-pressure: it holds what it has, looks no further, and buffers nothing beside the queue."""
    clock = ManualClock()
    async with running(build(name, far_side, clock), clock) as (run, sink):
        await happens(run, far_side, sink)
        await looks(run, far_side, 2)
        told = len(sink.events)
        sink.hold()
        await far_side.happen()
        await is_held_up(clock, far_side, sink)
        assert sink.waiting == 1
        asked = far_side.asked()
        for _ in range(3):
            await far_side.happen()
            await clock.advance(10 * far_side.interval)
        assert (sink.waiting, len(sink.events), far_side.asked()) == (1, told, asked)
        sink.release()
        await looks(run, far_side, 2)
        assert len(sink.events) > told
        assert sink.invalid() == []


async def test_it_leaks_no_secret(name: str, far_side: FarSide) -> None:
    """Neither in what it says, nor in what it logs, nor in how its configuration shows itself."""
    clock = ManualClock()
    adapter = registry.load("source", name)
    config = adapter.config.model_validate(far_side.settings())
    if "secret" in json.dumps(adapter.config.model_json_schema()).lower():
        assert SECRET in str(far_side.settings()), "plant a secret"
    with structlog.testing.capture_logs() as logged:
        async with running(build(name, far_side, clock), clock) as (run, sink):
            await happens(run, far_side, sink)
            await far_side.break_()
            await becomes(run, far_side, sink, "down: ")
            await far_side.heal()
            await becomes(run, far_side, sink, "up")
    assert SECRET not in " ".join(
        [*sink.history, *sink.drops, str(logged), repr(config), str(config), repr(sink.events)]
    )
