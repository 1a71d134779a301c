"""Histograms of OpenTelemetry as counts up to each bound, as events have them."""

from __future__ import annotations

from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint, HistogramDataPoint

from rollbackd.metrics import exponential as grid

_SCALES = range(-10, 21)
"""Scales that the data model allows; others would make bounds that no number can hold."""


def explicit(point: HistogramDataPoint, scale: float) -> dict[str, float]:
    """Counts up to the point's own bounds; `scale` makes seconds of its unit. Empty where they do not rise."""
    counts = [float(count) for count in point.bucket_counts]
    return grid.custom(list(point.explicit_bounds), counts, float(point.count), scale)


def exponential(point: ExponentialHistogramDataPoint, scale: float) -> dict[str, float]:
    """Counts up to fixed bounds. What is 0 or below counts to the first. Empty for a scale that the model forbids."""
    if point.scale not in _SCALES:
        return {}
    positive = point.positive
    buckets = ((positive.offset + place + 1, float(count)) for place, count in enumerate(positive.bucket_counts))
    below = float(point.zero_count) + float(sum(point.negative.bucket_counts))
    return grid.exponential(point.scale, buckets, below, float(point.count), scale)
