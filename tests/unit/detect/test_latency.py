"""Rule `latency`: slower is found, whatever the buckets, and noise is let pass."""

from __future__ import annotations

import pytest

from rollbackd.model import AnyEvent, Latency
from tests.support.streams import START, Service, decisions, gathered, play, weave
from tests.unit.detect.alone import alone, convicted, convicted_after, evidence


def shop(seed: int = 1, **how: object) -> Service:
    settings: dict[str, object] = {"rate": 10.0, "every": 10.0, "probed": False, **how}
    return Service(seed=seed, **settings)  # type: ignore[arg-type]  # a test's shorthand


def released(service: Service, until: float = 600, **after: object) -> list[AnyEvent]:
    return [
        *service.deploy("v1", -600),
        *service.run(-600, 0),
        *service.deploy("v2", 0),
        *service.run(0, until, **after),  # type: ignore[arg-type]  # a test's shorthand
    ]


@pytest.mark.parametrize(("slower", "within"), [(1.5, 300), (2.0, 150), (3.0, 150), (10.0, 110)])
@pytest.mark.parametrize("seed", range(3))
def test_a_release_slower_by_any_factor_is_found(slower: float, within: float, seed: int) -> None:
    after = convicted_after(alone("latency"), released(shop(seed), slower=slower))
    assert after is not None
    assert after <= within


@pytest.mark.parametrize("usual", [{}, {"burst": 0.5}, {"spread": 1.5}, {"rate": 1.0}])
def test_noise_is_no_slowness(usual: dict[str, object]) -> None:
    assert [seed for seed in range(8) if convicted(alone("latency"), released(shop(seed, **usual), 300))] == []


def test_a_little_slower_is_tolerated() -> None:
    assert convicted(alone("latency"), released(shop(), slower=1.05)) is None


def test_a_slow_tail_is_found_where_the_median_is_as_before() -> None:
    """One request in ten takes a second."""
    service = shop(rate=40.0)
    events = released(service, 0)
    for event in service.run(0, 600):
        if isinstance(event, Latency):
            hit = event.buckets["+Inf"] / 10
            slow = {
                text: count - hit if text not in ("1.0", "2.5", "+Inf") else count
                for text, count in event.buckets.items()
            }
            events.append(Latency(t=event.t, service="shop", buckets={k: max(v, 0.0) for k, v in slow.items()}))
    decision = convicted(alone("latency"), events)
    assert decision is not None
    assert decision.evidence[0].signal in ("latency p90", "latency p99")


def test_without_a_baseline_nothing_can_be_called_slower() -> None:
    service, subject = shop(), alone("latency")
    assert convicted(subject, [*service.deploy("v2", 0, previous="v1"), *service.run(0, 300, slower=9)]) is None
    assert evidence(subject).verdict == "insufficient"


@pytest.mark.parametrize("slow", [1.3, 1.6, 3.0])
def test_slowness_from_before_is_not_held_against_the_release(slow: float) -> None:
    service = shop()
    events = [*service.deploy("v1", -600), *service.run(-600, -300), *service.run(-300, 0, slower=slow)]
    events += [*service.deploy("v2", 0), *service.run(0, 600, slower=slow)]
    assert convicted(alone("latency"), events) is None


def test_slowness_shared_with_a_neighbour_is_not_blamed_on_the_release() -> None:
    """Where it is slower still, or became so with no deployment; one that is less so calls us, and waits for us."""
    for began, theirs, blamed in ((0, 6.0, False), (200, 3.0, False), (0, 1.5, True), (200, 1.0, True)):
        service, other = shop(), shop(name="cart")
        ours = [*service.deploy("v1", -600), *service.run(-600, 0), *service.deploy("v2", 0), *service.run(0, began)]
        ours += service.run(began, 600, slower=3)
        neighbour = [*other.deploy("c1", -600), *other.run(-600, began), *other.run(began, 600, slower=theirs)]
        outcomes = play(alone("latency"), weave(ours, neighbour))
        assert [one.service for one in decisions(outcomes)] == (["shop"] if blamed else [])


def test_slowness_while_warming_up_is_forgiven() -> None:
    service = shop()
    events = [*service.deploy("v1", -600), *service.run(-600, 0), *service.deploy("v2", 0)]
    assert convicted(alone("latency"), [*events, *service.run(0, 60, slower=5), *service.run(60, 400)]) is None


@pytest.mark.parametrize(
    "into",
    [0.0, 2.0, 8.0],
)
def test_a_deployment_may_come_at_any_moment_between_two_samples(into: float) -> None:
    """The sample that begins before it and ends after it does not show slowness from before."""
    for seed in range(4):
        service = shop(seed, every=1.0)
        events = [*service.deploy("v1", -605), *service.run(-605, 0), *service.deploy("v2", 0)]
        after = convicted_after(alone("latency"), gathered([*events, *service.run(0, 250, slower=3.0)], 10, into))
        assert after is not None


@pytest.mark.parametrize(("slower", "guilty"), [(1.0, False), (3.0, True)])
def test_a_release_may_bring_other_buckets(slower: float, guilty: bool) -> None:
    """What was exceeded how often is then read between the new bounds, which are no coarser."""
    old = shop()
    new = shop(bounds=(0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024))
    events = [*old.deploy("v1", -600), *old.run(-600, 0), *old.deploy("v2", 0), *new.run(0, 400, slower=slower)]
    assert (convicted(alone("latency", {"tolerance": 0.5}), events) is not None) == guilty


@pytest.mark.parametrize("bounds", [(0.0, 0.005, 0.01, 0.05, 0.1, 0.5), (0.03,), (1e-9,), (1e9,), ()])
@pytest.mark.parametrize("slower", [1.0, 20.0])
def test_any_buckets_are_taken(bounds: tuple[float, ...], slower: float) -> None:
    """From OpenTelemetry's, which begin at 0, to a single one that tells nothing; a healthy release passes with all."""
    decision = convicted(alone("latency"), released(shop(bounds=bounds), 600, slower=slower))
    tells = len([bound for bound in bounds if 0.01 < bound < 1]) > 0
    assert (decision is not None) == (slower > 1 and tells)


def test_a_slow_canary_is_told_from_the_old_release_beside_it() -> None:
    service, beside = shop(labelled=True), shop(9, labelled=True, version="v1")
    before = [*service.deploy("v1", -600), *service.run(-600, 0), *service.deploy("v2", 0)]
    for slow_old, guilty in ((1.0, True), (3.0, False)):
        after = weave(service.run(0, 400, slower=3, version="v2"), beside.run(0, 400, slower=slow_old))
        assert (convicted(alone("latency"), [*before, *after]) is not None) == guilty


def test_labelled_requests_do_not_blind_the_rule_to_unlabelled_latencies() -> None:
    counted, timed = shop(labelled=True, timed=False), shop()
    events = [*counted.deploy("v1", -600), *weave(counted.run(-600, 0), _latencies(timed.run(-600, 0)))]
    events += [*counted.deploy("v2", 0), *weave(counted.run(0, 300), _latencies(timed.run(0, 300, slower=3)))]
    subject = alone("latency")
    decision = convicted(subject, events)
    assert decision is not None
    (found,) = decision.evidence
    assert (found.observed or 0) > 1.5 * (found.baseline or 1)


def _latencies(events: object) -> list[AnyEvent]:
    assert hasattr(events, "__iter__")
    return [event for event in events if isinstance(event, Latency)]


def test_the_evidence_says_what_was_and_what_is() -> None:
    decision = convicted(alone("latency"), released(shop(), slower=3))
    assert decision is not None
    (found,) = decision.evidence
    assert found.unit == "s"
    assert found.baseline is not None
    assert found.observed is not None
    assert 2 < found.observed / found.baseline < 4.5
    assert found.onset is not None
    assert 0 <= found.onset - START <= 70


def test_a_stretch_as_every_service_has_now_and_then_is_let_pass() -> None:
    """Two minutes a third slower, then as before."""
    service = shop()
    events = [*released(service, until=120), *service.run(120, 240, slower=1.3), *service.run(240, 900)]
    assert convicted(alone("latency"), events) is None


def test_a_stretch_as_the_service_itself_had_before_is_let_pass_and_what_outlasts_it_is_not() -> None:
    """A service whose history has two minutes twice as slow is believed when it is slow for longer."""
    for lasting, found in ((120, False), (600, True)):
        service = shop()
        before = [*service.run(-1200, -700), *service.run(-700, -580, slower=2.0), *service.run(-580, 0)]
        events = [*service.deploy("v1", -1200), *before, *service.deploy("v2", 0), *service.run(0, 120)]
        events += [*service.run(120, 120 + lasting, slower=2.0), *service.run(120 + lasting, 800)]
        assert (convicted(alone("latency"), events) is not None) is found
