"""What each registered intake is sent when it is held to the contract. An intake without an entry fails the suite."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cramjam

from rollbackd.intake.base import Intake, ServiceNames
from tests.support import otlp
from tests.support.deliveries import NOW, Known, alert, deployment, notification
from tests.support.deploys import argocd, flux, github_status, gitlab
from tests.support.loki_push import entry, push
from tests.support.website import bearer, build_intake


@dataclass(frozen=True)
class Sample:
    """A valid delivery about a service: `least` events, of different kinds or moments, where its sender tells so many.

    Telemetry may need other deliveries `before` it, each so many seconds earlier, to say anything: counters count from
    the last value. Cut at `torn` it cannot be read. `settles` says that its events are there only so many seconds after
    it. `headers` come with each.
    """

    content_type: str
    body: Callable[[str], bytes]
    before: Sequence[tuple[float, Callable[[str], bytes]]] = ()
    settles: float = 0.0
    least: int = 2
    torn: int = -5
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


def _lines(service: str) -> bytes:
    entries = [
        {"service": service, "level": "error", "message": "payment failed", "time": NOW - 5},
        {"service": service, "message": "level=warn msg=slow", "time": "2023-11-14T22:13:10Z"},
    ]
    return b"\n".join(json.dumps(entry).encode() for entry in entries)


def _loki(service: str) -> bytes:
    lines = [entry(int((NOW - ago) * 1e9), line) for ago, line in ((5, "ERROR payment failed"), (2, "slow"))]
    return bytes(cramjam.snappy.compress_raw(push((f'{{service="{service}", pod="a"}}', lines))))


def _served(service: str, t: float, fast: float) -> bytes:
    return otlp.metrics(service, otlp.duration(otlp.served(t, (fast, 2, 1, 0))), version="v2").SerializeToString()


def _json(make: Callable[[str], object]) -> Callable[[str], bytes]:
    return lambda service: json.dumps(make(service)).encode()


SAMPLES: Mapping[str, Sample] = {
    "alertmanager": Sample("application/json", _alertmanager),
    "argocd": Sample("application/json", _json(lambda service: argocd(app=service)), least=1),
    "deployments": Sample("application/json", _deployments),
    "flux": Sample("application/json", _json(lambda service: flux(name=service)), least=1),
    "github": Sample(
        "application/json",
        _json(lambda service: github_status(repository=service)),
        headers={"x-github-event": "deployment_status"},
        least=1,
    ),
    "loki_push": Sample("application/x-protobuf", _loki),
    "otlp_logs": Sample(
        "application/x-protobuf",
        lambda service: otlp.logs(
            service, otlp.record(NOW - 5, "payment failed"), otlp.record(NOW - 2, "slow", 13), version="v2"
        ).SerializeToString(),
    ),
    "otlp_metrics": Sample(
        "application/x-protobuf",
        lambda service: _served(service, NOW - 5, 100),
        before=[(15.0, lambda service: _served(service, NOW - 20, 40))],
        settles=10.0,
    ),
    "json_lines": Sample("application/x-ndjson", _lines, torn=10),
    "gitlab": Sample("application/json", _json(lambda service: gitlab(project=service)), least=1),
}


def intake_of(name: str, services: ServiceNames | None = None) -> Intake:
    """The intake, configured as its sample needs it."""
    return build_intake(name, services or Known(), SAMPLES[name].settings)


def headers_of(name: str) -> dict[str, str]:
    """What its sender sends beside the body, with a token of ours."""
    return {**bearer(intake_of(name).scope), "Content-Type": SAMPLES[name].content_type, **SAMPLES[name].headers}


def path_of(name: str) -> str:
    """Where it is posted to: the path's variable parts are the service's name."""
    return re.sub(r"{\w+}", "checkout", intake_of(name).path)
