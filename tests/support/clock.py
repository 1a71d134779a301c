"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """Time stands still until `advance`; sleepers wake in order of their moment."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), waiter))
        await waiter

    @property
    def sleeping(self) -> int:
        """How many tasks wait for this clock now."""
        return sum(not waiter.done() for _, _, waiter in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move on, letting everything that wakes run until it waits again."""
        await settle()
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, waiter = heapq.heappop(self._sleepers)
            if waiter.done():
                continue
            self._now += max(at - self._elapsed, 0.0)
            self._elapsed = max(at, self._elapsed)
            waiter.set_result(None)
            await settle()
        self._now += end - self._elapsed
        self._elapsed = end
        await settle()


async def settle(rounds: int = 20) -> None:
    """Let ready tasks run."""
    for _ in range(rounds):
        await asyncio.sleep(0)
