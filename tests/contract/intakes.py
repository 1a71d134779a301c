"""What each registered intake is sent when it is held to the contract. An intake without an entry fails the suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.support.deliveries import NOW, alert, deployment, notification


@dataclass(frozen=True)
class Sample:
    """A valid delivery about a service: two events at least, of different kinds or moments."""

    content_type: str
    body: Callable[[str], bytes]


def _deployments(service: str) -> bytes:
    told = [
        deployment(service=service, phase="started", at=NOW - 60, previous="v1"),
        deployment(service=service, at="2023-11-14T22:13:10Z", id="run-7"),
        deployment(service=service, version="v3"),
    ]
    return json.dumps(told).encode()


def _alertmanager(service: str) -> bytes:
    labels = {"alertname": "HighErrors", "service": service, "severity": "critical"}
    alerts = [
        alert(labels=labels),
        alert(labels=labels, startsAt="2023-11-14T22:11:00Z", status="resolved", endsAt="2023-11-14T22:13:00+00:00"),
        alert(labels=labels | {"alertname": "Slow"}, fingerprint="ffee"),
    ]
    return json.dumps(notification(*alerts)).encode()


SAMPLES: Mapping[str, Sample] = {
    "alertmanager": Sample("application/json", _alertmanager),
    "deployments": Sample("application/json", _deployments),
}
