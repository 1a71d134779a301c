"""Rule `availability`: a service that is down, and one that comes and goes."""

from __future__ import annotations

import pytest

from rollbackd.model import AnyEvent, Probe
from tests.support.streams import START, Service, weave
from tests.unit.detect.alone import alone, convicted, convicted_after, evidence


def shop(**how: object) -> Service:
    return Service(**{"every": 5.0, "timed": False, **how})  # type: ignore[arg-type]  # a test's shorthand


def probes(service: Service, begin: float, end: float, up: bool = True) -> list[AnyEvent]:
    return list(service.run(begin, end, up=up, metrics=False))


def before(service: Service) -> list[AnyEvent]:
    return [*service.deploy("v1", -600), *probes(service, -600, 0), *service.deploy("v2", 0)]


def test_a_service_that_stays_down_is_found_after_its_time() -> None:
    service = shop()
    assert convicted_after(alone("availability"), [*before(service), *probes(service, 0, 300, up=False)]) == 45


def test_the_time_is_the_operator_s() -> None:
    service = shop()
    events = [*before(service), *probes(service, 0, 300, up=False)]
    assert convicted_after(alone("availability", {"down_for": "2m"}), events) == 120


def test_a_restart_is_no_outage() -> None:
    service = shop()
    events = [*before(service), *probes(service, 0, 30, up=False), *probes(service, 30, 600)]
    assert convicted(alone("availability"), events) is None


def test_a_service_that_comes_and_goes_is_found_as_well() -> None:
    service = shop()
    events = before(service)
    for minute in range(10):
        events += probes(service, minute * 60, minute * 60 + 15, up=False)
        events += probes(service, minute * 60 + 15, minute * 60 + 60)
    after = convicted_after(alone("availability"), events)
    assert after is not None
    assert 120 < after < 180


def test_outages_far_apart_do_not_add_up() -> None:
    service = shop()
    events = before(service)
    for hour in range(5):
        events += probes(service, hour * 600, hour * 600 + 30, up=False)
        events += probes(service, hour * 600 + 30, hour * 600 + 600)
    assert convicted(alone("availability"), events) is None


def test_a_probe_that_never_worked_says_nothing_about_the_release() -> None:
    service = shop()
    events = [*service.deploy("v1", -600), *probes(service, -600, 0, up=False)]
    events += [*service.deploy("v2", 0), *probes(service, 0, 600, up=False)]
    assert convicted(alone("availability"), events) is None


def test_a_gap_between_probes_is_not_counted_as_down() -> None:
    service = shop()
    events = [*before(service), *probes(service, 0, 100), *probes(service, 1000, 1005, up=False)]
    assert convicted(alone("availability"), [*events, *probes(service, 1005, 1100)]) is None


def test_no_probe_is_neither_up_nor_down() -> None:
    service = shop(probed=False)
    subject = alone("availability")
    events = [*service.deploy("v1", -600), *service.run(-600, 0), *service.deploy("v2", 0), *service.run(0, 600)]
    assert convicted(subject, events) is None
    assert evidence(subject).verdict == "insufficient"


def test_an_outage_shared_with_a_neighbour_is_not_blamed_on_the_release() -> None:
    service, other = shop(), shop(name="cart")
    neighbour = [*other.deploy("c1", -600), *probes(other, -600, 0), *probes(other, 0, 300, up=False)]
    events = [*before(service), *probes(service, 0, 300, up=False)]
    assert convicted(alone("availability"), weave(events, neighbour)) is None


@pytest.mark.parametrize("apart", [0.0, 1e-4])
def test_probes_in_a_flood_are_remembered_together(apart: float) -> None:
    """However many come within its five minutes, the rule keeps so many numbers and no more."""
    service, subject = shop(), alone("availability", {"down_for": "1h"})
    for event in before(service):
        subject.feed(event)
    sizes = []
    for k in range(3000):
        subject.feed(Probe(t=START + 1 + k * apart, service="shop", up=False, duration=0.1))
        if k % 1000 == 999:
            watch = subject.peek("shop").watch
            assert watch is not None
            sizes.append(len(repr(watch.rules)))
    assert sizes[-1] <= sizes[0] + 100


def test_the_evidence_counts_the_probes() -> None:
    service = shop()
    decision = convicted(alone("availability"), [*before(service), *probes(service, 0, 300, up=False)])
    assert decision is not None
    (found,) = decision.evidence
    assert found.observed == 1.0
    assert found.baseline == 0.0
    assert found.onset == START + 5
    assert found.summary == "9 of 9 probes failed, 45 s of the last five minutes down"
