"""Rule `error_ratio`: the new release fails a larger share of its requests."""

from __future__ import annotations

from rollbackd.fields import Model, Ratio


class ErrorRatioSettings(Model):
    """Worse means: error ratio above baseline x (1 + tolerance) + floor."""

    tolerance: float = 0.5
    floor: Ratio = 0.001
