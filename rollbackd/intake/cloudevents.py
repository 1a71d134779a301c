"""Alerts as CloudEvents: of types of our own, and incidents as CDEvents tell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.intake.alerts import Alerts, AlertSettings
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Scope, ServiceNames
from rollbackd.intake.cloudevent import (
    BODIES,
    CONTENT_TYPES,
    ENVIRONMENTS,
    SERVICE_LABELS,
    CdEvent,
    CloudEvent,
    elsewhere,
    labels,
    predicate,
    read_events,
    told_at,
)
from rollbackd.intake.reading import decode, moment
from rollbackd.model import AlertStatus

OWN = "io.rollbackd.alert."
INCIDENT = "dev.cdevents.incident."

_STATUSES: dict[tuple[str, str], AlertStatus] = {
    (OWN, "firing"): "firing",
    (OWN, "resolved"): "resolved",
    (INCIDENT, "detected"): "firing",
    (INCIDENT, "reported"): "firing",
    (INCIDENT, "resolved"): "resolved",
}


class AlertData(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `io.rollbackd.alert.firing` and `io.rollbackd.alert.resolved`.

    `service` may be left out where the event's subject or source names it. `began` (Unix seconds or ISO 8601) is the
    event's `time` where it is left out.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    severity: str = ""
    service: str | None = None
    environment: str | None = None
    began: str | float | None = None


class Config(AlertSettings):
    """How alerts are matched to services. Labels are `service` (what the data names), `subject`, `source`, their last
    parts `subject_name` and `source_name`, and `type`."""

    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = SERVICE_LABELS
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    environments: tuple[str, ...] = ENVIRONMENTS
    """Environments whose alerts count; `[]` takes all. An event that names none always counts."""


class CloudEvents(Intake):
    """`POST /hooks/cloudevents`."""

    path = "/hooks/cloudevents"
    scope: Scope = "ingest"
    content_types = CONTENT_TYPES
    body: object = dict
    bodies: Mapping[str, object] = BODIES

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._config = config
        self._alerts = Alerts("cloudevents", config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The alerts of known services. Dropped: `unknown_service`, `other_environment`, `malformed`, and `other_type`
        for events that are no alert; deployments have a path and a scope of their own."""
        return read_events(delivery, lambda event: self._accepted(event, delivery.received_at))

    def _accepted(self, event: CloudEvent, received_at: float) -> Accepted | str:
        kind, status = _status(event)
        if status is None:
            return "other_type"
        told = _incident(event) if kind == INCIDENT else decode(bytes(event.data), AlertData)
        if elsewhere(told.environment, self._config.environments):
            return "other_environment"
        service = self._alerts.service(labels(event, told.service))
        if service is None:
            return "unknown_service"
        at = told_at(event)
        began = moment(told.began, "$.data.began") if told.began is not None else at
        return self._alerts.accepted(
            service=service,
            name=told.name,
            status=status,
            severity=self._alerts.severity({self._config.severity_label: told.severity}, self._config.default_severity),
            identity=f"{event.source} {event.id}",
            began=began,
            ended=at if status == "resolved" else None,
            received_at=received_at,
        )


def _status(event: CloudEvent) -> tuple[str, AlertStatus | None]:
    for prefix in (OWN, INCIDENT):
        word = predicate(event, prefix)
        if word is not None:
            return prefix, _STATUSES.get((prefix, word))
    return "", None


def _incident(event: CloudEvent) -> AlertData:
    """An incident: its description changes when it is resolved, so its id is its name."""
    subject = decode(bytes(event.data), CdEvent).subject
    content = subject.content
    return AlertData(
        name=f"incident {subject.id}",
        service=content.service.id if content.service is not None else None,
        environment=content.environment.id if content.environment is not None else None,
    )


def build(config: Config, context: IntakeContext) -> CloudEvents:
    """The intake as configured."""
    return CloudEvents(config, context.services)


ADAPTER = Adapter(Config, build)
