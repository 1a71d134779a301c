"""Sentry's webhooks: metric alerts, issue alerts and how they end, and what is no alert."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from rollbackd.intake.base import Delivery, IntakeContext, Reading, Rejected
from rollbackd.intake.sentry import ADAPTER, REMEMBERED, Config, Sentry
from rollbackd.model import Alert
from tests.support.deliveries import NOW, Known, delivery
from tests.support.payloads import altered, payload


def intake(**config: object) -> Sentry:
    settings = {"client_secret": {"env": "SENTRY_SECRET"}} | config
    return ADAPTER.build(Config.model_validate(settings), IntakeContext(services=Known()))


def read(body: Any, resource: str, by: Sentry | None = None) -> Reading:
    return (by or intake()).read(delivery(body, sentry_hook_resource=resource))


def event(body: Any, resource: str, by: Sentry | None = None) -> Alert:
    (accepted,) = read(body, resource, by).accepted
    assert isinstance(accepted.event, Alert)
    return accepted.event


def test_a_metric_alert_fires_since_it_started() -> None:
    assert event(payload("sentry_metric_alert"), "metric_alert") == Alert(
        t=NOW - 60,
        service="checkout",
        name="Too many errors",
        status="firing",
        severity="critical",
        instance="metric 4",
    )


@pytest.mark.parametrize(
    ("action", "status", "severity"), [("warning", "firing", "warning"), ("resolved", "resolved", "warning")]
)
def test_a_metric_alert_can_be_milder_and_can_end(action: str, status: str, severity: str) -> None:
    found = event(altered(payload("sentry_metric_alert"), "action", action), "metric_alert")
    assert (found.status, found.severity) == (status, severity)


def test_a_metric_alert_ends_when_it_was_closed() -> None:
    body = altered(payload("sentry_metric_alert"), "action", "resolved")
    body = altered(body, "data.metric_alert.date_closed", "2023-11-14T22:13:00.000000Z")
    assert event(body, "metric_alert").t == NOW - 20


def test_a_change_of_a_metric_alerts_severity_is_another_fact() -> None:
    keys = {
        read(altered(payload("sentry_metric_alert"), "action", action), "metric_alert").accepted[0].key
        for action in ("critical", "warning", "resolved")
    }
    assert len(keys) == 3


def test_a_metric_alert_over_several_projects_is_about_each_service() -> None:
    body = altered(payload("sentry_metric_alert"), "data.metric_alert.projects", ["checkout", "other", "search"])
    reading = read(body, "metric_alert")
    assert [accepted.event.service for accepted in reading.accepted] == ["checkout", "search"]
    assert reading.dropped == {"unknown_service": 1}


def test_an_issue_alert_fires_and_is_not_severe_unless_the_operator_says_so() -> None:
    found = event(payload("sentry_event_alert"), "event_alert")
    assert (found.service, found.status, found.severity) == ("checkout", "firing", "warning")
    assert found.name == "ReferenceError: heck is not defined"
    assert found.t == pytest.approx(NOW - 59.323)
    assert event(payload("sentry_event_alert"), "event_alert", intake(issue_severity="critical")).severity == "critical"


@pytest.mark.parametrize("action", ["resolved", "archived", "ignored"])
def test_an_issue_alert_ends_with_its_issue_and_under_its_own_name(action: str) -> None:
    """The titles of the two payloads differ, as they do when another event came meanwhile."""
    sentry = intake()
    began = event(payload("sentry_event_alert"), "event_alert", sentry)
    ended = event(altered(payload("sentry_issue"), "action", action), "issue", sentry)
    assert (ended.name, ended.service, ended.status, ended.t) == (began.name, began.service, "resolved", NOW)


def test_an_issue_that_is_not_remembered_ends_under_its_title() -> None:
    assert event(payload("sentry_issue"), "issue").name == "ReferenceError: blooopy is not defined"


def test_issues_are_remembered_up_to_a_bound() -> None:
    sentry = intake()
    for number in range(REMEMBERED + 5):
        read(altered(payload("sentry_event_alert"), "data.event.issue_id", str(number)), "event_alert", sentry)
    assert len(sentry._names) == REMEMBERED


@pytest.mark.parametrize("action", ["created", "assigned", "unresolved"])
def test_an_issue_is_no_alert(action: str) -> None:
    assert read(altered(payload("sentry_issue"), "action", action), "issue").dropped == {"no_alert": 1}


@pytest.mark.parametrize("resource", ["installation", "comment", "error", "novelty"])
def test_what_else_sentry_tells_is_no_alert(resource: str) -> None:
    assert read({"action": "created", "data": {}}, resource).dropped == {"no_alert": 1}


def test_alerts_of_other_environments_are_left_out() -> None:
    body = altered(payload("sentry_event_alert"), "data.event.environment", "staging")
    assert read(body, "event_alert").dropped == {"other_environment": 1}
    assert len(read(body, "event_alert", intake(environments=[])).accepted) == 1
    metric = altered(payload("sentry_metric_alert"), "data.metric_alert.alert_rule.environment", "staging")
    assert read(metric, "metric_alert").dropped == {"other_environment": 1}


def test_a_tag_that_anybody_may_set_does_not_replace_the_project() -> None:
    body = altered(payload("sentry_event_alert"), "data.event.tags", [["project", "search"], ["service", "search"]])
    assert event(body, "event_alert").service == "checkout"


def test_a_project_can_be_matched_to_a_service() -> None:
    body = altered(payload("sentry_metric_alert"), "data.metric_alert.projects", ["web-shop"])
    assert event(body, "metric_alert", intake(match={"search": {"project": "web-shop"}})).service == "search"


def test_without_its_header_it_is_none_of_sentrys() -> None:
    with pytest.raises(Rejected, match="Sentry-Hook-Resource"):
        intake().read(delivery(payload("sentry_issue")))


async def test_the_signature_is_that_of_the_body(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("client secret")
    signature = intake(client_secret={"file": str(secret)}).signature
    assert signature is not None
    body = b'{"action":"created","data":{}}'
    digest = hmac.new(b"client secret", body, hashlib.sha256).hexdigest()
    right = Delivery(body=body, headers={"sentry-hook-signature": digest}, query={}, received_at=NOW)
    assert signature.presented(right.headers)
    assert await signature.verify(right) == "sentry"
    wrong = Delivery(body=body + b" ", headers=right.headers, query={}, received_at=NOW)
    with pytest.raises(Rejected) as refused:
        await signature.verify(wrong)
    assert refused.value.status == 401
