"""Datadog's webhook: the template of the documentation, its transitions, and whose an alert is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rollbackd.intake.base import IntakeContext, Reading, Rejected
from rollbackd.intake.datadog import ADAPTER, Config, Datadog
from rollbackd.model import Alert
from tests.support.deliveries import NOW, Known, delivery
from tests.support.payloads import payload

PAGE = Path(__file__).parents[3] / "docs/webhooks/datadog.md"


def intake(**config: object) -> Datadog:
    return ADAPTER.build(Config.model_validate(config), IntakeContext(services=Known()))


def read(**changed: object) -> Reading:
    return intake().read(delivery(payload("datadog") | changed))


def event(**changed: object) -> Alert:
    (accepted,) = read(**changed).accepted
    assert isinstance(accepted.event, Alert)
    return accepted.event


def test_the_documented_template_makes_an_alert() -> None:
    assert event() == Alert(
        t=NOW - 60,
        service="checkout",
        name="Too many errors",
        status="firing",
        severity="critical",
        instance=event(transition="Recovered").instance,
    )
    assert event().instance != event(cycle="another group's").instance


def test_the_template_of_the_page_has_the_fields_that_are_read() -> None:
    (template,) = re.findall(r"^```json\n(\{\n.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert set(json.loads(template)) == set(payload("datadog"))


@pytest.mark.parametrize(
    ("transition", "status", "severity"),
    [("Triggered", "firing", "critical"), ("Warn", "firing", "warning"), ("Recovered", "resolved", "warning")],
)
def test_what_a_transition_means(transition: str, status: str, severity: str) -> None:
    found = event(transition=transition)
    assert (found.status, found.severity, found.t) == (status, severity, NOW - 60)


@pytest.mark.parametrize(
    ("transition", "reason"),
    [
        ("No Data", "no_data"),
        ("Re-No Data", "no_data"),
        ("Re-Triggered", "repeated"),
        ("Re-Warn", "repeated"),
        ("Renotify", "repeated"),
    ],
)
def test_what_is_no_verdict_or_says_not_since_when_is_left_out(transition: str, reason: str) -> None:
    reading = read(transition=transition)
    assert (reading.accepted, reading.dropped) == ((), {reason: 1})


@pytest.mark.parametrize(
    "title",
    [
        "[Triggered on {service:checkout}] Disk is full",
        "[Recovered on {host:a}] Disk is full",
        "[Warn] Disk is full",
        "Disk is full",
    ],
)
def test_the_name_is_the_monitors_whatever_happened_to_it(title: str) -> None:
    assert event(title=title).name == "Disk is full"


def test_a_name_that_begins_with_a_bracket_of_its_own_keeps_it() -> None:
    assert event(title="[Triggered] [prod] Disk is full").name == "[prod] Disk is full"
    assert event(title="[Memory] Disk is full").name == "[Memory] Disk is full"


def test_without_a_title_the_monitor_is_named_by_its_number() -> None:
    assert event(title="[Triggered on {host:a}]").name == "monitor 1234"


def test_tags_of_the_group_go_before_those_of_the_event() -> None:
    assert event(scope="service:search").service == "search"
    assert event(scope="host:a", tags="team:x,service:checkout").service == "checkout"


def test_tags_can_be_matched_to_a_service() -> None:
    chosen = intake(match={"search": {"team": "find", "env": "production"}})
    body = payload("datadog") | {"scope": "", "tags": "env:production,team:find"}
    (accepted,) = chosen.read(delivery(body)).accepted
    assert accepted.event.service == "search"


def test_a_tag_tells_the_severity() -> None:
    assert event(tags="severity:page").severity == "page"


def test_an_alert_of_no_known_service_is_left_out_and_counted() -> None:
    assert read(scope="service:other", tags="").dropped == {"unknown_service": 1}


def test_an_alert_that_began_long_ago_is_told_with_the_moment_it_began() -> None:
    found = event(date=str(int((NOW - 7200) * 1000)))
    assert (found.t, found.since) == (NOW, NOW - 7200)


def test_the_same_notification_is_the_same_fact_and_another_cycle_is_not() -> None:
    def key(received_at: float = NOW, **changed: str) -> str:
        (accepted,) = intake().read(delivery(payload("datadog") | changed, received_at)).accepted
        return accepted.key

    assert key() == key(NOW + 100)
    assert len({key(), key(cycle="other"), key(transition="Warn"), key(transition="Recovered"), key(alert_id="2")}) == 5


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"transition": "$ALERT_TRANSITION"}, r"is it `\$ALERT_TRANSITION`"),
        ({"date": "yesterday"}, r"`\$.date` is no moment"),
        ({"alert_id": ""}, "alert_id"),
    ],
)
def test_another_template_is_refused_with_what_is_wrong(changed: dict[str, object], says: str) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        read(**changed)
    assert refused.value.status == 400
