"""What an operator may set about each rule; every default is meant to be left alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rollbackd.fields import Duration, Model, Ratio, Switch


class ErrorRatioSettings(Model):
    """Worse means: error ratio above baseline x (1 + tolerance) + floor."""

    tolerance: Annotated[float, Field(ge=0)] = 0.15
    """How much larger than the baseline an error ratio may be, as a share of it."""
    floor: Ratio = 0.0003
    """How much larger than the baseline an error ratio may be, in requests of all requests."""


class LatencySettings(Model):
    """Worse means: more requests exceed a baseline quantile than if every request took (1 + tolerance) as long."""

    tolerance: Annotated[float, Field(ge=0)] = 0.1
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
    """Worse means: an error signature never seen before is logged more often than `per_minute`, and goes on."""

    lines: Annotated[int, Field(ge=1)] = 8
    """Fewer lines of a new kind of error convict nobody."""
    per_minute: Annotated[float, Field(gt=0)] = 1.0
    """So often a new kind of error may be logged."""


class LogRateSettings(Model):
    """Worse means: where no requests are counted, more error lines come than baseline x `factor` + `per_minute`."""

    factor: Annotated[float, Field(ge=1)] = 2.0
    """How many times as many error lines as before may come."""
    per_minute: Annotated[float, Field(ge=0)] = 1.0
    """So many error lines a minute are none too many, however few there were before."""


class AlertSettings(Model):
    """Worse means: an alert of one of these severities fires for `lasting` without resolving."""

    severities: tuple[str, ...] = ("critical", "page")
    """Alerts of other severities are shown, but never convict."""
    lasting: Duration = 75.0
    """How long the alert must have fired."""


class LevelSettings(Model):
    """Worse means: a backlog is `factor` times as high as ever and grows, or a usage nears its limit as never
    before."""

    factor: Annotated[float, Field(ge=1)] = 2.0
    """How many times its highest value of before a backlog may reach."""
    least: Annotated[float, Field(ge=0)] = 10.0
    """A backlog below this is none, however little there was before."""
    full: Ratio = 0.8
    """Up to this share of its limit a usage says nothing."""
    backlogs: tuple[str, ...] = ("queue", "queued", "backlog", "lag", "pending", "waiting")
    """Words in the name of a gauge that counts work waiting to be done."""
    usages: tuple[str, ...] = ("memory", "mem", "heap", "disk")
    """Words in the name of a gauge that is a share, 0 to 1, of a limit at which the service fails."""


class Rules(Model):
    """The default pack. Leave it out; or switch a rule off (`alert: off`); or set its fields."""

    error_ratio: Annotated[ErrorRatioSettings | None, Switch()] = ErrorRatioSettings()
    latency: Annotated[LatencySettings | None, Switch()] = LatencySettings()
    availability: Annotated[AvailabilitySettings | None, Switch()] = AvailabilitySettings()
    traffic_loss: Annotated[TrafficLossSettings | None, Switch()] = TrafficLossSettings()
    log_signature: Annotated[LogSignatureSettings | None, Switch()] = LogSignatureSettings()
    log_rate: Annotated[LogRateSettings | None, Switch()] = LogRateSettings()
    alert: Annotated[AlertSettings | None, Switch()] = AlertSettings()
    level: Annotated[LevelSettings | None, Switch()] = LevelSettings()
