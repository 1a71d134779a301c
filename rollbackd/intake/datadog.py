"""Alerts of Datadog monitors, through its webhook integration and the payload that docs/webhooks/datadog.md gives.

Protocol: https://docs.datadoghq.com/integrations/webhooks/: the payload is a template of the user's, in which Datadog
puts its variables, each as text. It tries again after 5xx and lost connections, five times, and never after 4xx.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from rollbackd.adapter import Adapter
from rollbackd.intake.alerts import AlertMatching, Alerts
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.reading import decode, moment
from rollbackd.model import AlertStatus

_TRANSITIONS: dict[str, tuple[AlertStatus, str]] = {
    "triggered": ("firing", "critical"),
    "warn": ("firing", "warning"),
    "recovered": ("resolved", ""),
}
"""What each transition means, and the severity of the threshold that it is about, in Datadog's own words for it."""
_LEFT_OUT = {
    "no data": "no_data",
    "re-no data": "no_data",
    "re-triggered": "repeated",
    "re-warn": "repeated",
    "renotify": "repeated",
}
_STATED = re.compile(r"\[(?:Re-)?(?:Triggered|Warn|No Data|Recovered|Renotify)\b[^\]]*\]\s*", re.IGNORECASE)
"""What Datadog puts before a monitor's name in the title of an event."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What the template of the documentation makes; everything is text, as variables are."""

    transition: str
    """`$ALERT_TRANSITION`"""
    alert_id: Annotated[str, msgspec.Meta(min_length=1)]
    """`$ALERT_ID`: which monitor."""
    date: str
    """`$DATE`: when it happened, in milliseconds."""
    title: str = ""
    """`$ALERT_TITLE`"""
    cycle: str = ""
    """`$ALERT_CYCLE_KEY`: the same from the trigger to the recovery."""
    scope: str = ""
    """`$ALERT_SCOPE`: the tags of the group that triggered, with commas between them."""
    tags: str = ""
    """`$TAGS`: the event's tags, with commas between them."""


class Config(AlertMatching):
    """How alerts are matched to services: labels are the tags `name:value` of the group, then those of the event."""


class Datadog(Intake):
    """`POST /hooks/datadog`."""

    path = "/hooks/datadog"
    scope: Scope = "ingest"
    body: object = Notification

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._alerts = Alerts("datadog", config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The alert of a known service. Dropped: `unknown_service`, `no_data`, and `repeated`, which tells of an alert
        that fires already and not when it began."""
        one = self._accepted(decode(delivery.body, Notification), delivery.received_at)
        return Reading(dropped={one: 1}) if isinstance(one, str) else Reading(accepted=(one,))

    def _accepted(self, told: Notification, received_at: float) -> Accepted | str:
        transition = told.transition.strip().lower()
        if transition in _LEFT_OUT:
            return _LEFT_OUT[transition]
        if transition not in _TRANSITIONS:
            known = ", ".join([*_TRANSITIONS, *_LEFT_OUT])
            raise Rejected(f"`$.transition` is `{told.transition[:40]}`, known are {known}: is it `$ALERT_TRANSITION`?")
        status, severity = _TRANSITIONS[transition]
        labels = _tags(told.tags) | _tags(told.scope)
        service = self._alerts.service(labels)
        if service is None:
            return "unknown_service"
        at = moment(told.date, "$.date")
        return self._alerts.accepted(
            service=service,
            name=_STATED.sub("", told.title, count=1).strip() or f"monitor {told.alert_id}",
            status=status,
            severity=self._alerts.severity(labels, severity or "warning"),
            identity=f"{told.alert_id} {told.cycle or told.scope} {transition}",
            began=at,
            ended=at if status == "resolved" else None,
            received_at=received_at,
            instance=f"{told.alert_id} {told.cycle or told.scope}",
        )


def _tags(text: str) -> dict[str, str]:
    """The tags by their names, the first of each; those without a value are left out."""
    found: dict[str, str] = {}
    for tag in text.split(","):
        name, colon, value = tag.strip().partition(":")
        if colon:
            found.setdefault(name, value)
    return found


def build(config: Config, context: IntakeContext) -> Datadog:
    """The intake as configured."""
    return Datadog(config, context.services)


ADAPTER = Adapter(Config, build)
