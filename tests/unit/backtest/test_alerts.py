"""Samples of ALERTS to alerts that began and ended."""

from __future__ import annotations

from rollbackd.backtest.alerts import AlertHistory
from rollbackd.metrics.samples import Row
from rollbackd.model import AlertStatus

T = 1_700_000_000.0


def row(*moments: float, name: str = "Down", **labels: str) -> Row:
    return Row({"__name__": "ALERTS", "alertname": name, **labels}, [(T + t, "1") for t in moments])


def told(history: AlertHistory, until: float) -> list[tuple[float, str, AlertStatus, str]]:
    return [(event.t - T, event.name, event.status, event.severity) for event in history.events(T + until)]


def test_an_alert_fires_from_its_first_sample_until_one_evaluation_after_its_last() -> None:
    history = AlertHistory("shop")
    history.take([row(0, 15, 30, severity="page")])
    history.take([row(45, 60, 300, 315, severity="page")])
    assert told(history, 330) == [
        (0, "Down", "firing", "page"),
        (75, "Down", "resolved", "page"),
        (300, "Down", "firing", "page"),
    ]


def test_a_missed_evaluation_is_no_end() -> None:
    history = AlertHistory("shop")
    history.take([row(0, 15, 30, 60, 75)])
    assert [status for _, _, status, _ in told(history, 1000)] == ["firing", "resolved"]


def test_an_alert_of_several_instances_ends_with_the_last_of_them() -> None:
    history = AlertHistory("shop")
    history.take([row(0, 15, 30, instance="a"), row(20, 35, 50, 65, instance="b"), row(5, name="Other")])
    assert told(history, 1000) == [
        (0, "Down", "firing", "warning"),
        (5, "Other", "firing", "warning"),
        (65, "Other", "resolved", "warning"),
        (80, "Down", "resolved", "warning"),
    ]
