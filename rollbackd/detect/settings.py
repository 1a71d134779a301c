"""What an operator may set about each rule; every default is meant to be left alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rollbackd.fields import Duration, Model, Ratio, Switch


class ErrorRatioSettings(Model):
    """Worse means: error ratio above baseline x (1 + tolerance) + floor."""

    tolerance: Annotated[float, Field(ge=0)] = 0.5
    """How much larger than the baseline an error ratio may be, as a share of it."""
    floor: Ratio = 0.001
    """How much larger than the baseline an error ratio may be, in requests of all requests."""


class LatencySettings(Model):
    """Worse means: more requests exceed a baseline quantile than if every request took (1 + tolerance) as long."""

    tolerance: Annotated[float, Field(ge=0)] = 0.15
    """How much longer requests may take, as a share of what they took."""


class AvailabilitySettings(Model):
    """Worse means: probes fail without a break for `down_for`, or again and again for as long in sum."""

    down_for: Duration = 45.0
    """How long the service must be down, in one piece or added up over five minutes."""


class TrafficLossSettings(Model):
    """Worse means: less than `remaining` of the requests that were to be expected arrive."""

    remaining: Ratio = 0.5
    """Down to this share of the usual traffic nothing is said."""


class LogSignatureSettings(Model):
    """Worse means: a new error signature was logged at least `lines` times and keeps coming."""

    lines: Annotated[int, Field(ge=1)] = 12
    """How often a new kind of error must be logged."""


class AlertSettings(Model):
    """Worse means: an alert of one of these severities fires for `lasting` without resolving."""

    severities: tuple[str, ...] = ("critical", "page")
    """Alerts of other severities are shown, but never convict."""
    lasting: Duration = 90.0
    """How long the alert must have fired."""


class Rules(Model):
    """The default pack. Leave it out; or switch a rule off (`alert: off`); or set its fields."""

    error_ratio: Annotated[ErrorRatioSettings | None, Switch()] = ErrorRatioSettings()
    latency: Annotated[LatencySettings | None, Switch()] = LatencySettings()
    availability: Annotated[AvailabilitySettings | None, Switch()] = AvailabilitySettings()
    traffic_loss: Annotated[TrafficLossSettings | None, Switch()] = TrafficLossSettings()
    log_signature: Annotated[LogSignatureSettings | None, Switch()] = LogSignatureSettings()
    alert: Annotated[AlertSettings | None, Switch()] = AlertSettings()
