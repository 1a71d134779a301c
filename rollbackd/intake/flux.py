"""Deployments as Flux tells them: events of its notification-controller, posted by providers `generic` and
`generic-hmac`.

Protocol: https://fluxcd.io/flux/components/notification/providers/#generic-webhook and #generic-webhook-with-hmac, and
the event's fields in github.com/fluxcd/pkg, apis/event/v1beta1. The controller retries what was not answered with 2xx a
few times.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from rollbackd.adapter import Adapter
from rollbackd.fields import Secret
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Scope, ServiceNames
from rollbackd.intake.deploys import DeploySettings, Whose, deployed
from rollbackd.intake.reading import decode
from rollbackd.intake.signature import SignedBody
from rollbackd.model import Phase

PHASES: Mapping[str, Phase] = {
    "InstallSucceeded": "finished",
    "UpgradeSucceeded": "finished",
    "RollbackSucceeded": "finished",
    "ReconciliationSucceeded": "finished",
    "InstallFailed": "failed",
    "UpgradeFailed": "failed",
    "ReconciliationFailed": "failed",
    "HealthCheckFailed": "failed",
}
"""What a reason of helm-controller or kustomize-controller means to us; others tell of no deployment."""


class Involved(msgspec.Struct, frozen=True):
    """What was reconciled."""

    kind: str
    name: str
    namespace: str = ""


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """An event; `metadata` holds the revision under `revision`, or behind the controller's group name."""

    involved_object: Involved
    reason: str
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    metadata: dict[str, str] = {}


class Config(DeploySettings):
    """Which of Flux' events count. `services` may ask for `kind`, `name`, `namespace` and any text of the event's
    `metadata`, the `eventMetadata` of an Alert among it.
    """

    secret: Secret | None = None
    """The `token` of a `generic-hmac` provider's secret; with a `generic` one, send a token of ours in its
    `headers`."""
    kinds: tuple[str, ...] = ("HelmRelease", "Kustomization")
    """Objects whose reconciliation is a deployment."""
    version: Literal["revision", "commit", "tag"] = "revision"
    """What the target calls a release: the revision as Flux writes it (`6.5.1`, `main@sha1:6f2ae2c3...`), the part
    behind `sha1:` or `sha256:`, or the part before `@`."""


class Flux(Intake):
    """`POST /hooks/flux`."""

    path = "/hooks/flux"
    scope: Scope = "deploy"
    body: object = Event

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._config, self._whose = config, Whose(config, services)
        if config.secret is not None:
            self.signature = SignedBody("flux", config.secret, "x-signature", prefix="sha256=")

    def read(self, delivery: Delivery) -> Reading:
        """The deployment. Dropped: `other_event`, `no_revision`, `unknown_service`."""
        found = self._read(decode(delivery.body, Event), delivery.received_at)
        return Reading(dropped={found: 1}) if isinstance(found, str) else Reading(accepted=(found,))

    def _read(self, event: Event, received_at: float) -> Accepted | str:
        phase, involved = PHASES.get(event.reason), event.involved_object
        if phase is None or involved.kind not in self._config.kinds:
            return "other_event"
        said = {**event.metadata, "kind": involved.kind, "name": involved.name, "namespace": involved.namespace}
        service = self._whose.service(said, event.metadata.get("service", ""), involved.name)
        if service is None:
            return "unknown_service"
        version = self._version(event.metadata)
        if not version:
            return "no_revision"
        return deployed(
            "flux",
            service=service,
            version=version,
            phase=phase,
            at=event.timestamp,
            received_at=received_at,
            identity=(involved.kind, involved.namespace, involved.name, event.timestamp.isoformat()),
        )

    def _version(self, metadata: Mapping[str, str]) -> str:
        found = next((value for key, value in metadata.items() if key.rpartition("/")[2] == "revision"), "")
        tag, _, digest = found.partition("@")
        commit = digest.partition(":")[2] or digest
        return {"revision": found, "commit": commit or found, "tag": tag}[self._config.version]


def build(config: Config, context: IntakeContext) -> Flux:
    """The intake as configured."""
    return Flux(config, context.services)


ADAPTER = Adapter(Config, build)
