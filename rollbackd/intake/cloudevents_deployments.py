"""Deployments as CloudEvents: of types of our own, and services as CDEvents tell of them.

A path of its own, since a deployment needs the scope `deploy`: who may tell of alerts must not thereby tell of
deployments.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from rollbackd.adapter import Adapter
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
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
from rollbackd.intake.deploys import DeploySettings, Whose, deployed
from rollbackd.intake.reading import decode
from rollbackd.model import Name, Phase

OWN = "io.rollbackd.deployment."
SERVICE = "dev.cdevents.service."

_PHASES: dict[tuple[str, str], Phase] = {
    (OWN, "started"): "started",
    (OWN, "finished"): "finished",
    (OWN, "failed"): "failed",
    (SERVICE, "deployed"): "finished",
    (SERVICE, "upgraded"): "finished",
    (SERVICE, "rolledback"): "finished",
}


class DeploymentData(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `io.rollbackd.deployment.started`, `.finished` and `.failed`.

    `service` may be left out where the event's subject or source names it.
    """

    version: Name
    previous: Name | None = None
    service: str | None = None
    environment: str | None = None


class Config(DeploySettings):
    """Which deployments are whose. Said are `service` (what the data names), `subject`, `source`, their last parts
    `subject_name` and `source_name`, and `type`."""

    environments: tuple[str, ...] = ENVIRONMENTS
    """Environments whose deployments count; `[]` takes all. An event that names none always counts."""


class CloudEventsDeployments(Intake):
    """`POST /hooks/cloudevents/deployments`."""

    path = "/hooks/cloudevents/deployments"
    scope: Scope = "deploy"
    content_types = CONTENT_TYPES
    body: object = dict
    bodies: Mapping[str, object] = BODIES

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._environments, self._whose = config.environments, Whose(config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The deployments of known services. Dropped: `unknown_service`, `other_environment`, `malformed`, `bad_time`,
        and `other_type` for events that are no deployment."""
        return read_events(delivery, lambda event: self._accepted(event, delivery.received_at))

    def _accepted(self, event: CloudEvent, received_at: float) -> Accepted | str:
        kind, phase = _phase(event)
        if phase is None:
            return "other_type"
        told = _service(event) if kind == SERVICE else decode(bytes(event.data), DeploymentData)
        if elsewhere(told.environment, self._environments):
            return "other_environment"
        said = labels(event, told.service)
        service = self._whose.service(said, *(said[label] for label in SERVICE_LABELS))
        if service is None:
            return "unknown_service"
        return deployed(
            "cloudevents_deployments",
            service=service,
            version=told.version,
            previous=told.previous,
            phase=phase,
            at=told_at(event),
            received_at=received_at,
            identity=(event.source, event.id),
        )


def _phase(event: CloudEvent) -> tuple[str, Phase | None]:
    for prefix in (OWN, SERVICE):
        word = predicate(event, prefix)
        if word is not None:
            return prefix, _PHASES.get((prefix, word))
    return "", None


def _service(event: CloudEvent) -> DeploymentData:
    """What a CDEvent says; its artifact is a package URL, https://github.com/package-url/purl-spec."""
    subject = decode(bytes(event.data), CdEvent).subject
    purl = subject.content.artifact_id or ""
    before, at, version = purl.partition("?")[0].partition("#")[0].rpartition("@")
    if not (before and at and version):
        raise Rejected(f"`$.data.subject.content.artifactId` is no package URL with a version: {purl[:200]!a}")
    environment = subject.content.environment
    return DeploymentData(
        version=unquote(version), service=subject.id, environment=environment.id if environment is not None else None
    )


def build(config: Config, context: IntakeContext) -> CloudEventsDeployments:
    """The intake as configured."""
    return CloudEventsDeployments(config, context.services)


ADAPTER = Adapter(Config, build)
