"""Rule `traffic_loss`: requests no longer reach the new release."""

from __future__ import annotations

from rollbackd.fields import Model, Ratio


class TrafficLossSettings(Model):
    """Worse means: less than `remaining` of the requests that were to be expected arrive."""

    remaining: Ratio = 0.5
