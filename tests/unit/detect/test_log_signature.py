"""Rule `log_signature`: errors of a kind never seen before."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rollbackd.model import AnyEvent, Log
from tests.support.streams import START, Service, play, told, weave
from tests.unit.detect.alone import alone, convicted, convicted_after, evidence

BOOM = {"cannot reach db 10.0.0.# from worker #": 0.5}


def shop(**how: object) -> Service:
    return Service(**{"every": 5.0, "timed": False, **how})  # type: ignore[arg-type]  # a test's shorthand


def run(service: Service, begin: float, end: float, logs: Mapping[str, float] | None = None) -> list[AnyEvent]:
    return list(service.run(begin, end, logs=logs))


def before(service: Service, logs: Mapping[str, float] | None = None) -> list[AnyEvent]:
    return [*service.deploy("v1", -600), *run(service, -600, 0, logs), *service.deploy("v2", 0)]


def test_a_new_error_that_keeps_coming_is_found() -> None:
    service = shop()
    after = convicted_after(alone("log_signature"), [*before(service), *run(service, 0, 300, BOOM)])
    assert after is not None
    assert 60 < after < 75


def test_an_error_known_from_before_is_no_news() -> None:
    service = shop()
    assert convicted(alone("log_signature"), [*before(service, BOOM), *run(service, 0, 300, BOOM)]) is None


def test_a_few_lines_are_no_reason() -> None:
    service = shop()
    assert convicted(alone("log_signature"), [*before(service), *run(service, 0, 600, {"rare": 0.01})]) is None


def test_a_burst_while_starting_is_forgiven() -> None:
    service = shop()
    events = [*before(service), *run(service, 0, 20, {"not ready yet": 20}), *run(service, 20, 600)]
    assert convicted(alone("log_signature"), events) is None


def test_many_different_rare_errors_do_not_add_up() -> None:
    service = shop()
    rare = {f"oddity {'abcdefghij'[k]}": 0.01 for k in range(10)}
    assert convicted(alone("log_signature"), [*before(service), *run(service, 0, 600, rare)]) is None


def test_a_log_that_was_not_followed_before_tells_nothing_new() -> None:
    service, subject = shop(), alone("log_signature")
    events = [*service.deploy("v2", 0, previous="v1"), *run(service, 0, 300, BOOM)]
    assert convicted(subject, events) is None
    assert evidence(subject).verdict == "insufficient"


def test_lines_below_error_are_not_looked_at() -> None:
    service = shop()
    events = before(service)
    for event in run(service, 0, 300, BOOM):
        events.append(Log(t=event.t, service="shop", level="warning", message="x") if isinstance(event, Log) else event)
    assert convicted(alone("log_signature"), events) is None


def test_an_error_that_a_neighbour_logs_as_well_is_not_blamed_on_the_release() -> None:
    service, other = shop(), shop(name="cart")
    neighbour = [*other.deploy("c1", -600), *run(other, -600, 0), *run(other, 0, 300, BOOM)]
    assert convicted(alone("log_signature"), weave(before(service), run(service, 0, 300, BOOM), neighbour)) is None


def test_the_old_release_s_lines_are_not_held_against_the_new() -> None:
    service = shop()
    events = before(service)
    for event in run(service, 0, 300, BOOM):
        if isinstance(event, Log):
            event = Log(t=event.t, service="shop", version="v1", level="error", message=event.message)
        events.append(event)
    assert convicted(alone("log_signature"), events) is None


def test_a_rollback_is_proven_by_the_silence_of_what_convicted() -> None:
    service = shop()
    subject = alone("log_signature", bake=300, verify_for=30)
    events = [*before(service), *run(service, 0, 100, BOOM), *service.deploy("v1", 100), *run(service, 100, 300)]
    assert told(play(subject, events))[-2:] == ["v1 opened", "v1 verified"]


def test_silence_alone_proves_no_rollback() -> None:
    """No message convicted what is undone here, so that none is missed now."""
    service = shop()
    subject = alone("log_signature", bake=300, verify_for=30, verify_within=100)
    events = [*before(service), *run(service, 0, 100), *service.deploy("v1", 100), *run(service, 100, 300)]
    assert told(play(subject, events))[-2:] == ["v1 opened", "v1 unrecovered"]


def test_the_evidence_quotes_the_error() -> None:
    service = shop()
    decision = convicted(alone("log_signature"), [*before(service), *run(service, 0, 300, BOOM)])
    assert decision is not None
    (found,) = decision.evidence
    assert found.summary.endswith("of an error never seen before: cannot reach db * from worker *")
    assert found.onset is not None
    assert 0 < found.onset - START < 30


def every(seconds: float, begin: float, end: float, message: str) -> list[AnyEvent]:
    """One line each so many seconds; `#` is its number."""
    count = round((end - begin) / seconds)
    return [
        Log(t=START + begin + k * seconds, service="shop", level="error", message=message.replace("#", str(k)))
        for k in range(count)
    ]


@pytest.mark.parametrize(("seconds", "guilty"), [(2.0, True), (10.0, True), (60.0, False), (300.0, False)])
def test_how_often_a_new_error_comes_decides(seconds: float, guilty: bool) -> None:
    service = shop()
    events = [*before(service), *weave(run(service, 0, 1800), every(seconds, 100, 1800, "lost its way"))]
    assert (convicted(alone("log_signature"), events) is not None) is guilty


def test_how_often_it_may_come_is_the_operator_s() -> None:
    service = shop()
    events = [*before(service), *weave(run(service, 0, 1800), every(10.0, 100, 1800, "lost its way"))]
    assert convicted(alone("log_signature", {"per_minute": 30}), events) is None
    assert convicted(alone("log_signature", {"lines": 1000}), events) is None
    assert convicted(alone("log_signature"), events) is not None


def test_other_wordings_of_a_known_error_are_no_news() -> None:
    """It names a host each time, and the one that it names now was never named before."""
    service = shop()
    hosts = [
        one for k, host in enumerate("abcde") for one in every(600.0, -550 + k, -500 + k + 550, f"no host {host} up")
    ]
    known = sorted(hosts, key=lambda one: one.t)
    now = every(5.0, 10, 600, "no host zulu up")
    ran = [*service.deploy("v1", -600), *weave(run(service, -600, 0), known), *service.deploy("v2", 0)]
    assert convicted(alone("log_signature"), [*ran, *weave(run(service, 0, 600), now)]) is None


def test_a_new_error_that_names_another_thing_each_time_is_one_error() -> None:
    service = shop()
    names = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")
    lines = [
        Log(t=START + 10 + 5 * k, service="shop", level="error", message=f"cannot find cousin {names[k % 10]} any more")
        for k in range(60)
    ]
    subject = alone("log_signature")
    decision = convicted(subject, [*before(service), *weave(run(service, 0, 300), lines)])
    assert decision is not None
    assert "cannot find cousin * any more" in decision.evidence[0].summary


def test_each_further_kind_of_error_needs_more_to_convict() -> None:
    """Else a release with a hundred new messages would be tried a hundred times at the full risk."""
    strengths = []
    for others in (0, 20):
        service, subject = shop(), alone("log_signature", {"lines": 10_000})
        kinds = [
            Log(t=START + 5 + k / 10, service="shop", level="error", message=f"kind {chr(97 + k) * 8} seen")
            for k in range(others)
        ]
        play(
            subject,
            [*before(service), *weave(run(service, 0, 400), kinds, every(10.0, 20, 400, "lost its way for good"))],
        )
        watch = subject.peek("shop").watch
        assert watch is not None
        new = getattr(watch.rules["log_signature"], "new", {})
        strengths.append(new["lost its way for good"].weight)
    assert strengths[1] < strengths[0] - 3
