"""Counts that tell only what came since the time before, added up: what follows them expects counters that rise."""

from __future__ import annotations

from collections.abc import Mapping

from rollbackd.metrics.growth import FORGET_AFTER_S
from rollbackd.metrics.pushed import Slot

SWEEP_S = 600.0
"""How often sums are looked for that nobody adds to any more."""


class Deltas:
    """The sums of the series that tell deltas, one a series, for an hour after the last."""

    def __init__(self) -> None:
        self._sums: dict[Slot, float] = {}
        self._buckets: dict[Slot, dict[str, float]] = {}
        self._swept = 0.0

    def number(self, slot: Slot, t: float, start: float, value: float) -> None:
        """`value` more than at `start`. One of the last one's moment is known already, an older one is dropped."""
        if slot not in self._sums:
            slot.take(min(start, t) if start else t - 1.0, 0.0)
        elif t <= slot.t:
            slot.take(t, value)
            return
        self._sums[slot] = self._sums.get(slot, 0.0) + value
        slot.take(t, self._sums[slot])

    def histogram(self, slot: Slot, t: float, start: float, buckets: Mapping[str, float]) -> None:
        """The same of a histogram's cumulative buckets; other bounds than before begin a new sum."""
        sums = self._buckets.get(slot)
        if sums is None or sums.keys() != buckets.keys():
            sums = self._buckets[slot] = dict.fromkeys(buckets, 0.0)
            slot.take_histogram(min(start, t) if start else t - 1.0, dict(sums))
        elif t <= slot.t:
            slot.take_histogram(t, buckets)
            return
        for bound, count in buckets.items():
            sums[bound] += count
        slot.take_histogram(t, dict(sums))

    def sweep(self, now: float) -> None:
        """Forget what was not heard for an hour."""
        if abs(now - self._swept) < SWEEP_S:
            return
        self._swept = now
        self._sums = {slot: one for slot, one in self._sums.items() if now - slot.t <= FORGET_AFTER_S}
        self._buckets = {slot: one for slot, one in self._buckets.items() if now - slot.t <= FORGET_AFTER_S}
