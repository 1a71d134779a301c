"""What the intakes of deployments share: whose a deployment is, when it was, and when two deliveries tell the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import Field

from rollbackd.fields import Model, Size
from rollbackd.intake.base import Accepted, Rejected, ServiceNames
from rollbackd.intake.reading import REACH_S, check, did_you_mean, fact_key, unix
from rollbackd.model import DeploymentEvent, Phase

AHEAD_S = 60.0
"""How far the sender's clock may run ahead of ours; such a moment counts as now."""


class DeploySettings(Model):
    """Which deployments are whose."""

    services: dict[str, Annotated[dict[str, str], Field(min_length=1)]] = Field(default_factory=dict)
    """By service: what a delivery must say to be about it, as in `checkout: {repository: acme/checkout}`. A service
    that is not listed is found by its name alone."""
    max_bytes: Annotated[Size, Field(gt=0)] = 1024 * 1024
    """The largest delivery, after decompression."""


class Whose:
    """Finds the service that a delivery speaks of."""

    def __init__(self, config: DeploySettings, services: ServiceNames) -> None:
        self._listed, self._services = config.services, services

    def service(self, said: Mapping[str, str], *names: str) -> str | None:
        """The configured service of which all that is listed is said, or else the first of `names` that is one."""
        known = self._services.known()
        for service, wanted in self._listed.items():
            if service in known and all(said.get(key) == value for key, value in wanted.items()):
                return service
        return next((name for name in names if name in known and name not in self._listed), None)


def unknown_service(place: str, service: str, known: frozenset[str], cure: str) -> Rejected:
    """The refusal of a deployment of a service that no configuration names: misspelt, it would go unwatched."""
    return Rejected(
        f"{place}: no service called `{service[:200]}` is configured{did_you_mean(service, known) or f'; {cure}'}",
        status=404,
        code="unknown_service",
    )


def deployed(
    intake: str,
    *,
    service: str,
    version: str,
    phase: Phase,
    at: datetime | float | None,
    received_at: float,
    identity: tuple[str | float | None, ...],
    previous: str | None = None,
    place: str = "$",
) -> Accepted:
    """A deployment as a fact, told apart from others by `identity`, service, version and phase.

    `at` None means now. Raises Rejected for a moment that is too old or in the future, and for what makes no event.
    """
    for name, text in (("service", service), ("version", version), ("previous", previous)):
        if text is not None and not text.isprintable():
            raise Rejected(f"`{place}.{name}` holds characters that cannot be printed: {text[:80]!a}")
    event = DeploymentEvent(
        t=_moment(unix(at) if isinstance(at, datetime) else at, f"{place}.at", received_at),
        service=service,
        version=version,
        previous=previous,
        phase=phase,
    )
    check(event)
    return Accepted(event=event, key=fact_key(intake, *identity, service, version, phase))


def _moment(at: float | None, place: str, received_at: float) -> float:
    if at is None:
        return received_at
    if at > received_at + AHEAD_S:
        raise Rejected(
            f"`{place}` lies {at - received_at:.0f} s in the future: set the sender's clock, or leave `at` out",
            status=422,
            code="bad_time",
        )
    if at < received_at - REACH_S:
        raise Rejected(
            f"`{place}` lies {received_at - at:.0f} s back, and only {REACH_S:.0f} s can still be taken in: "
            "tell deployments when they happen, or leave `at` out",
            status=422,
            code="bad_time",
        )
    return min(at, received_at)
