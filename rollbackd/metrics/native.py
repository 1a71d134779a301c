"""Native histograms, as the query API shows them, to the classic series that they would have been. No I/O.

Format: https://prometheus.io/docs/prometheus/latest/querying/api/#native-histograms.
"""

from __future__ import annotations

import math
from functools import cache

import msgspec

MAX_BUCKETS = 10_000
"""Buckets of one sample that are read; Prometheus keeps a few hundred at the most."""


class NativeSample(msgspec.Struct, frozen=True):
    """One sample: observations, their sum, and `[rule, left, right, count]` of each bucket that holds any."""

    count: str
    sum: str = "NaN"
    buckets: list[tuple[int, str, str, str]] = []


@cache
def _bounds(scale: float) -> tuple[float, ...]:
    """About 1 ms to a minute in steps of the square root of 2, in a unit of which `scale` makes seconds.

    The bounds of every resolution from schema 1 on are these and others between, so that counts up to these are exact;
    a coarser bucket is counted from the bound on that holds all of it.
    """
    first, last = (round(2 * math.log2(seconds / scale)) for seconds in (0.001, 64.0))
    return tuple(2.0 ** (k / 2) for k in range(first, last + 1))


def classic(sample: NativeSample, scale: float) -> dict[str, float]:
    """Counts up to some bounds, by `le` in the histogram's own unit, of which `scale` makes seconds.

    Empty where it holds something that is no number.
    """
    try:
        total = float(sample.count)
        buckets = sorted((float(right), float(count)) for _, _, right, count in sample.buckets[:MAX_BUCKETS])
    except ValueError:
        return {}
    if not math.isfinite(total) or any(math.isnan(right) or not math.isfinite(count) for right, count in buckets):
        return {}
    found: dict[str, float] = {}
    place, counted = 0, 0.0
    for bound in _bounds(scale):
        edge = bound * (1 + 1e-9)  # what is printed as text may differ in its last digit
        while place < len(buckets) and buckets[place][0] <= edge:
            counted += buckets[place][1]
            place += 1
        found[format(bound, ".12g")] = counted
    return found | {"+Inf": total}
