"""Rule `error_ratio`: faults of every size are found, and what is none is let pass."""

from __future__ import annotations

import pytest

from rollbackd.model import AnyEvent, Requests
from tests.support.streams import START, Service, decisions, gathered, play, weave
from tests.unit.detect.alone import alone, convicted, convicted_after, evidence


def shop(seed: int = 1, **how: object) -> Service:
    settings: dict[str, object] = {"rate": 20.0, "every": 10.0, "timed": False, "probed": False, **how}
    return Service(seed=seed, **settings)  # type: ignore[arg-type]  # a test's shorthand


def released(service: Service, **after: object) -> list[AnyEvent]:
    """A quarter of an hour of v1, then v2 at moment 0 for twenty minutes."""
    return [
        *service.deploy("v1", -900),
        *service.run(-900, 0),
        *service.deploy("v2", 0),
        *service.run(0, 1200, **after),  # type: ignore[arg-type]  # a test's shorthand
    ]


@pytest.mark.parametrize(
    ("errors", "within"),
    [(0.01, 600), (0.02, 240), (0.05, 180), (0.10, 150), (0.30, 40), (1.0, 40)],
)
@pytest.mark.parametrize("seed", range(4))
def test_a_fault_of_any_size_is_found(errors: float, within: float, seed: int) -> None:
    """At 20 requests a second, 0.2 % of which failed before; large faults already within the warm-up."""
    after = convicted_after(alone("error_ratio"), released(shop(seed), errors=errors))
    assert after is not None
    assert after <= within


@pytest.mark.parametrize(
    "usual", [{}, {"usual_errors": 0.0}, {"usual_errors": 0.05}, {"burst": 0.5, "usual_errors": 0.01}, {"rate": 0.5}]
)
def test_noise_is_no_fault(usual: dict[str, object]) -> None:
    """Twenty seeds each; at alpha 0.001 not one of them may convict by bad luck to speak of."""
    assert [seed for seed in range(20) if convicted(alone("error_ratio"), released(shop(seed, **usual)))] == []


def test_a_little_worse_is_tolerated() -> None:
    """0.25 % after 0.2 %: less than half as much again."""
    assert convicted(alone("error_ratio"), released(shop(), errors=0.0025)) is None


def test_tolerance_and_floor_are_the_operator_s() -> None:
    events = released(shop(), errors=0.02)
    assert convicted(alone("error_ratio", {"tolerance": 20}), events) is None
    assert convicted(alone("error_ratio", {"floor": "5%"}), events) is None
    assert convicted(alone("error_ratio"), events) is not None


def test_trouble_that_passes_while_warming_up_is_forgiven() -> None:
    """Up to a tenth of the requests fails for a minute, or more and more seldom for two."""
    for seed in range(10):
        service = shop(seed)
        events = [*service.deploy("v1", -900), *service.run(-900, 0), *service.deploy("v2", 0)]
        for share in ([0.1] * 6, [0.1 * 0.6**k for k in range(12)]):
            bad = [one for k, errors in enumerate(share) for one in service.run(10 * k, 10 * k + 10, errors=errors)]
            after = service.run(10 * len(share), 900)
            assert convicted(alone("error_ratio"), [*events, *bad, *after]) is None


def test_severe_trouble_is_not_waited_for() -> None:
    after = convicted_after(alone("error_ratio"), released(shop(), errors=0.5))
    assert after is not None
    assert after < 60


@pytest.mark.parametrize("errors", [0.05, 0.3, 1.0])
def test_one_bad_sample_does_not_convict(errors: float) -> None:
    """Nor does it when a stray request fails soon after it, as one in five hundred always did."""
    found = []
    for seed in range(10):
        service = shop(seed)
        events = [*service.deploy("v1", -900), *service.run(-900, 0), *service.deploy("v2", 0), *service.run(0, 300)]
        events += [*service.run(300, 310, errors=errors), *service.run(310, 1200)]
        found += [seed] if convicted(alone("error_ratio"), events) is not None else []
    assert found == []


def test_without_a_baseline_nothing_can_be_called_worse() -> None:
    service = shop()
    subject = alone("error_ratio")
    events = [*service.deploy("v2", 0, previous="v1"), *service.run(0, 1200, errors=0.5)]
    assert convicted(subject, events) is None
    assert evidence(subject).verdict == "insufficient"


def test_a_fault_from_before_is_not_held_against_the_release() -> None:
    """The deployment may even be the cure."""
    service = shop()
    events = [*service.deploy("v1", -900), *service.run(-900, -120), *service.run(-120, 0, errors=0.2)]
    events += [*service.deploy("v2", 0), *service.run(0, 600, errors=0.2)]
    assert convicted(alone("error_ratio"), events) is None


@pytest.mark.parametrize(
    "into",
    [
        0.0,
        5.0,
        8.0,
    ],
)
@pytest.mark.parametrize("errors", [0.05, 0.3, 1.0])
def test_a_deployment_may_come_at_any_moment_between_two_samples(into: float, errors: float) -> None:
    """The sample that begins before it and ends after it does not show trouble from before."""
    for seed in range(6):
        service = shop(seed, every=1.0)
        events = [*service.deploy("v1", -905), *service.run(-905, 0), *service.deploy("v2", 0)]
        events += service.run(0, 300, errors=errors)
        after = convicted_after(alone("error_ratio"), gathered(events, 10, into))
        assert after is not None
        assert after < 200


@pytest.mark.parametrize("gap", [10, 30, 200])
def test_samples_that_are_missing_just_before_the_deployment_excuse_nothing(gap: float) -> None:
    service = shop()
    events = [*service.deploy("v1", -900), *service.run(-900, -gap), *service.deploy("v2", 0)]
    assert convicted(alone("error_ratio"), [*events, *service.run(0, 600, errors=0.3)]) is not None


@pytest.mark.parametrize(
    ("began", "theirs", "blamed"),
    [
        (0, 0.8, False),  # it is worse for the neighbour
        (300, 0.2, False),  # it began with no deployment
        (0, 0.05, True),  # it began with the deployment and is worst here: the neighbour suffers from us
        (0, None, True),
        (300, None, True),
    ],
)
def test_trouble_shared_with_a_neighbour_is_not_blamed_on_the_release(
    began: float, theirs: float | None, blamed: bool
) -> None:
    """A database both depend on: the neighbour, where nothing was deployed, fails as well."""
    service, other = shop(), shop(name="cart")
    ours = [*service.deploy("v1", -900), *service.run(-900, 0), *service.deploy("v2", 0), *service.run(0, began)]
    ours += service.run(began, 1200, errors=0.2)
    neighbour = [*other.deploy("c1", -900), *other.run(-900, began), *other.run(began, 1200, errors=theirs)]
    outcomes = play(alone("error_ratio"), weave(ours, neighbour))
    assert [decision.service for decision in decisions(outcomes)] == (["shop"] if blamed else [])


def canary(new: float, old: float, seed: int = 1) -> list[AnyEvent]:
    """v1 goes on beside v2, each under its own label."""
    service, beside = shop(seed, labelled=True), shop(seed + 100, labelled=True, version="v1")
    before = [*service.deploy("v1", -900), *service.run(-900, 0)]
    after = weave(
        [*service.deploy("v2", 0), *service.run(0, 1200, errors=new, rate=4.0)], beside.run(0, 1200, errors=old)
    )
    return [*before, *after]


def test_a_bad_canary_is_told_from_the_old_release_beside_it() -> None:
    decision = convicted(alone("error_ratio"), canary(new=0.2, old=0.002))
    assert decision is not None
    assert "The old release shares it: no, the old release beside it does not show it." in decision.considered


def test_trouble_that_the_old_release_shows_as_well_is_not_the_canary_s() -> None:
    assert [seed for seed in range(10) if convicted(alone("error_ratio"), canary(0.1, 0.1, seed))] == []


def test_the_stream_of_all_versions_is_not_the_old_release_beside_the_new() -> None:
    """It holds the new release's failures as well, and they must not excuse themselves."""
    service, mixed = shop(labelled=True), shop(version="", name="shop")
    events = [*service.deploy("v1", -900), *weave(service.run(-900, 0), mixed.run(-900, 0)), *service.deploy("v2", 0)]
    events += weave(service.run(0, 600, errors=0.2), mixed.run(0, 600, errors=0.2))
    assert convicted(alone("error_ratio"), events) is not None


def test_a_gap_in_the_data_convicts_nobody_and_hides_nothing() -> None:
    service = shop()
    events = [*service.deploy("v1", -900), *service.run(-900, 0), *service.deploy("v2", 0), *service.run(0, 200)]
    assert convicted(alone("error_ratio"), [*events, *service.run(700, 1200)]) is None
    after = convicted_after(alone("error_ratio"), [*events, *service.run(700, 1200, errors=0.3)])
    assert after is not None
    assert 700 < after < 800


def test_samples_without_requests_say_nothing() -> None:
    service = shop()
    subject = alone("error_ratio")
    events = [
        *service.deploy("v1", -900),
        *service.run(-900, 0),
        *service.deploy("v2", 0),
        *service.run(0, 600, rate=0),
    ]
    assert convicted(subject, events) is None
    assert evidence(subject).verdict == "insufficient"


def test_a_sample_of_the_time_before_that_comes_late_is_no_evidence() -> None:
    service = shop()
    events = [*service.deploy("v1", -900), *service.run(-900, 0), *service.deploy("v2", 0)]
    for event in service.run(0, 600):
        events.append(event)
        events.append(Requests(t=START - 5, service="shop", total=200, errors=200))
    assert convicted(alone("error_ratio"), events) is None


def test_the_evidence_says_what_was_and_what_is() -> None:
    decision = convicted(alone("error_ratio"), released(shop(), errors=0.2))
    assert decision is not None
    (found,) = decision.evidence
    assert found.verdict == "degraded"
    assert found.baseline == pytest.approx(0.002, abs=0.001)
    assert found.observed == pytest.approx(0.2, abs=0.05)
    assert found.interval is not None
    assert found.interval[0] < 0.2 < found.interval[1]
    assert found.strength >= found.threshold > 0
    assert found.onset is not None
    assert 0 <= found.onset - START <= 70
    assert "requests failed, before it was 0." in found.summary
