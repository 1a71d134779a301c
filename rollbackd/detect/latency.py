"""Rule `latency`: the new release answers more slowly."""

from __future__ import annotations

from rollbackd.fields import Model


class LatencySettings(Model):
    """Worse means: more requests slower than a baseline quantile than if every request took (1 + tolerance) as long."""

    tolerance: float = 0.15
