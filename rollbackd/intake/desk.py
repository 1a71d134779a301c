"""Intakes at work: the deliveries of one come one after the other, and what takes long holds up no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rollbackd.intake.base import Delivery, Intake, Reading

LARGE_BYTES = 32 * 1024
"""A larger body is read in a thread: it may take longer than others should wait. The slowest to read, OpenTelemetry's
JSON, takes about 20 ms of so many."""


class Desk:
    """All intakes by name. Close it when nothing is delivered any more."""

    def __init__(self, intakes: Mapping[str, Intake]) -> None:
        self.intakes = intakes
        self._locks = {name: asyncio.Lock() for name in intakes}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")

    async def read(self, name: str, delivery: Delivery, ready: Callable[[], None]) -> Reading:
        """What a delivery holds. `ready` is asked when its turn has come, and may raise to send it away unread.

        Raises what `ready` and the intake raise.
        """
        intake = self.intakes[name]
        async with self._locks[name]:
            ready()
            if len(delivery.body) <= LARGE_BYTES:
                return intake.read(delivery)
            return await self._apart(partial(intake.read, delivery))

    async def settled(self, name: str, now: float) -> Reading:
        """What has become certain by now. An intake that follows many series looks through all of them now and then."""
        intake = self.intakes[name]
        if type(intake).settled is Intake.settled:
            return Reading()
        async with self._locks[name]:
            return await self._apart(partial(intake.settled, now))

    async def _apart(self, work: Callable[[], Reading]) -> Reading:
        """The work done in the thread."""
        reading = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(reading)
        finally:
            if not reading.done():  # cancelled: the next delivery must not begin before this one ends
                await asyncio.wait([reading])

    def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown(wait=False)
