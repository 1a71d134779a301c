"""Deployments told by whoever makes them: a pipeline posts one small JSON object, or a list of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Model, Size
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Scope, ServiceNames
from rollbackd.intake.deploys import deployed, unknown_service
from rollbackd.intake.reading import RETRY_WINDOW_S, decode, unix
from rollbackd.model import Name, Phase


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deployment as its maker tells it.

    `at` is Unix seconds or RFC 3339 with an offset, and now where it is left out. `id` makes a repeated delivery
    recognisable: the same id, service, version and phase are one fact however often they are told.
    """

    service: Name
    version: Name
    previous: Name | None = None
    phase: Phase = "finished"
    at: float | Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class Config(Model):
    """Who may be deployed, and how much may be told at once."""

    unknown_services: Literal["reject", "accept"] = "reject"
    """`accept` takes deployments of services that no configuration names, and judges them by the default rules."""
    max_bytes: Annotated[Size, Field(gt=0)] = 256 * 1024
    """The largest delivery, after decompression."""


class Deployments(Intake):
    """`POST /api/v1/deployments`."""

    path = "/api/v1/deployments"
    scope: Scope = "deploy"
    body: object = Deployment | list[Deployment]

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._accept_unknown = config.unknown_services == "accept"
        self._services = services

    def read(self, delivery: Delivery) -> Reading:
        """All the deployments of a delivery, or Rejected: nothing of it counts then."""
        if delivery.body.lstrip()[:1] == b"[":
            told = decode(delivery.body, list[Deployment])
            places = [f"$[{index}]" for index in range(len(told))]
        else:
            told, places = [decode(delivery.body, Deployment)], ["$"]
        header = delivery.headers.get("idempotency-key", "").strip().strip('"')
        found = [
            self._accepted(one, place, f"{header} {place}" if header else None, delivery.received_at)
            for one, place in zip(told, places, strict=True)
        ]
        return Reading(accepted=tuple(sorted(found, key=lambda accepted: accepted.event.t)))

    def _accepted(self, told: Deployment, place: str, header_id: str | None, received_at: float) -> Accepted:
        known = self._services.known()
        if told.service not in known and not self._accept_unknown:
            cure = "add it to `services`, or set `unknown_services: accept`"
            raise unknown_service(f"`{place}.service`", told.service, known, cure)
        at = unix(told.at) if isinstance(told.at, datetime) else told.at
        return deployed(
            "deployments",
            service=told.service,
            version=told.version,
            previous=told.previous,
            phase=told.phase,
            at=at,
            received_at=received_at,
            identity=self._identity(told, at, header_id, received_at),
            place=place,
        )

    @staticmethod
    def _identity(
        told: Deployment, at: float | None, header_id: str | None, received_at: float
    ) -> tuple[str | float | None, ...]:
        stated = told.id if told.id is not None else header_id
        if stated is not None:
            return "id", stated
        if at is not None:
            return "at", at, told.previous
        return "window", received_at // RETRY_WINDOW_S, told.previous


def build(config: Config, context: IntakeContext) -> Deployments:
    """The intake as configured."""
    return Deployments(config, context.services)


ADAPTER = Adapter(Config, build)
