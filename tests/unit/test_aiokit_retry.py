"""Trying again after Temporary errors."""

from __future__ import annotations

import asyncio

import pytest

from rollbackd.aiokit import RetryPolicy, retry
from rollbackd.errors import Permanent, Temporary
from tests.support.clock import ManualClock


class Flaky:
    """Fails with these, then answers."""

    def __init__(self, *faults: Exception) -> None:
        self._faults = list(faults)

    async def call(self) -> str:
        if self._faults:
            raise self._faults.pop(0)
        return "answer"


async def finished(task: asyncio.Task[str], clock: ManualClock) -> str:
    while not task.done():
        await clock.advance(1)
    return await task


async def test_a_lambda_is_awaited_like_any_coroutine_function() -> None:
    flaky, clock = Flaky(), ManualClock()
    assert await retry(lambda: flaky.call(), RetryPolicy(), clock) == "answer"


async def test_temporary_trouble_is_ridden_out_and_told() -> None:
    flaky, clock = Flaky(Temporary("busy"), Temporary("busy", retry_after=7)), ManualClock()
    told: list[float] = []
    task = asyncio.create_task(retry(flaky.call, RetryPolicy(), clock, lambda _error, wait: told.append(wait)))
    assert await finished(task, clock) == "answer"
    assert told[1] >= 7, "what the peer asked for is not undercut"


async def test_other_faults_are_not_retried() -> None:
    with pytest.raises(Permanent):
        await retry(Flaky(Permanent("no")).call, RetryPolicy(), ManualClock())


async def test_the_last_fault_is_raised_when_time_is_up() -> None:
    flaky, clock = Flaky(*(Temporary(f"busy {n}") for n in range(100))), ManualClock()
    task = asyncio.create_task(retry(flaky.call, RetryPolicy(within=60), clock))
    with pytest.raises(Temporary, match="busy"):
        await finished(task, clock)
    assert clock.monotonic() <= 61
