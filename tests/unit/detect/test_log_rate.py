"""Rule `log_rate`: more errors of kinds that are known, where the log is all there is."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from rollbackd.model import AnyEvent, Log
from tests.support.streams import START, Service, play, told, weave
from tests.unit.detect.alone import alone, convicted, convicted_after, evidence


def lines(
    begin: float, end: float, errors: float, others: float = 2.0, *, name: str = "shop", version: str | None = None
) -> Iterator[AnyEvent]:
    """A log: so many errors of one known kind a second, come as they will, and other lines counted every second."""
    drawn = random.Random(f"{name}/{begin}")
    t = begin
    while errors and (t := t + drawn.expovariate(errors)) < end:
        yield Log(t=START + t, service=name, version=version, level="error", message="cannot reach the database")
    if others:
        step = max(1 / others, 1.0)
        for k in range(int((end - begin) / step)):
            count = max(1, round(others * step))
            yield Log(t=START + begin + k * step, service=name, level="info", message="", count=count)


def log(begin: float, end: float, errors: float, others: float = 2.0, **how: str) -> list[AnyEvent]:
    parts = (lines(begin, end, 0, others, name=how.get("name", "shop")), lines(begin, end, errors, 0, **how))
    return [*weave(*parts)]


def deployed(name: str = "shop", usual: float = 0.05, others: float = 2.0) -> list[AnyEvent]:
    service = Service(name)
    return [*service.deploy("v1", -3500), *log(-3400, 0, usual, others, name=name), *service.deploy("v2", 0)]


def test_many_more_known_errors_are_found() -> None:
    after = convicted_after(alone("log_rate"), [*deployed(), *log(0, 900, 1.0)])
    assert after is not None
    assert 60 < after < 200


def test_twice_as_many_are_let_pass() -> None:
    assert convicted(alone("log_rate"), [*deployed(usual=0.5), *log(0, 3000, 0.9)]) is None


def test_as_many_as_before_are_no_news() -> None:
    assert convicted(alone("log_rate"), [*deployed(usual=1.0), *log(0, 3000, 1.0)]) is None


def test_a_log_without_a_single_error_before_is_a_baseline_too() -> None:
    after = convicted_after(alone("log_rate"), [*deployed(usual=0), *log(0, 900, 0.5)])
    assert after is not None


def test_a_burst_while_starting_is_forgiven() -> None:
    assert convicted(alone("log_rate"), [*deployed(), *log(0, 40, 5.0), *log(40, 1800, 0.05)]) is None


def test_a_busier_service_logs_more_of_everything() -> None:
    assert convicted(alone("log_rate"), [*deployed(usual=0.2), *log(0, 1800, 0.9, 9.0)]) is None


def test_a_release_that_talks_less_has_no_more_errors_for_it() -> None:
    assert convicted(alone("log_rate"), [*deployed(usual=0.2), *log(0, 1800, 0.2, 0.2)]) is None


def test_where_requests_are_counted_the_log_is_not_asked() -> None:
    service = Service("shop", every=10.0, timed=False)
    counted = [*service.run(-3400, 0), *service.run(0, 900)]
    subject = alone("log_rate")
    assert convicted(subject, [*weave(deployed(), counted[:1020]), *weave(log(0, 900, 1.0), counted[1020:])]) is None
    assert evidence(subject).summary.startswith("not judged: requests are counted")
    assert evidence(subject).verdict == "insufficient"


def test_a_log_that_was_not_followed_long_enough_has_no_usual_rate() -> None:
    service, subject = Service("shop"), alone("log_rate")
    events = [*service.deploy("v1", -400), *log(-390, 0, 0.05), *service.deploy("v2", 0), *log(0, 900, 1.0)]
    assert convicted(subject, events) is None
    assert evidence(subject).verdict == "insufficient"


def test_silence_is_neither_health_nor_sickness() -> None:
    subject = alone("log_rate")
    play(subject, deployed())
    assert evidence(subject).verdict == "insufficient"


def test_a_silence_during_which_nobody_looked_lowers_no_baseline() -> None:
    """Half an hour without a line may be a source that was down."""
    service = Service("shop")
    before = [*service.deploy("v1", -3500), *log(-3400, -2400, 1.0), *log(-600, 0, 1.0), *service.deploy("v2", 0)]
    assert convicted(alone("log_rate"), [*before, *log(0, 1800, 1.5)]) is None


def test_what_the_old_release_beside_it_logs_is_not_held_against_the_new() -> None:
    events = [*deployed(), *weave(lines(0, 900, 0, 2.0), lines(0, 900, 1.0, 0, version="v1"))]
    assert convicted(alone("log_rate"), events) is None
    events = [*deployed(), *weave(lines(0, 900, 0, 2.0), lines(0, 900, 1.0, 0, version="v2"))]
    assert convicted(alone("log_rate"), events) is not None


def test_a_neighbour_with_the_same_trouble_excuses() -> None:
    other = [*Service("cart").deploy("c1", -3500), *log(-3400, 200, 0.05, name="cart")]
    late = [*log(200, 1200, 1.0)]
    shared = [*other, *log(200, 1200, 2.0, name="cart")]
    own = [*deployed(), *log(0, 200, 0.05), *late]
    assert convicted(alone("log_rate"), weave(own, shared)) is None
    healthy = [*other, *log(200, 1200, 0.05, name="cart")]
    assert convicted(alone("log_rate"), weave(own, healthy)) is not None


def test_a_rollback_is_proven_by_the_usual_rate() -> None:
    subject = alone("log_rate", bake=300, verify_for=30, verify_within=100)
    back = list(Service("shop").deploy("v1", 300))
    bad = [*deployed(), *log(0, 300, 1.0), *back]
    assert told(play(subject, [*bad, *log(300, 600, 0.05)]))[-2:] == ["v1 opened", "v1 verified"]
    subject = alone("log_rate", bake=300, verify_for=30, verify_within=100)
    assert told(play(subject, [*bad, *log(300, 600, 1.0)]))[-1] == "v1 unrecovered"


def test_the_evidence_says_what_was_and_what_is() -> None:
    decision = convicted(alone("log_rate"), [*deployed(), *log(0, 900, 1.0)])
    assert decision is not None
    (found,) = decision.evidence
    assert (found.rule, found.verdict, found.unit) == ("log_rate", "degraded", "1/min")
    assert found.baseline == pytest.approx(3.0, rel=0.3)
    assert found.observed == pytest.approx(60.0, rel=0.3)
    assert found.strength >= found.threshold > 0
    assert "error lines a minute" in found.summary


def test_the_settings_say_how_many_are_too_many() -> None:
    events = [*deployed(), *log(0, 900, 1.0)]
    assert convicted(alone("log_rate", {"factor": 100}), events) is None
    assert convicted(alone("log_rate", {"per_minute": 100}), events) is None


def test_good_releases_of_a_service_whose_errors_come_in_bursts_are_left_alone() -> None:
    """Overdispersed as real logs are: now and then half a minute of twenty times the usual."""
    for seed in range(5):
        drawn = random.Random(seed)
        events: list[AnyEvent] = list(Service("shop").deploy("v1", -3500))
        for minute in range(-56, 60):
            if minute == 0:
                events += Service("shop").deploy("v2", 0)
            burst = drawn.random() < 0.05
            rate = 0.05 * drawn.gammavariate(4, 0.25)
            events += log(60 * minute, 60 * minute + 30, rate * (20 if burst else 1))
            events += log(60 * minute + 30, 60 * minute + 60, rate)
        assert convicted(alone("log_rate"), events) is None, seed
