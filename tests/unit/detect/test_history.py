"""What is remembered of a service: bounded, whatever comes, and true to what came."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from rollbackd.detect.history import (
    ANY_VERSION,
    EVICTED,
    MAX_ALERTS,
    MAX_BUCKETS,
    MAX_GAUGES,
    MAX_INSTANCES,
    MAX_SIGNATURES,
    MAX_VERSIONS,
    AlertSeen,
    History,
)
from rollbackd.model import Alert, AlertStatus, Gauge, Latency, Log, Probe, Requests


def requests(t: float, version: str | None = None, total: float = 10, errors: float = 1) -> Requests:
    return Requests(t=t, service="shop", version=version, total=total, errors=errors)


def alert(t: float, status: AlertStatus = "firing", name: str = "Down") -> Alert:
    return Alert(t=t, service="shop", name=name, status=status, severity="critical")


def log(t: float, message: str, level: str = "error") -> Log:
    return Log(t=t, service="shop", level=level, message=message)


def test_versions_are_counted_apart() -> None:
    history = History()
    for t in range(5):
        history.add(requests(t, "v1"))
        history.add(requests(t, "v2", errors=0))
    assert history.counted(("v1",), -1, 10) == (5, 50)
    assert history.counted(("v1", "v2"), -1, 10) == (5, 100)
    assert history.counted(("v3", ""), -1, 10) == (0, 0)


def test_of_many_versions_those_seen_lately_are_kept() -> None:
    history = History()
    for t in range(100):
        history.add(requests(t, "steady"))
        history.add(requests(t, f"v{t}"))
    assert len(history.counts) == MAX_VERSIONS
    assert {"steady", "v99", "v98"} <= set(history.counts)


def test_a_new_bucket_layout_begins_a_new_distribution() -> None:
    history = History()
    history.add(Latency(t=1, service="shop", buckets={"0.1": 1, "+Inf": 2}))
    history.add(Latency(t=2, service="shop", buckets={"0.2": 5, "+Inf": 9}))
    window = history.latency[""].window(0, 10)
    assert window.bounds[0] == 0.2
    assert window.counts == (5, 9)


@pytest.mark.parametrize("count", [MAX_BUCKETS, MAX_BUCKETS + 1, 3 * MAX_BUCKETS, 10_000])
def test_however_many_buckets_there_are_the_shares_stay_true(count: int) -> None:
    """Bounds are left out, never added up wrongly: at each bound that is kept the cumulative count is what it was."""
    history = History()
    buckets = {repr((k + 1) / 100): float(k + 1) for k in range(count - 1)} | {"+Inf": float(count)}
    history.add(Latency(t=1, service="shop", buckets=buckets))
    window = history.latency[""].window(0, 10)
    assert MAX_BUCKETS / 2 <= len(window.bounds) <= MAX_BUCKETS
    assert window.total == count
    assert all(at == pytest.approx(bound * 100) for bound, at in zip(window.bounds[:-1], window.counts, strict=False))


def test_only_errors_make_signatures() -> None:
    history = History()
    for level in ("info", "WARNING", "debug"):
        history.add(log(1, "all is well", level))
    for level in ("ERROR", "Critical", "fatal"):
        history.add(log(1, "disk full", level))
    assert set(history.signatures) == {"disk full"}
    assert history.signatures["disk full"].count == 3


def test_of_many_signatures_those_seen_lately_are_kept() -> None:
    history = History()
    for t in range(2000):
        history.add(log(t, "steady"))
        history.add(log(t, "x" * (t % 250) + "y" * (t // 250)))
    assert MAX_SIGNATURES - EVICTED < len(history.signatures) <= MAX_SIGNATURES
    assert history.signatures["steady"].count == 2000


def test_an_alert_fires_from_its_beginning_until_it_is_resolved() -> None:
    history = History()
    history.add(alert(100))
    history.add(alert(90))
    assert history.alerts["Down"] == AlertSeen(90, None, "critical")
    history.add(alert(120, "resolved"))
    assert history.alerts["Down"] == AlertSeen(90, 120, "critical")
    history.add(alert(130))
    assert history.alerts["Down"] == AlertSeen(130, None, "critical", (90,))


def test_alerts_of_one_name_that_are_told_apart_are_bounded() -> None:
    history = History()
    for number in range(MAX_INSTANCES + 10):
        history.add(replace(alert(100 + number), instance=f"pod-{number}"))
    assert len(history.alerts["Down"].firing) == MAX_INSTANCES
    history.add(replace(alert(300, "resolved"), instance="pod-1"))
    assert history.alerts["Down"].until is None
    history.add(alert(301, "resolved"))
    assert history.alerts["Down"].until == 301, "one that tells none apart ends all"


def test_the_end_of_an_earlier_alert_that_comes_late_does_not_end_the_new_one() -> None:
    history = History()
    for event in (alert(100), alert(120, "resolved"), alert(130), alert(120, "resolved")):
        history.add(event)
    assert history.alerts["Down"].until is None


def test_an_end_without_a_beginning_is_nothing() -> None:
    history = History()
    history.add(alert(100, "resolved"))
    assert history.alerts == {}


def test_of_many_alerts_the_firing_ones_are_kept() -> None:
    history = History()
    history.add(alert(1, name="Firing"))
    for t in range(2, 300):
        history.add(alert(t, name=f"a{t}"))
        history.add(alert(t, "resolved", name=f"a{t}"))
    assert len(history.alerts) == MAX_ALERTS
    assert history.alerts["Firing"].until is None


def test_so_many_gauges_and_no_more() -> None:
    history = History()
    for k in range(100):
        history.add(Gauge(t=k, service="shop", name=f"g{k}", value=-1.5))
    assert len(history.gauges) == MAX_GAUGES


def test_it_is_known_when_something_was_first_and_last_heard() -> None:
    history = History()
    for t in (50.0, 70.0, 60.0):
        history.add(requests(t))
    assert (history.first_at, history.last_at) == (50.0, 70.0)


def gauge(t: float, value: float, version: str | None = None, name: str = "queue") -> Gauge:
    return Gauge(t=t, service="shop", version=version, name=name, value=value)


def test_gauges_are_kept_apart_by_name_and_version() -> None:
    history = History()
    for t in range(4):
        history.add(gauge(t, 10.0, "v1"))
        history.add(gauge(t, 30.0, "v2"))
        history.add(gauge(t, -1.0, name="depth"))
    assert set(history.gauges) == {"queue", "depth"}
    assert history.gauges["queue"]["v1"].window(-1, 10)[1] == [40.0, 4.0]
    assert history.gauges["queue"]["v2"].window(-1, 10)[1] == [120.0, 4.0]
    assert history.gauges["depth"][ANY_VERSION].window(-1, 10)[1] == [-4.0, 4.0]


def test_of_many_versions_of_a_gauge_those_seen_lately_are_kept() -> None:
    history = History()
    for t in range(100):
        history.add(gauge(t, 1.0, f"v{t}"))
    assert len(history.gauges["queue"]) == MAX_VERSIONS
    assert "v99" in history.gauges["queue"]


def test_other_wordings_of_a_message_are_the_same_signature() -> None:
    history = History()
    for t, host in enumerate(("alpha", "beta", "gamma", "delta")):
        history.add(log(t, f"cannot reach host {host} any more"))
        assert history.newest_signature in history.signatures
    (text,) = history.signatures
    assert text == history.newest_signature == "cannot reach host * any more"
    assert (history.signatures[text].first, history.signatures[text].last) == (0, 3)
    assert history.signatures[text].count == 4


def test_a_message_that_was_always_the_same_takes_no_other_in() -> None:
    history = History()
    for t in range(50):
        history.add(log(t, "cannot reach host alpha any more"))
    history.add(log(60, "cannot reach host beta any more"))
    assert len(history.signatures) == 2


def test_what_a_condemned_release_left_is_forgotten_and_what_others_left_is_not() -> None:
    history = History()
    for t in range(0, 200, 10):
        for version in ("v1", "v2", None):
            history.add(requests(t, version))
            history.add(Latency(t=t, service="shop", version=version, buckets={"0.1": 1, "+Inf": 2}))
            history.add(gauge(t, 5.0, version))
        history.add(Probe(t=t, service="shop", up=t < 100, duration=0.1))
    history.add(log(50, "always said"))
    history.add(log(150, "brought by the new one"))
    history.forget("v2", 100, 200)
    for table in (history.counts, history.latency, history.gauges["queue"]):
        assert set(table) == {"v1", ANY_VERSION}
    assert history.counted(("v1",), -1, 300) == (20, 200)
    assert history.counted((ANY_VERSION,), -1, 300) == (11, 110)
    assert history.latency[ANY_VERSION].window(-1, 300).total == 22
    assert history.gauges["queue"][ANY_VERSION].window(-1, 300)[1] == [55.0, 11.0]
    assert history.probes.window(-1, 300)[1] == [1.0, 11.0]
    assert set(history.signatures) == {"always said"}
