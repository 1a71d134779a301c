"""The course of a signal around a deployment, in so few points that a decision can carry them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rollbackd.detect.base import Scene

MAX_POINTS = 60
"""Points of a chart."""
BEFORE_WARMUPS = 10.0
"""A chart begins so many warm-ups before the deployment at least, and as long before it as it goes on after it."""


def course(
    rows: Iterable[Sequence[float]], scene: Scene, value: Callable[[Sequence[float]], float | None]
) -> tuple[tuple[float, float], ...]:
    """Points (t, value) of rows `[start, end, sum, ...]`: their sums over equal spans, each at the end of its last row.

    A span without rows has no point, nor has one whose `value` is None.
    """
    after = max(scene.now - scene.deployed_at, BEFORE_WARMUPS * scene.warmup, 1.0)
    begin = scene.deployed_at - after
    span = (scene.now - begin) / MAX_POINTS
    sums: dict[int, list[float]] = {}
    for row in rows:
        if not begin < row[1] <= scene.now:
            continue
        place = min(int((row[1] - begin) / span), MAX_POINTS - 1)
        found = sums.get(place)
        if found is None:
            sums[place] = list(row)
        else:
            found[0], found[1] = min(found[0], row[0]), max(found[1], row[1])
            for k in range(2, len(row)):
                found[k] += row[k]
    points = ((found[1], value(found)) for _, found in sorted(sums.items()))
    return tuple((t, seen) for t, seen in points if seen is not None)
