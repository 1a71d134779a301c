"""Alerts as Prometheus Alertmanager's webhook receiver posts them, payload version 4.

Protocol: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. Alertmanager tries again after 5xx
and never after 4xx (its notify/webhook and notify/util.go), so 4xx is kept for what can never be understood.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from rollbackd.adapter import Adapter
from rollbackd.intake.alerts import Alerts, AlertSettings
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.reading import decode, unix


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


class Config(AlertSettings):
    """How alerts are matched to services."""


class Alertmanager(Intake):
    """`POST /hooks/alertmanager`."""

    path = "/hooks/alertmanager"
    scope: Scope = "ingest"
    body: object = Notification

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._alerts = Alerts("alertmanager", config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The alerts of known services. Dropped: `unknown_service`, `malformed`, `truncated`."""
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
        malformed: Rejected | None = None
        for raw in envelope.alerts:
            try:
                one = self._accepted(decode(bytes(raw), AlertItem), delivery.received_at)
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

    def _accepted(self, item: AlertItem, received_at: float) -> Accepted | str:
        """The alert as an event, or the label of the reason why it is left out."""
        service = self._alerts.service(item.labels)
        if service is None:
            return "unknown_service"
        return self._alerts.accepted(
            service=service,
            name=item.labels.get("alertname", ""),
            status=item.status,
            severity=self._alerts.severity(item.labels),
            identity=item.fingerprint or str(msgspec.json.encode(item.labels, order="sorted"), "utf-8"),
            began=unix(item.starts_at),
            ended=unix(item.ends_at) if item.ends_at is not None else None,
            received_at=received_at,
        )


def build(config: Config, context: IntakeContext) -> Alertmanager:
    """The intake as configured."""
    return Alertmanager(config, context.services)


ADAPTER = Adapter(Config, build)
