"""The histogram message of Prometheus' remote write, which is the same in 1.0 and 2.0.

Format: https://github.com/prometheus/prometheus/blob/main/prompb/io/prometheus/write/v2/types.proto.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate

from rollbackd.metrics.exponential import custom, exponential
from rollbackd.wire import LENGTH, VARINT, Malformed, check, double, doubles, fields, signed, varints, zigzag

CUSTOM = -53
"""The schema of a histogram that brings its own bounds."""

GAUGE = 3
"""The reset hint of a histogram that is no counter."""

MAX_BUCKETS = 10_000
"""Buckets of one histogram that are read; Prometheus keeps a few hundred at the most."""


@dataclass
class Histogram:
    """One histogram sample, as it was sent."""

    count: float = 0.0
    sum: float = 0.0
    schema: int = 0
    zero: float = 0.0
    spans: list[tuple[int, int]] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)
    negative: float = 0.0
    bounds: list[float] = field(default_factory=list)
    gauge: bool = False
    t: float = 0.0
    start: float = 0.0

    def buckets(self, scale: float) -> dict[str, float]:
        """Counts up to each bound in seconds; empty where it is of a kind that has no such counts."""
        if self.gauge:
            return {}
        if self.schema == CUSTOM:
            places = dict(self._numbered())
            counts = [places.get(place, 0.0) for place in range(len(self.bounds) + 1)]
            return custom(self.bounds, counts, self.count, scale)
        if not -4 <= self.schema <= 8:
            return {}
        return exponential(self.schema, self._numbered(), self.zero + self.negative, self.count, scale)

    def _numbered(self) -> list[tuple[int, float]]:
        numbers: list[int] = []
        at = 0
        for offset, length in self.spans:
            at += offset
            numbers.extend(range(at, at + min(length, len(self.counts) - len(numbers))))
            at += length
        return list(zip(numbers, self.counts, strict=False))


def read_histogram(body: bytes, begin: int, end: int) -> Histogram:
    """The message in `body[begin:end]`. Raises Malformed."""
    found = Histogram()
    deltas: list[int] = []
    negative_deltas: list[int] = []
    for one in fields(body, begin, end):
        match one.number:
            case 1 | 6:
                count = float(check(one, VARINT).value)
                found.count, found.zero = (count, found.zero) if one.number == 1 else (found.count, count)
            case 2:
                found.count = double(body, one)
            case 3:
                found.sum = double(body, one)
            case 4:
                found.schema = zigzag(check(one, VARINT).value)
            case 7:
                found.zero = double(body, one)
            case 9:
                negative_deltas += map(zigzag, varints(body, one, MAX_BUCKETS))
            case 10:
                found.negative += math.fsum(doubles(body, one, MAX_BUCKETS))
            case 11:
                found.spans.append(_span(body, check(one, LENGTH).begin, one.end))
            case 12:
                deltas += map(zigzag, varints(body, one, MAX_BUCKETS))
            case 13:
                found.counts += doubles(body, one, MAX_BUCKETS)
            case 14:
                found.gauge = check(one, VARINT).value == GAUGE
            case 15:
                found.t = signed(check(one, VARINT).value) / 1000
            case 16:
                found.bounds += doubles(body, one, MAX_BUCKETS)
            case 17:
                found.start = signed(check(one, VARINT).value) / 1000
            case _:
                pass  # the breadth of the zero bucket, the spans of negative durations, and what is yet to come
        if max(len(found.counts), len(deltas), len(negative_deltas), len(found.bounds), len(found.spans)) > MAX_BUCKETS:
            raise Malformed("a histogram has more buckets than can be meant")
    found.counts += map(float, accumulate(deltas))
    found.negative += float(sum(accumulate(negative_deltas)))
    return found


def _span(body: bytes, begin: int, end: int) -> tuple[int, int]:
    offset = length = 0
    for one in fields(body, begin, end):
        if one.number == 1:
            offset = zigzag(check(one, VARINT).value)
        elif one.number == 2:
            length = check(one, VARINT).value
    return offset, length
