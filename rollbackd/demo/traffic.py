"""The demo's users: real requests at random moments, and a count of those that were harmed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from dataclasses import dataclass, field

import aiohttp

GIVE_UP_AFTER_S = 2.0
SLOW_IS = 2.0
"""A request is slow when it took more than so many times the median of the first release's."""
MANY = 100
"""So many answers are needed to know what is usual."""


@dataclass
class Tally:
    """What became of the requests since some moment."""

    total: int = 0
    failed: int = 0
    slow: int = 0
    first_harmed: float | None = None
    """When the first harmed request was sent, Unix seconds."""

    @property
    def harmed(self) -> int:
        """Requests that failed or were slow."""
        return self.failed + self.slow

    def add(self, sent: float, ok: bool, slow: bool) -> None:
        """Count one request."""
        self.total += 1
        self.failed += not ok
        self.slow += ok and slow
        if (not ok or slow) and (self.first_harmed is None or sent < self.first_harmed):
            self.first_harmed = sent


@dataclass
class Traffic:
    """Sends `rate` requests a second to `url`, each over a connection of its own, until cancelled."""

    url: str
    rate: float
    tally: Tally = field(default_factory=Tally)
    usual_s: float | None = None
    """The median time of an answer, once `learn_usual` was called; seconds."""
    _took: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Send until cancelled; requests under way are then dropped."""
        timeout = aiohttp.ClientTimeout(total=GIVE_UP_AFTER_S)
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as sends:
            next_at = time.monotonic()
            while True:
                next_at += random.expovariate(self.rate)
                await asyncio.sleep(max(next_at - time.monotonic(), 0.0))
                sends.create_task(self._send(session))

    def learn_usual(self) -> None:
        """Take what was seen up to now as usual, and count from here."""
        self.usual_s = statistics.median(self._took)
        self.tally = Tally()

    @property
    def knows_enough(self) -> bool:
        """Whether enough was answered for `learn_usual`."""
        return len(self._took) >= MANY

    async def _send(self, session: aiohttp.ClientSession) -> None:
        tally = self.tally
        sent, began, ok = time.time(), time.monotonic(), False
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            # POST, because aiohttp quietly repeats a GET whose connection broke off, and users are not that patient.
            async with session.post(self.url) as answer:
                await answer.read()
                ok = answer.status < 500
        took = time.monotonic() - began
        if self.usual_s is None:
            self._took.append(took)
        tally.add(sent, ok, self.usual_s is not None and took > SLOW_IS * self.usual_s)
