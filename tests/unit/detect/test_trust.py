"""Good releases that were once condemned, and bad ones once let pass, each by the mistake it is named after."""

from __future__ import annotations

from typing import Any

import pytest

from rollbackd.detect.history import MAX_SIGNATURES, History
from rollbackd.model import AnyEvent, Gauge, Log
from tests.support.streams import START, Service, play, told, weave
from tests.unit.detect.alone import alone, convicted, convicted_after

DAY = 86_400.0


def shop(**how: Any) -> Service:
    return Service(**{"rate": 10.0, "every": 10.0, "timed": False, "probed": False, **how})


def gauge(name: str, begin: float, end: float, first: float, last: float) -> list[AnyEvent]:
    steps = int((end - begin) / 10)
    return [
        Gauge(t=START + begin + 10 * k, service="shop", name=name, value=first + (last - first) * k / steps)
        for k in range(1, steps + 1)
    ]


def deployed(before: list[AnyEvent], after: list[AnyEvent]) -> list[AnyEvent]:
    service = shop()
    traffic = [*service.deploy("v1", -3600), *service.run(-3600, 0), *service.deploy("v2", 0), *service.run(0, 1800)]
    return list(weave(traffic, [*before, *after]))


@pytest.mark.parametrize("name", ["memory_bytes", "heap_bytes"])
def test_memory_in_bytes_is_no_share_of_a_limit(name: str) -> None:
    events = deployed(gauge(name, -3600, 0, 4e8, 4e8), gauge(name, 0, 1800, 4e8, 4.4e8))
    assert convicted(alone("level"), events) is None


@pytest.mark.parametrize(("name", "last"), [("queue_depth", 4.0), ("replication_lag_seconds", 0.9)])
def test_a_few_waiting_jobs_are_no_backlog(name: str, last: float) -> None:
    events = deployed(gauge(name, -3600, 0, 0.0, 0.0), gauge(name, 0, 1800, 0.0, last))
    assert convicted(alone("level"), events) is None


def test_what_a_condemned_release_did_the_day_before_is_no_time_of_the_day() -> None:
    service = shop(rate=5.0, every=30.0)
    events = [*service.deploy("v1", -DAY - 3600), *service.run(-DAY - 3600, -DAY)]
    events += [*service.deploy("v2", -DAY), *service.run(-DAY, -DAY + 300, errors=1.0)]
    events += [*service.deploy("v1", -DAY + 300), *service.run(-DAY + 300, 0)]
    events += [*service.deploy("v3", 0), *service.run(0, 900, errors=0.1)]
    assert told(play(alone("error_ratio"), events))[-2:] == ["v3 rollback to v1", "v3 condemned"]


@pytest.mark.parametrize("seen_before", [0, 3])
def test_a_new_error_is_not_hidden_by_a_rare_one_like_it(seen_before: int) -> None:
    service = shop()
    before = [
        Log(t=START - 3000 + 600 * k, service="shop", level="error", message="failed to reach cache server")
        for k in range(seen_before)
    ]
    traffic = [*service.deploy("v1", -3600), *service.run(-3600, 0), *service.deploy("v2", 0)]
    traffic += service.run(0, 400, logs={"failed to reach payment server": 2.0})
    after = convicted_after(alone("log_signature"), weave(traffic, before))
    assert after is not None
    assert after < 120


def test_what_is_known_to_come_again_is_not_forgotten_for_what_came_once() -> None:
    history = History()
    for k in range(10):
        history.add(Log(t=START + k, service="shop", level="error", message="disk is nearly full again"))
    for k in range(2 * MAX_SIGNATURES):
        letters = "".join(chr(97 + int(digit)) for digit in f"{k:05d}")
        history.add(Log(t=START + 100 + k, service="shop", level="error", message=f"{letters} broke"))
    assert "disk is nearly full again" in history.signatures
    assert len(history.signatures) <= MAX_SIGNATURES


@pytest.mark.parametrize("came_before", [True, False])
def test_an_alert_that_comes_and_goes_did_so_before(came_before: bool) -> None:
    service = shop()
    alerts: list[AnyEvent] = []
    for at in (-1500, -900, -300) if came_before else ():
        alerts += [service.alert("Flaps", at), service.alert("Flaps", at + 150, "resolved")]
    alerts.append(service.alert("Flaps", 300))
    traffic = [*service.deploy("v1", -3600), *service.run(-3600, 0), *service.deploy("v2", 0), *service.run(0, 600)]
    assert (convicted(alone("alert"), weave(traffic, alerts)) is None) == came_before


def test_a_release_that_only_ever_failed_does_not_end_good() -> None:
    service = shop(rate=0.01, every=60.0)
    events = [*service.deploy("v1", -3600), *service.run(-3600, 0), *service.deploy("v2", 0)]
    events += service.run(0, 7200, errors=1.0, rate=0.5)
    subject = alone("error_ratio")
    assert "v2 good" not in told(play(subject, events))
