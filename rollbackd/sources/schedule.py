"""A fixed rhythm: looks happen on a grid of moments that neither drifts nor bunches up after a stall."""

from __future__ import annotations

from rollbackd.aiokit import Clock


class Schedule:
    """`tick` returns at once the first time, then on every multiple of `interval` seconds after that moment.

    Moments that passed while the caller was busy are left out, not made up for.
    """

    def __init__(self, clock: Clock, interval: float) -> None:
        self._clock, self._interval = clock, interval
        self._start: float | None = None

    async def tick(self) -> None:
        """Wait for the next moment of the grid."""
        now = self._clock.monotonic()
        if self._start is None:
            self._start = now
            return
        done = (now - self._start) // self._interval
        await self._clock.sleep(self._start + (done + 1) * self._interval - now)
