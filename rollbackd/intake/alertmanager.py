"""Alerts as Prometheus Alertmanager's webhook receiver posts them, payload version 4.

Protocol: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. Alertmanager tries again after 5xx
and never after 4xx (its notify/webhook and notify/util.go), so 4xx is kept for what can never be understood.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Model, Size
from rollbackd.intake.base import Accepted, Delivery, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.reading import REACH_S, check, decode, fact_key, unix
from rollbackd.model import Alert

_LENGTH = 500  # the bound of model.Name and model.Text


class AlertItem(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One alert of a notification; unknown fields are the sender's business."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: Annotated[datetime, msgspec.Meta(tz=True)]
    ends_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    fingerprint: str = ""


class Notification(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What Alertmanager posts: a group of alerts, of which it may have cut off the end."""

    version: str
    alerts: list[AlertItem]
    truncated_alerts: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The same with each alert unread, so that one that is broken spoils no other."""

    version: str
    alerts: list[msgspec.Raw]
    truncated_alerts: Annotated[int, msgspec.Meta(ge=0)] = 0


class Config(Model):
    """How alerts are matched to services."""

    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = ("service", "app", "job")
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    severity_label: str = "severity"
    """The label that tells how severe an alert is."""
    default_severity: Annotated[str, Field(max_length=_LENGTH)] = "warning"
    """The severity of alerts that carry no such label."""
    max_bytes: Annotated[Size, Field(gt=0)] = 4 * 1024 * 1024
    """The largest delivery, after decompression."""


class Alertmanager:
    """`POST /hooks/alertmanager`."""

    path = "/hooks/alertmanager"
    scope: Scope = "ingest"
    content_types = frozenset({"application/json"})
    body: object = Notification

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._config = config
        self._services = services

    def read(self, delivery: Delivery) -> Reading:
        """The alerts of known services. Dropped: `unknown_service`, `began_long_ago`, `malformed`, `truncated`."""
        envelope = decode(delivery.body, _Envelope)
        if envelope.version != "4":
            raise Rejected(
                f"this is webhook payload version `{envelope.version[:20]}`, and only Alertmanager's version `4` is "
                "understood: point a webhook receiver of Alertmanager itself at this path"
            )
        dropped: dict[str, int] = {}
        if envelope.truncated_alerts:
            dropped["truncated"] = envelope.truncated_alerts
        accepted: list[Accepted] = []
        known = self._services.known()
        malformed: Rejected | None = None
        for raw in envelope.alerts:
            try:
                one = self._accepted(decode(bytes(raw), AlertItem), known, delivery.received_at)
            except Rejected as error:
                malformed, one = error, "malformed"
            if isinstance(one, str):
                dropped[one] = dropped.get(one, 0) + 1
            else:
                accepted.append(one)
        if malformed is not None and dropped["malformed"] == len(envelope.alerts):
            raise Rejected(f"not one alert of the notification can be read; the last: {malformed}")
        accepted.sort(key=lambda item: item.event.t)
        return Reading(accepted=tuple(accepted), dropped=dropped)

    def _accepted(self, item: AlertItem, known: frozenset[str], received_at: float) -> Accepted | str:
        """The alert as an event, or the label of the reason why it is left out."""
        labels = item.labels
        candidates = (labels.get(label, "") for label in self._config.service_labels)
        service = next((name for name in candidates if name in known), None)
        if service is None:
            return "unknown_service"
        moment = _moment(item, received_at)
        if moment is None:
            return "began_long_ago"
        event = Alert(
            t=moment,
            service=service,
            name=_printable(labels.get("alertname", ""))[:_LENGTH] or "unnamed",
            status=item.status,
            severity=_printable(labels.get(self._config.severity_label, ""))[:_LENGTH] or self._config.default_severity,
        )
        identity = item.fingerprint or str(msgspec.json.encode(labels, order="sorted"), "utf-8")
        check(event)
        key = fact_key("alertmanager", service, identity, unix(item.starts_at), item.status)
        return Accepted(event=event, key=key)


def _moment(item: AlertItem, received_at: float) -> float | None:
    """When the alert began, or when it ended; None for one that began before what can still be taken in.

    An alert out of a silence, an inhibition or a long outage may have been firing for hours. Moved to a later moment
    it would seem to have begun after a deployment that it was there before, and a good release would be blamed for
    it. An end may be moved: nobody is blamed for it.
    """
    if item.status == "firing":
        began = unix(item.starts_at)
        return None if began < received_at - REACH_S else min(began, received_at)
    ended = unix(item.ends_at) if item.ends_at is not None else 0.0
    if ended <= 0:  # the zero time, year 1, means that the sender does not know
        return received_at
    return min(max(ended, received_at - REACH_S), received_at)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def build(config: Config, context: IntakeContext) -> Alertmanager:
    """The intake as configured."""
    return Alertmanager(config, context.services)


ADAPTER = Adapter(Config, build)
