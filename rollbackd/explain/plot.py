"""Where the points of a chart lie, for whoever draws it: the scale, the stretch of time, and where there is no data."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TypeAlias

from rollbackd.explain.facts import falls
from rollbackd.model import Evidence

Point: TypeAlias = tuple[float, float]
"""A moment and the value at it."""

GAP_SPACINGS = 3.0
"""Points further apart than so many usual spacings have a gap between them, which stays empty: no data is no health."""
FAR_APART = 20.0
"""Values that differ by more than this factor need a logarithmic scale to be told from zero."""
MOST_DECADES = 5.0
"""A logarithmic scale reaches no further down than this."""
NEAR = 0.25
"""Where the values lie within this share of the largest, the scale does not begin at zero."""


@dataclass(frozen=True)
class Scale:
    """From a value to its share of the chart's height, 0 at the bottom."""

    low: float
    high: float
    logarithmic: bool

    def share(self, value: float) -> float:
        """Between 0 and 1; 0 as well for what a logarithmic scale has no place for."""
        if self.logarithmic:
            if value <= self.low:
                return 0.0
            part = math.log10(value / self.low) / math.log10(self.high / self.low)
        else:
            height = self.high / 2 - self.low / 2  # halves, since the whole can be more than a float holds
            part = (value / 2 - self.low / 2) / height if height > 0 else 0.5
        return min(max(part, 0.0), 1.0)


def scale_of(values: Sequence[float]) -> Scale:
    """A scale that has room for these values, of which there is at least one."""
    low, high = min(values), max(values)
    smallest = min((value for value in values if value > 0), default=0.0) / 2
    if low >= 0 and smallest > 0 and high / FAR_APART > smallest * 2:
        return Scale(max(smallest, high / 10**MOST_DECADES), high, logarithmic=True)
    if low == high == 0:
        return Scale(0.0, 1.0, logarithmic=False)
    if low == high:
        return Scale(_finite(min(low * 1.5, 0.0)), _finite(max(high * 1.5, 0.0)), logarithmic=False)
    spread = high / 2 - low / 2
    if low >= 0 and spread * 2 >= high * NEAR:
        return Scale(0.0, high, logarithmic=False)
    return Scale(_finite(low - spread * 0.3), high, logarithmic=False)


def _finite(value: float) -> float:
    return min(max(value, -sys.float_info.max), sys.float_info.max)


@dataclass(frozen=True)
class Plot:
    """A chart before it is drawn: `start` to `end` is its stretch of time, `spacing` the usual one between points.

    `low_is_bad` tells that less is worse.
    """

    points: tuple[Point, ...]
    scale: Scale
    start: float
    end: float
    deployed_at: float
    spacing: float
    low_is_bad: bool
    worse: float | None

    def place(self, at: float) -> float:
        """Where a moment lies, 0 at the left and 1 at the right."""
        return min(max((at - self.start) / (self.end - self.start), 0.0), 1.0)

    def is_worse(self, value: float) -> bool:
        """Whether a value lies beyond where worse begins."""
        if self.worse is None:
            return False
        return value < self.worse if self.low_is_bad else value > self.worse

    def runs(self) -> list[list[Point]]:
        """The points in stretches without a gap."""
        found: list[list[Point]] = [[self.points[0]]]
        for before, point in pairwise(self.points):
            if point[0] - before[0] > GAP_SPACINGS * self.spacing:
                found.append([])
            found[-1].append(point)
        return found

    def columns(self, count: int) -> list[float | None]:
        """The chart cut into columns of equal time, each with its worst value; None where there is no data."""
        width = (self.end - self.start) / count
        found = [self._held(self.start + (index + 0.5) * width) for index in range(count)]
        inside: dict[int, list[float]] = {}
        for at, value in self.points:
            inside.setdefault(self.column(at, count), []).append(value)
        for index, values in inside.items():
            found[index] = min(values) if self.low_is_bad else max(values)
        return found

    def column(self, at: float, count: int) -> int:
        """The column a moment lies in."""
        return min(int(self.place(at) * count), count - 1)

    def _held(self, at: float) -> float | None:
        """The value of the nearest point on the same side of the deployment, where no gap is in between."""
        same_side = [point for point in self.points if (point[0] > self.deployed_at) == (at > self.deployed_at)]
        if not same_side:
            return None
        nearest = min(same_side, key=lambda point: abs(point[0] - at))
        if abs(nearest[0] - at) <= self.spacing / 2:
            return nearest[1]
        between = self._neighbours(at)
        return nearest[1] if between is not None and between <= GAP_SPACINGS * self.spacing else None

    def _neighbours(self, at: float) -> float | None:
        """How far the points around a moment are apart; None where it lies outside of all points."""
        before = [point[0] for point in self.points if point[0] <= at]
        after = [point[0] for point in self.points if point[0] > at]
        return after[0] - before[-1] if before and after else None


def plot_of(evidence: Evidence, deployed_at: float, until: float | None) -> Plot | None:
    """The plot of what evidence shows, to its last point or `until` (the decision); None without points."""
    points = tuple(sorted(point for point in evidence.chart if all(map(math.isfinite, point))))
    if not points:
        return None
    moments = [points[0][0], points[-1][0], deployed_at, *_known(until)]
    start, end = min(moments), max(moments)
    if end <= start:
        start, end = start - 1, end + 1
    values = [value for _, value in points] + list(_known(evidence.worse, evidence.baseline))
    apart = [after[0] - before[0] for before, after in pairwise(points) if after[0] > before[0]]
    return Plot(
        points=points,
        scale=scale_of(values),
        start=start,
        end=end,
        deployed_at=deployed_at,
        spacing=median(apart) if apart else 0.0,
        low_is_bad=falls(evidence),
        worse=evidence.worse,
    )


def _known(*values: float | None) -> Iterable[float]:
    return (value for value in values if value is not None and math.isfinite(value))
