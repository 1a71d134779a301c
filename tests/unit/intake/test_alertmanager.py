"""Alertmanager's webhook: which alerts count, for which service, when they began, and which are the same fact."""

from __future__ import annotations

import msgspec
import pytest

from rollbackd.intake.alertmanager import ADAPTER, Alertmanager, Config
from rollbackd.intake.base import IntakeContext, Reading, Rejected
from rollbackd.intake.reading import REACH_S
from rollbackd.model import Alert, AnyEvent
from tests.support.deliveries import NOW, Known, alert, delivery, notification

MINUTE_AGO = "2023-11-14T22:12:20Z"


def intake(**config: object) -> Alertmanager:
    return ADAPTER.build(Config.model_validate(config), IntakeContext(services=Known()))


def read(*alerts: dict[str, object], received_at: float = NOW, **changed: object) -> Reading:
    return intake().read(delivery(notification(*alerts, **changed), received_at))


def event(**changed: object) -> AnyEvent:
    (accepted,) = read(alert(**changed)).accepted
    return accepted.event


def labels(**given: str) -> dict[str, str]:
    return {"alertname": "HighErrors"} | given


def test_a_firing_alert_is_told_as_of_when_it_began() -> None:
    found = event(startsAt=MINUTE_AGO)
    told = Alert(t=NOW - 60, service="checkout", name="HighErrors", status="firing", severity="critical")
    assert found == msgspec.structs.replace(told, instance="0a1b2c3d4e5f6071")


@pytest.mark.parametrize("starts_at", ["2023-11-14T22:12:20.123456789Z", "2023-11-14T23:12:20.123456789+01:00"])
def test_moments_may_have_nanoseconds_and_offsets(starts_at: str) -> None:
    assert event(startsAt=starts_at).t == pytest.approx(NOW - 59.876543, abs=1e-5)


def test_a_resolved_alert_is_told_as_of_when_it_ended() -> None:
    found = event(status="resolved", startsAt="2023-11-14T20:00:00Z", endsAt=MINUTE_AGO)
    assert isinstance(found, Alert)
    assert (found.t, found.status) == (NOW - 60, "resolved")


@pytest.mark.parametrize("ends_at", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00", None])
def test_a_resolved_alert_without_an_end_ended_now(ends_at: str | None) -> None:
    assert event(status="resolved", endsAt=ends_at).t == NOW


def test_an_end_long_ago_is_moved_to_what_can_still_be_taken_in() -> None:
    assert event(status="resolved", endsAt="2023-11-14T20:00:00Z").t == NOW - REACH_S


@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_no_alert_is_told_as_of_the_future(status: str) -> None:
    later = "2023-11-14T23:00:00Z"
    assert event(status=status, startsAt=later, endsAt=later).t == NOW


def test_an_alert_that_began_long_ago_is_told_now_with_the_moment_it_began() -> None:
    """Only moved to now it would be blamed on a deployment that it was there before."""
    told = event(startsAt="2023-11-14T20:00:00Z")
    assert isinstance(told, Alert)
    assert (told.t, told.began, told.since) == (NOW, NOW - 8000, NOW - 8000)


def test_the_first_label_that_names_a_known_service_tells_the_service() -> None:
    assert event(labels=labels(service="unknown", app="search", job="checkout")).service == "search"
    assert event(labels=labels(job="checkout")).service == "checkout"


def test_the_labels_to_look_at_are_configurable() -> None:
    chosen = intake(service_labels=["team_service"], severity_label="prio")
    body = notification(alert(labels=labels(team_service="search", service="checkout", prio="page")))
    (accepted,) = chosen.read(delivery(body)).accepted
    told = accepted.event
    assert isinstance(told, Alert)
    assert (told.service, told.name, told.severity) == ("search", "HighErrors", "page")


def test_an_alert_of_no_known_service_is_left_out_and_counted() -> None:
    reading = read(alert(labels=labels(service="other")), alert(), alert(labels={}))
    assert len(reading.accepted) == 1
    assert reading.dropped == {"unknown_service": 2}


def test_missing_labels_have_stated_defaults() -> None:
    found = event(labels={"service": "checkout"})
    assert isinstance(found, Alert)
    assert (found.name, found.severity) == ("unnamed", "warning")


def test_a_name_is_kept_within_bounds_and_printable() -> None:
    found = event(labels={"service": "checkout", "alertname": "\x1b[2J" + "x" * 600})
    assert isinstance(found, Alert)
    assert len(found.name) == 500
    assert found.name.isprintable()


def test_a_severity_beyond_bounds_spoils_no_other_alert() -> None:
    """What cannot be kept is answered with 500, after which Alertmanager sends the same again for ever."""
    long = alert(labels=labels(service="checkout", severity="x" * 501), fingerprint="1")
    for accepted in read(alert(), long).accepted:
        assert msgspec.json.decode(msgspec.json.encode(accepted.event), type=AnyEvent) == accepted.event
    assert [
        accepted.event.severity for accepted in read(alert(), long).accepted if isinstance(accepted.event, Alert)
    ] == [
        "critical",
        "x" * 500,
    ]


def test_alerts_that_the_sender_cut_off_are_counted() -> None:
    assert read(alert(), truncatedAlerts=7).dropped == {"truncated": 7}


def test_unknown_fields_are_the_senders_business() -> None:
    assert len(read(alert(novelty=[1]), notification_reason="new").accepted) == 1


def test_one_broken_alert_spoils_no_other() -> None:
    reading = read(alert(startsAt="yesterday"), alert(), alert(status="odd"))
    assert len(reading.accepted) == 1
    assert reading.dropped == {"malformed": 2}


def test_a_notification_without_alerts_is_nothing() -> None:
    assert read() == Reading()


def test_alerts_come_in_order_of_time() -> None:
    reading = read(alert(startsAt=MINUTE_AGO), alert(startsAt="2023-11-14T22:10:00Z"))
    assert [item.event.t for item in reading.accepted] == [NOW - 200, NOW - 60]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "Expected `object`"),
        ({"version": "4"}, "missing required field `alerts`"),
        (notification(alert(), version="1"), "payload version `1`"),
        (notification(alert(), truncatedAlerts=-1), r"at `\$.truncatedAlerts`"),
        (notification(alert(startsAt="2023-11-14T22:12:20")), "not one alert"),
        (notification({"status": "firing"}), r"not one alert .* missing required field"),
    ],
)
def test_what_can_never_be_understood_is_refused_for_good(body: object, says: str) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        intake().read(delivery(body))
    assert refused.value.status == 400


class TestTheKey:
    """Which alerts are the same fact."""

    def key(self, received_at: float = NOW, *, group: str = "one", **changed: object) -> str:
        (accepted,) = read(alert(**changed), received_at=received_at, groupKey=group).accepted
        return accepted.key

    def test_a_repeated_notification_is_the_same_fact_in_whatever_group_it_comes(self) -> None:
        assert self.key() == self.key(NOW + 240, group="another")

    def test_a_change_of_status_is_a_new_fact(self) -> None:
        assert self.key() != self.key(status="resolved")

    def test_an_alert_that_began_anew_is_a_new_fact(self) -> None:
        assert self.key() != self.key(startsAt="2023-11-14T22:12:50Z")

    def test_without_a_fingerprint_the_labels_tell_alerts_apart(self) -> None:
        def of(**given: str) -> str:
            return self.key(fingerprint="", labels=labels(service="checkout", **given))

        assert of(zone="a", pod="x") == of(pod="x", zone="a")
        assert of(zone="a") != of(zone="b")
