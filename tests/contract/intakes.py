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
from tests.support.remote_write import request_v1, scrape
from tests.support.website import NEEDED, TOPIC, bearer, build_intake


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


def _grafana(service: str) -> bytes:
    labels = {"alertname": "HighErrors", "service": service, "severity": "critical"}
    alerts = [alert(labels=labels), alert(labels=labels | {"alertname": "Slow"}, fingerprint="ffee")]
    return json.dumps(notification(*alerts, version="1", orgId=1, state="alerting", title="[FIRING:2]")).encode()


def _datadog(service: str) -> bytes:
    told = {
        "transition": "Triggered",
        "alert_id": "1234",
        "title": "[Triggered on {service:checkout}] Too many errors",
        "date": str(int((NOW - 60) * 1000)),
        "cycle": "9bd4ac313a4d1e8fae2482df7b77628",
        "scope": f"service:{service}",
        "tags": "monitor,team:shop",
    }
    return json.dumps(told).encode()


def _cloudwatch(service: str) -> bytes:
    alarm = {
        "AlarmName": "checkout-5xx",
        "AlarmArn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:checkout-5xx",
        "AWSAccountId": "123456789012",
        "NewStateValue": "ALARM",
        "StateChangeTime": "2023-11-14T22:12:20.000+0000",
        "Trigger": {"MetricName": "5xx", "Dimensions": [{"name": "ServiceName", "value": service}]},
    }
    message = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": json.dumps(alarm),
        "Timestamp": "2023-11-14T22:12:21.000Z",
    }
    return json.dumps(message).encode()


def _sentry(service: str) -> bytes:
    incident = {
        "id": "4",
        "date_started": "2023-11-14T22:12:20.000000Z",
        "date_closed": None,
        "projects": [service],
        "alert_rule": {"name": "Too many errors", "environment": None},
    }
    return json.dumps({"action": "critical", "data": {"metric_alert": incident}}).encode()


def _cloud_event(kind: str, source: str, data: dict[str, object], id_: str) -> dict[str, object]:
    at = "2023-11-14T22:12:20Z"
    return {"specversion": "1.0", "id": id_, "source": source, "type": kind, "time": at, "data": data}


def _cloudevents(service: str) -> bytes:
    source = f"/monitoring/{service}"
    data: dict[str, object] = {"name": "HighErrors", "severity": "critical", "began": NOW - 120}
    events = [
        _cloud_event("io.rollbackd.alert.firing", source, data, "1"),
        _cloud_event("io.rollbackd.alert.resolved", source, data, "2"),
    ]
    return json.dumps(events).encode()


def _cloudevents_deployments(service: str) -> bytes:
    content = {"environment": {"id": "production"}, "artifactId": "pkg:oci/checkout@v3"}
    events = [
        _cloud_event("io.rollbackd.deployment.finished", f"/ci/{service}", {"version": "v2", "previous": "v1"}, "1"),
        _cloud_event(
            "dev.cdevents.service.upgraded.0.3.0", "/ci", {"subject": {"id": service, "content": content}}, "2"
        ),
    ]
    return json.dumps(events).encode()


def _generic(service: str) -> bytes:
    problems = [
        {"host": service, "what": "HighErrors", "state": "PROBLEM", "since": NOW - 60},
        {"host": service, "what": "Slow", "state": "ok", "since": "2023-11-14T22:12:20Z"},
    ]
    return json.dumps({"problems": problems}).encode()


def _generic_deployments(service: str) -> bytes:
    runs = [{"app": service, "tag": "v2", "result": "running"}, {"app": service, "tag": "v2", "result": "success"}]
    return json.dumps({"runs": runs}).encode()


SAMPLES: Mapping[str, Sample] = {
    "alertmanager": Sample("application/json", _alertmanager),
    "argocd": Sample("application/json", _json(lambda service: argocd(app=service)), least=1),
    "cloudevents": Sample("application/cloudevents-batch+json", _cloudevents),
    "cloudevents_deployments": Sample("application/cloudevents-batch+json", _cloudevents_deployments),
    "cloudwatch": Sample("text/plain", _cloudwatch, settings=NEEDED["cloudwatch"], least=1),
    "datadog": Sample("application/json", _datadog, least=1),
    "generic": Sample("application/json", _generic, settings=NEEDED["generic"]),
    "generic_deployments": Sample("application/json", _generic_deployments, settings=NEEDED["generic_deployments"]),
    "grafana": Sample("application/json", _grafana),
    "sentry": Sample(
        "application/json",
        _sentry,
        headers={"sentry-hook-resource": "metric_alert"},
        settings=NEEDED["sentry"],
        least=1,
    ),
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
    "remote_write": Sample(
        "application/x-protobuf",
        lambda service: request_v1(scrape(service, NOW, 1090, 13, 7)),
        before=[(15.0, lambda service: request_v1(scrape(service, NOW - 15, 1000, 10)))],
        settles=8.0,
    ),
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
