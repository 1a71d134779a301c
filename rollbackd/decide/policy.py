"""What an operator may set about judging a service; every default is meant to be left alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from rollbackd.detect.settings import Rules
from rollbackd.fields import Duration, Model, Moment


class FreezeWindow(Model):
    """A time in which nothing is to be changed without a human; both moments carry their UTC offset."""

    start: Moment
    """When it begins."""
    end: Moment
    """When it is over."""
    reason: str = "freeze window"
    """What people are told when something is not reverted because of it."""

    @model_validator(mode="after")
    def _in_order(self) -> FreezeWindow:
        if self.end <= self.start:
            raise ValueError("`end` must be after `start`")
        return self


class Policy(Model):
    """How one service is judged, and when acting on it would be unsafe. Times in seconds once read."""

    bake: Annotated[Duration, Field(gt=0)] = 3600.0
    """How long a deployment is watched."""
    warmup: Duration = 60.0
    """How long after a deployment trouble may pass for a warm-up; only failure of more than a tenth acts sooner."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.001
    """How probable a rollback by mere chance may be over one whole bake, shared among the rules: a bound for requests
    that fail independently and a baseline that is known."""
    rules: Rules = Rules()
    depends_on: tuple[str, ...] = ()
    """Services that this one calls: trouble that began there is not held against a deployment here."""
    cooldown: Duration = 600.0
    """After a rollback of the service, no further one for so long."""
    freeze: tuple[FreezeWindow, ...] = ()
    """No rollback inside these windows; people are told instead."""
    verify_for: Duration = 60.0
    """After a revert the service must look healthy for so long to count as verified."""
    verify_within: Duration = 900.0
    """A revert that is not verified after so long is escalated."""


class FleetPolicy(Model):
    """Limits over all services together."""

    rollbacks_per_hour: Annotated[int, Field(ge=0, le=100)] = 5
    """More rollbacks than this within an hour over the whole fleet: escalate instead, the cause is elsewhere."""
