"""Alerts in groups, in the shape that Alertmanager posts them and that Grafana took over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from rollbackd.intake.alerts import Alerts
from rollbackd.intake.base import Accepted, Reading, Rejected
from rollbackd.intake.reading import decode, each, unix


class AlertItem(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One alert of a notification; unknown fields are the sender's business."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: Annotated[datetime, msgspec.Meta(tz=True)]
    ends_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    fingerprint: str = ""


class Notification(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is posted: a group of alerts, of which the sender may have cut off the end."""

    version: str
    alerts: list[AlertItem]
    truncated_alerts: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The same with each alert unread, so that one that is broken spoils no other."""

    version: str
    alerts: list[msgspec.Raw]
    truncated_alerts: Annotated[int, msgspec.Meta(ge=0)] = 0


def read_alerts(body: bytes, version: str, sender: str, read: Callable[[AlertItem], Accepted | str]) -> Reading:
    """The alerts of a notification, each read by `read`. Raises Rejected for another payload version."""
    envelope = decode(body, _Envelope)
    if envelope.version != version:
        raise Rejected(
            f"this is webhook payload version `{envelope.version[:20]}`, and only {sender}'s version `{version}` is "
            f"understood: point a webhook of {sender} itself at this path"
        )
    dropped = {"truncated": envelope.truncated_alerts} if envelope.truncated_alerts else {}
    return each(envelope.alerts, lambda raw: read(decode(bytes(raw), AlertItem)), "alert", dropped)


def accept_alert(alerts: Alerts, item: AlertItem, default_severity: str, received_at: float) -> Accepted | str:
    """The alert as an event, or the label of the reason why it is left out."""
    service = alerts.service(item.labels)
    if service is None:
        return "unknown_service"
    identity = item.fingerprint or str(msgspec.json.encode(item.labels, order="sorted"), "utf-8")
    return alerts.accepted(
        service=service,
        name=item.labels.get("alertname", ""),
        status=item.status,
        severity=alerts.severity(item.labels, default_severity),
        identity=identity,
        instance=identity,
        began=unix(item.starts_at),
        ended=unix(item.ends_at) if item.ends_at is not None else None,
        received_at=received_at,
    )
