"""A latency distribution as buckets: how large a share of requests takes longer than a given time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Histogram(msgspec.Struct, frozen=True):
    """Cumulative counts at rising bounds in seconds, the last bound infinite."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        return self.counts[-1] if self.counts else 0.0

    def slower(self, seconds: float) -> float:
        """Share of requests that took longer, log-linear between bounds (as in Prometheus, but for the log)."""
        if self.total <= 0:
            return 0.0
        low_bound, low_count = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if bound >= seconds:
                part = _position(low_bound, bound, seconds)
                return max(0.0, 1.0 - (low_count + part * (count - low_count)) / self.total)
            low_bound, low_count = bound, count
        return 0.0

    def quantile(self, q: float) -> float:
        """The time that a share `q` of requests stays below, in seconds; the last finite bound where it lies beyond."""
        rank = q * self.total
        low_bound, low_count = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > low_count:
                part = (rank - low_count) / (count - low_count)
                if math.isinf(bound):
                    return low_bound
                return low_bound * (bound / low_bound) ** part if low_bound > 0 else bound * part
            low_bound, low_count = bound, count
        return low_bound


def _position(low: float, high: float, at: float) -> float:
    """Where `at` lies in the bucket (low, high], from 0 to 1."""
    if math.isinf(high):
        return 0.0
    if high <= 0:
        return 1.0  # some libraries begin their buckets at 0, where nothing can lie
    if low <= 0:
        return max(at, 0.0) / high
    width = math.log(high) - math.log(low)
    return (math.log(at) - math.log(low)) / width if width > 0 else 1.0


def bounds_of(buckets: Sequence[str]) -> tuple[float, ...]:
    """The bounds of an event's bucket texts."""
    return tuple(math.inf if text == "+Inf" else float(text) for text in buckets)
