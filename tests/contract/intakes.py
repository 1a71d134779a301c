"""What each registered intake is sent when it is held to the contract. An intake without an entry fails the suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.deliveries import NOW, alert, deployment, notification


@dataclass(frozen=True)
class Sample:
    """A valid delivery about a service: two events at least, of different kinds or moments.

    Telemetry may need other deliveries `before` it, each so many seconds earlier, to say anything: counters count from
    the last value. `settles` says that its events are there only so many seconds after it. `headers` come with each.
    """

    content_type: str
    body: Callable[[str], bytes]
    before: Sequence[tuple[float, Callable[[str], bytes]]] = ()
    settles: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


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
