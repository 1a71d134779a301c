"""What the intakes of alerts share: whose an alert is, when it began, and when two deliveries tell the same fact."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from rollbackd.fields import Model, Size
from rollbackd.intake.base import Accepted, ServiceNames
from rollbackd.intake.matching import owner
from rollbackd.intake.reading import REACH_S, check, fact_key
from rollbackd.model import Alert, AlertStatus

LENGTH = 500  # the bound of model.Name and model.Text
INSTANCE_LENGTH = 100
"""Of what tells an alert from others of its name, so much is kept as it is; of more, a digest."""


class AlertMatching(Model):
    """How alerts are matched to services."""

    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = ("service", "app", "job")
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    match: dict[str, Annotated[dict[str, str], Field(min_length=1)]] = Field(default_factory=dict)
    """By service: labels with the values that all must have, for alerts that the labels above do not name."""
    severity_label: str = "severity"
    """The label that tells how severe an alert is."""
    max_bytes: Annotated[Size, Field(gt=0)] = 4 * 1024 * 1024
    """The largest delivery, after decompression."""


class AlertSettings(AlertMatching):
    """The same, for senders that know no severity of their own."""

    default_severity: Annotated[str, Field(max_length=LENGTH)] = "warning"
    """The severity of alerts that carry no such label."""


class Alerts:
    """Makes events of alerts. `intake` is the name of the intake, which facts are told apart by."""

    def __init__(self, intake: str, config: AlertMatching, services: ServiceNames) -> None:
        self._intake, self._config, self._services = intake, config, services

    def service(self, labels: Mapping[str, str]) -> str | None:
        """The configured service that the labels name."""
        return owner(labels, self._services.known(), self._config.service_labels, self._config.match)

    def severity(self, labels: Mapping[str, str], default: str) -> str:
        """What the labels say of its severity, else `default`."""
        return printable(labels.get(self._config.severity_label, ""))[:LENGTH] or default

    def accepted(
        self,
        *,
        service: str,
        name: str,
        status: AlertStatus,
        severity: str,
        identity: str,
        began: float | None,
        ended: float | None,
        received_at: float,
        instance: str = "",
    ) -> Accepted:
        """The alert as a fact, told apart from others by `identity` (which alert), `began` and `status`.

        `instance` is what is the same when it fires and when it ends, and another for other alerts of that name. Times
        are Unix seconds; None means now. Raises Rejected for what makes no event.
        """
        moment, since = _moment(status, received_at if began is None else began, ended, received_at)
        event = Alert(
            t=moment,
            service=service,
            name=printable(name)[:LENGTH] or "unnamed",
            status=status,
            severity=severity,
            began=since,
            instance=_short(instance),
        )
        check(event)
        return Accepted(event=event, key=fact_key(self._intake, service, identity, began, status))


def _moment(status: AlertStatus, began: float, ended: float | None, received_at: float) -> tuple[float, float | None]:
    """When it is told of, and when it began where that is further back than an event may lie.

    An alert out of a silence, an inhibition or a long outage may have been firing for hours. Only moved to a later
    moment it would seem to have begun after a deployment that it was there before, and a good release would be blamed
    for it. An end may be moved: nobody is blamed for it.
    """
    if status == "firing":
        reach = received_at - REACH_S
        return (received_at, max(began, 0.0)) if began < reach else (min(began, received_at), None)
    if ended is None or ended <= 0:
        return received_at, None
    return min(max(ended, received_at - REACH_S), received_at), None


def _short(instance: str) -> str:
    if len(instance) <= INSTANCE_LENGTH and instance.isprintable():
        return instance
    return hashlib.blake2b(instance.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def printable(text: str) -> str:
    """The text with what cannot be printed replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
