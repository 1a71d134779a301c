"""Rule `availability`: black-box probes of the new release fail."""

from __future__ import annotations

from rollbackd.fields import Duration, Model


class AvailabilitySettings(Model):
    """Worse means: probes fail without a break for `down_for`, or again and again for as long in sum."""

    down_for: Duration = 45.0
