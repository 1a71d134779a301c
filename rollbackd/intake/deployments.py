"""Deployments told by whoever makes them: a pipeline posts one small JSON object, or a list of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Model, Size
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.reading import REACH_S, check, decode, did_you_mean, fact_key, unix
from rollbackd.model import DeploymentEvent, Name, Phase

AHEAD_S = 60.0
"""How far the sender's clock may run ahead of ours; such an `at` counts as now."""

RETRY_WINDOW_S = 10.0
"""Without an id and a time, the same deployment told again within one such window of our clock is one deployment."""


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
        self._check(told, place)
        at = unix(told.at) if isinstance(told.at, datetime) else told.at
        event = DeploymentEvent(
            t=_moment(at, place, received_at),
            service=told.service,
            version=told.version,
            previous=told.previous,
            phase=told.phase,
        )
        check(event)
        what = (told.service, told.version, told.phase)
        identity = told.id if told.id is not None else header_id
        if identity is not None:
            return Accepted(event=event, key=fact_key("deployments", "id", identity, *what))
        if at is not None:
            return Accepted(event=event, key=fact_key("deployments", "at", at, told.previous, *what))
        window = received_at // RETRY_WINDOW_S
        return Accepted(event=event, key=fact_key("deployments", "window", window, told.previous, *what))

    def _check(self, told: Deployment, place: str) -> None:
        for field, text in (("service", told.service), ("version", told.version), ("previous", told.previous)):
            if text is not None and not text.isprintable():
                raise Rejected(f"`{place}.{field}` holds characters that cannot be printed: {text[:80]!a}")
        known = self._services.known()
        if told.service not in known and not self._accept_unknown:
            raise Rejected(
                f"`{place}.service`: no service called `{told.service}` is configured"
                + (did_you_mean(told.service, known) or "; add it to `services`, or set `unknown_services: accept`"),
                status=404,
                code="unknown_service",
            )


def _moment(at: float | None, place: str, received_at: float) -> float:
    if at is None:
        return received_at
    if at > received_at + AHEAD_S:
        raise Rejected(
            f"`{place}.at` lies {at - received_at:.0f} s in the future: set the sender's clock, or leave `at` out",
            status=422,
            code="bad_time",
        )
    if at < received_at - REACH_S:
        raise Rejected(
            f"`{place}.at` lies {received_at - at:.0f} s back, and only {REACH_S:.0f} s can still be taken in: "
            "tell deployments when they happen, or leave `at` out",
            status=422,
            code="bad_time",
        )
    return min(at, received_at)


def build(config: Config, context: IntakeContext) -> Deployments:
    """The intake as configured."""
    return Deployments(config, context.services)


ADAPTER = Adapter(Config, build)
