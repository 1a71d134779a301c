"""Exponential and custom histograms to counts up to fixed bounds, as events have them. No I/O.

Buckets: https://prometheus.io/docs/specs/native_histograms/. Bucket `i` of schema `s` holds what is above
`2**((i - 1) / 2**s)` and up to `2**(i / 2**s)`; OpenTelemetry numbers the same buckets from one less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

LEAST, MOST = 0.001, 64.0
"""The first and the last bound, about, in seconds."""

MAX_BOUNDS = 63
"""Bounds of a histogram that brings its own; of more, some are left out."""


@lru_cache(maxsize=16)
def grid(scale: float) -> tuple[int, tuple[str, ...]]:
    """The exponent of the first bound, in halves, and the bounds in seconds, of a unit of which `scale` makes seconds.

    They are a factor of the square root of 2 apart. Of every schema from 1 on that is every so manieth bound, so counts
    up to them are exact; a bucket of a coarser one counts from the bound on that holds all of it. So the bounds stay
    the same when a histogram becomes finer or coarser, as it does when it fills.
    """
    first, last = (round(2 * math.log2(seconds / scale)) for seconds in (LEAST, MOST))
    return first, tuple(format(2.0 ** (k / 2) * scale, ".12g") for k in range(first, last + 1))


def exponential(
    schema: int, buckets: Iterable[tuple[int, float]], below: float, total: float, scale: float
) -> dict[str, float]:
    """Counts up to each bound of the grid. `buckets` are numbers and counts of their own, `below` counts what is 0 or
    less, `total` everything."""
    first, bounds = grid(scale)
    counts = [0.0] * (len(bounds) + 1)
    counts[0] = below
    for number, count in buckets:
        half = -(-number >> (schema - 1)) if schema >= 1 else number << (1 - schema)
        counts[min(max(half - first, 0), len(bounds))] += count
    found: dict[str, float] = {}
    counted = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        counted += count
        found[bound] = counted
    found["+Inf"] = max(total, counted + counts[-1])
    return found


def custom(bounds: Sequence[float], counts: Sequence[float], total: float, scale: float) -> dict[str, float]:
    """Counts up to the histogram's own bounds; `counts` are each bucket's, that beyond the last bound among them.

    Empty where the bounds do not rise.
    """
    step = -(-len(bounds) // MAX_BOUNDS) or 1
    found: dict[str, float] = {}
    counted, last = 0.0, -math.inf
    for place, bound in enumerate(bounds):
        if not last < bound < math.inf:
            return {}
        last = bound
        counted += counts[place] if place < len(counts) else 0.0
        if place % step == step - 1:
            found[format(bound * scale + 0.0, ".12g")] = counted
    found["+Inf"] = max(total, counted + sum(counts[len(bounds) :]))
    return found
