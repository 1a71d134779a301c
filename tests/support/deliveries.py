"""What senders post, with every field overridable."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rollbackd.intake.base import Delivery

NOW = 1_700_000_000.0
NOW_TEXT = "2023-11-14T22:13:20Z"


@dataclass(frozen=True)
class Known:
    """The configured services."""

    names: frozenset[str] = frozenset({"checkout", "search"})

    def known(self) -> frozenset[str]:
        return self.names


def delivery(body: object, received_at: float = NOW, **headers: str) -> Delivery:
    """A delivery of a JSON body, or of bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(body=raw, headers=named, query={}, received_at=received_at)


def deployment(**changed: object) -> dict[str, object]:
    """A deployment of checkout v2."""
    return {"service": "checkout", "version": "v2"} | changed


def alert(**changed: object) -> dict[str, object]:
    """A firing alert about checkout."""
    return {
        "status": "firing",
        "labels": {"alertname": "HighErrors", "service": "checkout", "severity": "critical"},
        "annotations": {"summary": "many errors"},
        "startsAt": "2023-11-14T22:12:20.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "0a1b2c3d4e5f6071",
    } | changed


def notification(*alerts: dict[str, object], **changed: object) -> dict[str, object]:
    """A notification of Alertmanager's about these alerts."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="HighErrors"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "rollbackd",
        "groupLabels": {"alertname": "HighErrors"},
        "commonLabels": {"alertname": "HighErrors"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts),
    } | changed
