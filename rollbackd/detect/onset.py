"""When trouble began: the likelihood of every moment at which it may have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

WITHIN = 3.68
"""Nats below the best moment's likelihood up to which a moment is as good as any: half the 95 % critical value 7.35
of the likelihood ratio of a change point (Hansen 2000, "Sample splitting and threshold estimation", table I)."""


class Onset(msgspec.Struct, frozen=True):
    """The most likely moment, the earliest and the latest that are as good as likely, and the share since.

    `at` and `earliest` are beginnings of samples, `latest` is the end of one: within a sample nobody knows.
    """

    at: float
    earliest: float
    latest: float
    share: float


def pinpoint(
    samples: Sequence[tuple[float, float, float]], before: float, after: float, until: float = math.inf
) -> Onset | None:
    """When the share changed from `before` to about `after`, by maximum likelihood (Hinkley 1970).

    `samples` are (start, failures, total) in order of time, the last one ends at `until`. The share since is found
    along with the moment, in two rounds. None where nothing speaks for a change.
    """
    found: Onset | None = None
    for _ in range(2):
        found = _most_likely(samples, before, found.share if found is not None else after, until)
        if found is None:
            return None
    return found


def _most_likely(
    samples: Sequence[tuple[float, float, float]], before: float, after: float, until: float
) -> Onset | None:
    before = min(max(before, 1e-6), 1 - 2e-6)
    after = min(max(after, before + 1e-6), 1 - 1e-6)
    hit, miss = math.log(after / before), math.log((1 - after) / (1 - before))
    gain = failures = total = best = 0.0
    sums: list[float] = []
    share, place = after, -1
    for k in range(len(samples) - 1, -1, -1):
        _, failed, of = samples[k]
        gain += failed * hit + (of - failed) * miss
        failures, total = failures + failed, total + of
        sums.append(gain)
        if gain > best:
            best, place, share = gain, k, failures / total
    if place < 0:
        return None
    likely = [k for k, seen in zip(range(len(samples) - 1, -1, -1), sums, strict=True) if seen >= best - WITHIN]
    last = likely[0] + 1
    latest = samples[last][0] if last < len(samples) else until
    return Onset(samples[place][0], samples[likely[-1]][0], latest, share)
