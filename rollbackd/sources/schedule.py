"""A fixed rhythm: looks happen on a grid of moments that neither drifts nor bunches up after a stall."""

from __future__ import annotations

from rollbackd.aiokit import Clock
from rollbackd.sources.base import Commons

APART_S = 0.01
"""How far apart the sources of one daemon begin at least."""


class Turnstile:
    """Lets sources begin one after the other, and so stay spread over their interval, however many start together.

    One that starts alone begins at once; a thousand that start together on the usual ten seconds have one look every
    ten milliseconds from the first round on. Nobody waits longer than an interval: who would is fitted in between.
    """

    def __init__(self) -> None:
        self._free = 0.0

    def wait(self, now: float, interval: float) -> float:
        """Seconds that whoever comes at `now`, on a clock nobody sets, has to wait before its first look."""
        begins = max(now, self._free)
        self._free = begins + APART_S
        return (begins - now) % interval


class Schedule:
    """`tick` returns at its turn the first time, then on every multiple of `interval` seconds after that moment.

    Its turn is at once, unless other sources that share `commons` begin at this moment too. Moments that passed while
    the caller was busy are left out, not made up for.
    """

    def __init__(self, clock: Clock, interval: float, commons: Commons | None = None) -> None:
        self._clock, self._interval = clock, interval
        self._turnstile = commons.get("turnstile", Turnstile, Turnstile) if commons is not None else Turnstile()
        self._start: float | None = None
        self._moment = 0

    async def tick(self) -> None:
        """Wait for the next moment of the grid."""
        now = self._clock.monotonic()
        if self._start is None:
            self._start = now + self._turnstile.wait(now, self._interval)
        else:  # a clock may wake us a hair before the moment: that one is done nevertheless
            self._moment = max(self._moment, int((now - self._start) // self._interval)) + 1
        wait = self._start + self._moment * self._interval - now
        if wait > 0:
            await self._clock.sleep(wait)
