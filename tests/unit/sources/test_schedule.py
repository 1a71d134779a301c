"""When sources look: each on a grid of its own, and many not all at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from rollbackd.sources.base import Commons
from rollbackd.sources.schedule import Schedule
from tests.support.clock import ManualClock


class Crowd:
    """Sources of one daemon that do nothing but look."""

    def __init__(self) -> None:
        self.clock, self.commons = ManualClock(), Commons()
        self.looks: dict[int, list[float]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def joined_by(self, count: int, interval: float) -> None:
        for _ in range(count):
            looks: list[float] = []
            self.looks[len(self.looks)] = looks
            self._tasks.append(asyncio.create_task(self._look(looks, interval)))
        await self.clock.advance(0)

    async def _look(self, looks: list[float], interval: float) -> None:
        schedule = Schedule(self.clock, interval, self.commons)
        while True:
            await schedule.tick()
            looks.append(self.clock.monotonic())

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_source_alone_looks_at_once_and_then_on_its_grid() -> None:
    crowd = Crowd()
    await crowd.joined_by(1, 10.0)
    await crowd.clock.advance(20)
    await crowd.joined_by(1, 10.0)
    assert crowd.looks == {0: [0.0, 10.0, 20.0], 1: [20.0]}
    await crowd.leave()


@pytest.mark.parametrize(("count", "interval"), [(20, 10.0), (1000, 10.0), (1000, 3.0)])
async def test_sources_that_begin_together_stay_apart(count: int, interval: float) -> None:
    crowd = Crowd()
    await crowd.joined_by(count, interval)
    await crowd.clock.advance(2 * interval)
    assert all(looks[0] <= interval for looks in crowd.looks.values())
    assert all(looks[1] == pytest.approx(looks[0] + interval) for looks in crowd.looks.values())
    in_a_tenth = Counter(int(looks[1] * 10 + 1e-6) for looks in crowd.looks.values())
    assert max(in_a_tenth.values()) <= 10 * (1 + count * 0.01 // interval)
    await crowd.leave()


async def test_after_a_stall_everyone_is_back_on_its_grid() -> None:
    clock = ManualClock()
    schedule = Schedule(clock, 10.0)
    await schedule.tick()
    await clock.advance(34)
    waiting = asyncio.create_task(schedule.tick())
    await clock.advance(5.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert waiting.done()
