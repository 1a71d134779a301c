"""Deployments as Argo CD tells them: its notifications, by the template that docs/webhooks/argocd.md gives.

Protocol: https://argo-cd.readthedocs.io/en/stable/operator-manual/notifications/services/webhook/. The template writes
the body, so the shape is ours; Argo CD's controller retries as the service's `retryMax` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from rollbackd.adapter import Adapter
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.deploys import DeploySettings, Whose, deployed
from rollbackd.intake.reading import decode
from rollbackd.model import Phase

PHASES: Mapping[str, Phase] = {"Running": "started", "Succeeded": "finished", "Failed": "failed", "Error": "failed"}
"""What the phase of a sync means to us. `Terminating` tells nothing yet."""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Sync(msgspec.Struct, frozen=True, rename="camel"):
    """What the template writes. A field that an application lacks is written as an empty text."""

    app: str
    phase: str
    revision: str = ""
    namespace: str = ""
    project: str = ""
    destination: str = ""
    images: list[str] | None = None
    started_at: str = ""
    finished_at: str = ""


class Config(DeploySettings):
    """Which of Argo CD's applications count. `services` may ask for `app`, `namespace`, `project` and `destination`."""

    version: Literal["revision", "image_tag"] = "revision"
    """What the target calls a release: the revision that was synced, or the tag of the application's image."""
    image: str = ""
    """With `image_tag`, the image whose tag counts where an application has several: its name without tag, or the end
    of it, as in `acme/checkout`."""


class ArgoCD(Intake):
    """`POST /hooks/argocd`."""

    path = "/hooks/argocd"
    scope: Scope = "deploy"
    body: object = Sync

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._config, self._whose = config, Whose(config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The sync as a deployment. Dropped: `no_change`, `no_revision`, `unknown_service`."""
        found = self._read(decode(delivery.body, Sync), delivery.received_at)
        return Reading(dropped={found: 1}) if isinstance(found, str) else Reading(accepted=(found,))

    def _read(self, sync: Sync, received_at: float) -> Accepted | str:
        phase = PHASES.get(sync.phase)
        if phase is None:
            return "no_change"
        said = {
            "app": sync.app,
            "namespace": sync.namespace,
            "project": sync.project,
            "destination": sync.destination,
        }
        service = self._whose.service(said, sync.app)
        if service is None:
            return "unknown_service"
        version = sync.revision if self._config.version == "revision" else self._tag(sync.images or [])
        if not version:
            return "no_revision"
        moment = (
            _moment("startedAt", sync.started_at) if phase == "started" else _moment("finishedAt", sync.finished_at)
        )
        return deployed(
            "argocd",
            service=service,
            version=version,
            phase=phase,
            at=moment,
            received_at=received_at,
            identity=(sync.namespace, sync.app, sync.started_at),
        )

    def _tag(self, images: list[str]) -> str:
        """The tag, or where there is none the digest, of the image that counts; empty where that is not one alone."""
        named = [image for image in images if _name(image).endswith(self._config.image)]
        if len(named) != 1:
            return ""
        tagged = named[0].partition("@")[0]
        return tagged[len(_name(named[0])) + 1 :] or named[0].partition("@")[2]


def _moment(field: str, text: str) -> datetime | None:
    """The moment; None where there is none. Raises Rejected for what is no moment."""
    if not text:
        return None
    try:
        return msgspec.convert(text, Moment)
    except msgspec.ValidationError:
        raise Rejected(f"`$.{field}` is no moment in RFC 3339: {text[:40]!a}") from None


def _name(image: str) -> str:
    """An image's name without tag and digest: a colon in its last part begins the tag, one before that a port."""
    path, slash, last = image.partition("@")[0].rpartition("/")
    return path + slash + last.partition(":")[0]


def build(config: Config, context: IntakeContext) -> ArgoCD:
    """The intake as configured."""
    return ArgoCD(config, context.services)


ADAPTER = Adapter(Config, build)
