"""A latency distribution as buckets: how large a share of requests takes longer than a given time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

TINY = 1e-9
"""Times below a nanosecond are as good as none."""


class Histogram(msgspec.Struct, frozen=True):
    """Cumulative counts at rising bounds in seconds, the last bound infinite."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        return self.counts[-1] if self.counts else 0.0

    def slower(self, seconds: float) -> float:
        """Share of requests that took longer: between two bounds, the log of its odds is linear in the log of time.

        Distributions of latency are log-normal or have heavier tails, which that follows far better than equal parts
        of a bucket; below the first bound it is equal parts.
        """
        total = self.total
        if total <= 0:
            return 0.0
        low_bound, low_count = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if bound >= seconds:
                if low_bound < TINY or math.isinf(bound) or count <= low_count:
                    part = _position(low_bound, bound, seconds)
                    return max(0.0, 1.0 - (low_count + part * (count - low_count)) / total)
                part = math.log(seconds / low_bound) / math.log(bound / low_bound)
                low, high = self._logit(low_count), self._logit(count)
                return 1.0 / (1.0 + math.exp(-(low + part * (high - low))))
            low_bound, low_count = bound, count
        return 0.0

    def quantile(self, q: float) -> float:
        """The time that a share `q` of requests stays below, in seconds; the last finite bound where it lies beyond."""
        rank = q * self.total
        low_bound, low_count = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > low_count:
                if math.isinf(bound):
                    return low_bound
                if low_bound < TINY:
                    return low_bound + (bound - low_bound) * (rank - low_count) / (count - low_count)
                low, high = self._logit(low_count), self._logit(count)
                part = (low - self._logit(rank)) / (low - high) if low > high else 1.0
                return low_bound * math.pow(bound / low_bound, min(max(part, 0.0), 1.0))
            low_bound, low_count = bound, count
        return low_bound

    def _logit(self, count: float) -> float:
        """The log odds of taking longer than so many requests did; half a request away from never and always."""
        half = min(0.5, self.total / 4)
        below = min(max(count, half), self.total - half)
        return math.log((self.total - below) / below)


def _position(low: float, high: float, at: float) -> float:
    """Where `at` lies in the bucket (low, high], from 0 to 1."""
    if math.isinf(high):
        return 0.0
    if high <= 0:
        return 1.0  # some libraries begin their buckets at 0, where nothing can lie
    if low < TINY:
        return min(max(at - low, 0.0) / (high - low), 1.0) if high > low else 1.0
    return (math.log(at) - math.log(low)) / (math.log(high) - math.log(low)) if high > low else 1.0


def merged(histograms: Sequence[Histogram]) -> Histogram:
    """The sum of histograms; of several layouts, of the one with most requests."""
    widest = max(histograms, key=lambda one: one.total, default=Histogram((), ()))
    fitting = [one.counts for one in histograms if one.bounds == widest.bounds and one.counts]
    return Histogram(widest.bounds, tuple(map(sum, zip(*fitting, strict=True)))) if len(fitting) > 1 else widest


def logit(p: float) -> float:
    """The log of the odds, finite also for 0 and 1."""
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))
