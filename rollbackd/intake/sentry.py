"""Alerts of Sentry, as an internal integration posts them: metric alerts, issue alerts, and the end of issues.

Protocol: https://docs.sentry.io/integrations/integration-platform/webhooks/. Sentry waits one second for the answer,
and does not try again for an integration that is not published (getsentry/sentry `utils/sentry_apps/webhooks.py`).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Secret
from rollbackd.intake.alerts import LENGTH, AlertMatching, Alerts
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.reading import decode, moment
from rollbackd.intake.signature import SignedBody

REMEMBERED = 1000
"""Issues whose names are remembered, the newest: an alert has to end under the name that it began under."""
_PROJECT = re.compile(r"/projects/[^/]+/([^/]+)/")

Text = str | None


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    """The event that triggered an issue alert."""

    event_id: str
    issue_id: str
    datetime: str
    title: Text = None
    level: Text = None
    environment: Text = None
    url: str = ""
    tags: list[tuple[str, Text]] = []


class _EventData(msgspec.Struct, frozen=True, kw_only=True):
    event: _Event
    triggered_rule: str = ""


class _EventAlert(msgspec.Struct, frozen=True, kw_only=True):
    data: _EventData


class _Rule(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    environment: Text = None


class _Incident(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric alert rule found."""

    id: str
    date_started: str
    date_closed: Text = None
    projects: list[str] = []
    alert_rule: _Rule = _Rule()


class _MetricData(msgspec.Struct, frozen=True, kw_only=True):
    metric_alert: _Incident
    description_title: str = ""


class _MetricAlert(msgspec.Struct, frozen=True, kw_only=True):
    action: Literal["critical", "warning", "resolved"]
    data: _MetricData


class _Project(msgspec.Struct, frozen=True, kw_only=True):
    slug: str


class _Issue(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    project: _Project
    title: str = ""
    level: Text = None
    last_seen: str | None = None


class _IssueData(msgspec.Struct, frozen=True, kw_only=True):
    issue: _Issue


class _IssueChange(msgspec.Struct, frozen=True, kw_only=True):
    data: _IssueData


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What every webhook of Sentry has; `data` follows from the header `Sentry-Hook-Resource`."""

    action: str
    data: dict[str, msgspec.Raw]


class Config(AlertMatching):
    """How alerts are matched to services. Labels are `project` (its slug), `environment`, and the tags of the event."""

    client_secret: Secret
    """The Client Secret of the internal integration, which deliveries are signed with."""
    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = ("project", "service")
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    environments: tuple[str, ...] = ("production", "prod", "live")
    """Environments whose alerts count; `[]` takes all. An alert that names none always counts."""
    issue_severity: Annotated[str, Field(max_length=LENGTH)] = "warning"
    """The severity of issue alerts, which end only when somebody resolves or archives the issue."""


class Sentry(Intake):
    """`POST /hooks/sentry`."""

    path = "/hooks/sentry"
    scope: Scope = "ingest"
    body: object = Notification
    needed_headers: Mapping[str, str] = {"Sentry-Hook-Resource": "What the delivery tells of, such as `metric_alert`."}

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self.signature = SignedBody("sentry", config.client_secret, "sentry-hook-signature")
        self._environments = config.environments
        self._issue_severity = config.issue_severity
        self._alerts = Alerts("sentry", config, services)
        self._names: OrderedDict[str, str] = OrderedDict()

    def read(self, delivery: Delivery) -> Reading:
        """The alerts of known services. Dropped: `unknown_service`, `other_environment`, and `no_alert` for all that is
        no judgement: new and assigned issues, comments, errors, installations."""
        resource = delivery.headers.get("sentry-hook-resource", "")
        action = decode(delivery.body, Notification).action
        if not resource:
            raise Rejected(
                "the header `Sentry-Hook-Resource` is missing: only Sentry's own webhooks are understood here"
            )
        if resource == "metric_alert":
            return self._metric_alert(decode(delivery.body, _MetricAlert), delivery.received_at)
        found: Accepted | str = "no_alert"
        if resource == "event_alert":
            found = self._event_alert(decode(delivery.body, _EventAlert).data, delivery.received_at)
        elif resource == "issue" and action in ("resolved", "archived", "ignored"):
            found = self._issue_ended(decode(delivery.body, _IssueChange).data.issue, delivery.received_at)
        return Reading(dropped={found: 1}) if isinstance(found, str) else Reading(accepted=(found,))

    def _metric_alert(self, told: _MetricAlert, received_at: float) -> Reading:
        """One alert rule may watch several projects, and so speak of several services."""
        incident = told.data.metric_alert
        if self._elsewhere(incident.alert_rule.environment):
            return Reading(dropped={"other_environment": 1})
        began = moment(incident.date_started, "$.data.metric_alert.date_started")
        closed = incident.date_closed
        ended = moment(closed, "$.data.metric_alert.date_closed") if closed is not None else None
        found: dict[str, Accepted] = {}
        unknown = 0
        for project in incident.projects:
            service = self._alerts.service(_labels(project, incident.alert_rule.environment, []))
            if service is None:
                unknown += 1
                continue
            found[service] = self._alerts.accepted(
                service=service,
                name=incident.alert_rule.name or told.data.description_title,
                status="resolved" if told.action == "resolved" else "firing",
                severity=told.action if told.action != "resolved" else "warning",
                identity=f"metric {incident.id} {told.action}",
                began=began,
                ended=ended,
                received_at=received_at,
                instance=f"metric {incident.id}",
            )
        dropped = {"unknown_service": unknown} if unknown else {}
        return Reading(accepted=tuple(found.values()), dropped=dropped)

    def _event_alert(self, told: _EventData, received_at: float) -> Accepted | str:
        event = told.event
        if self._elsewhere(event.environment):
            return "other_environment"
        project = _PROJECT.search(event.url)
        labels = _labels(project[1] if project is not None else "", event.environment, event.tags)
        service = self._alerts.service(labels)
        if service is None:
            return "unknown_service"
        return self._alerts.accepted(
            service=service,
            name=self._name(event.issue_id, event.title or told.triggered_rule, begins=True),
            status="firing",
            severity=self._alerts.severity(labels, self._issue_severity),
            identity=f"event {event.event_id} {told.triggered_rule}",
            began=moment(event.datetime, "$.data.event.datetime"),
            ended=None,
            received_at=received_at,
            instance=f"issue {event.issue_id}",
        )

    def _issue_ended(self, issue: _Issue, received_at: float) -> Accepted | str:
        service = self._alerts.service(_labels(issue.project.slug, None, []))
        if service is None:
            return "unknown_service"
        seen = moment(issue.last_seen, "$.data.issue.lastSeen") if issue.last_seen is not None else 0.0
        return self._alerts.accepted(
            service=service,
            name=self._name(issue.id, issue.title, begins=False),
            status="resolved",
            severity=self._issue_severity,
            identity=f"issue {issue.id}",
            began=seen,
            ended=None,
            received_at=received_at,
            instance=f"issue {issue.id}",
        )

    def _elsewhere(self, environment: Text) -> bool:
        """Whether it is about an environment that does not count. A rule about all of them is about each."""
        return bool(self._environments and environment and environment not in self._environments)

    def _name(self, issue: str, title: str, *, begins: bool) -> str:
        """The name of an issue's alert: the title it had when it was first told of, since titles follow events."""
        name = self._names.get(issue, title)
        if begins:
            self._names[issue] = name[:LENGTH]
            self._names.move_to_end(issue)
            if len(self._names) > REMEMBERED:
                self._names.popitem(last=False)
        return name


def _labels(project: str, environment: Text, tags: list[tuple[str, Text]]) -> dict[str, str]:
    """The project and the environment that Sentry tells go before tags, which anybody may set."""
    told = {name: value for name, value in tags if value is not None}
    return told | {"project": project} | ({"environment": environment} if environment is not None else {})


def build(config: Config, context: IntakeContext) -> Sentry:
    """The intake as configured."""
    return Sentry(config, context.services)


ADAPTER = Adapter(Config, build)
