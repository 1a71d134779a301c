"""Rule `traffic_loss`: requests that no longer arrive."""

from __future__ import annotations

import pytest

from rollbackd.model import AnyEvent
from tests.support.streams import Service, weave
from tests.unit.detect.alone import alone, convicted, convicted_after, evidence


def shop(seed: int = 1, **how: object) -> Service:
    settings: dict[str, object] = {"rate": 20.0, "every": 10.0, "timed": False, "probed": False, "burst": 0.1, **how}
    return Service(seed=seed, **settings)  # type: ignore[arg-type]  # a test's shorthand


def released(service: Service, rate: float | None, until: float = 900) -> list[AnyEvent]:
    return [
        *service.deploy("v1", -900),
        *service.run(-900, 0),
        *service.deploy("v2", 0),
        *service.run(0, until, rate=rate),
    ]


@pytest.mark.parametrize("remaining", [0.2, 0.05, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_loss_is_found(remaining: float, seed: int) -> None:
    after = convicted_after(alone("traffic_loss"), released(shop(seed), 20 * remaining))
    assert after is not None
    assert 60 < after <= 180


def test_a_loss_that_sets_in_late_is_found() -> None:
    service = shop()
    after = convicted_after(alone("traffic_loss"), [*released(service, None), *service.run(900, 1200, rate=0)])
    assert after is not None
    assert after <= 1000


@pytest.mark.parametrize("remaining", [0.6, 1.0, 3.0])
@pytest.mark.parametrize("burst", [0.1, 0.5, 1.0])
def test_what_varies_is_not_lost(remaining: float, burst: float) -> None:
    found = [
        seed for seed in range(8) if convicted(alone("traffic_loss"), released(shop(seed, burst=burst), 20 * remaining))
    ]
    assert found == []


def test_silence_is_not_zero() -> None:
    """No samples at all: the source fails, which says nothing about the service."""
    service, subject = shop(probed=True), alone("traffic_loss")
    assert convicted(subject, [*released(service, None, 100), *service.run(100, 900, metrics=False)]) is None
    assert convicted(subject, service.run(1500, 1510, rate=0.1)) is None


def test_without_a_baseline_nothing_can_be_missed() -> None:
    service, subject = shop(), alone("traffic_loss")
    assert convicted(subject, [*service.deploy("v2", 0, previous="v1"), *service.run(0, 600, rate=0)]) is None
    assert evidence(subject).verdict == "insufficient"


def test_a_canary_s_share_of_the_traffic_is_not_known() -> None:
    service = shop(labelled=True)
    assert convicted(alone("traffic_loss"), released(service, 0)) is None


def test_a_loss_shared_with_a_neighbour_is_not_blamed_on_the_release() -> None:
    service, other = shop(), shop(name="cart")
    neighbour = [*other.deploy("c1", -900), *other.run(-900, 0), *other.run(0, 900, rate=0)]
    assert convicted(alone("traffic_loss"), weave(released(service, 0), neighbour)) is None


def test_the_evidence_names_both_rates() -> None:
    decision = convicted(alone("traffic_loss"), released(shop(), 0))
    assert decision is not None
    (found,) = decision.evidence
    assert found.observed == 0.0
    assert found.baseline == pytest.approx(20, rel=0.1)
    assert found.summary.startswith("0.0 requests/s arrive, before it was ")


def test_a_dip_shorter_than_a_warm_up_is_let_pass() -> None:
    """A balancer that moves the requests away and back again."""
    for seed in range(6):
        service = shop(seed)
        events = [*released(service, None, 300), *service.run(300, 340, rate=0), *service.run(340, 900)]
        assert convicted(alone("traffic_loss"), events) is None


def test_a_loss_that_is_over_before_the_evidence_suffices_is_let_pass() -> None:
    service = shop()
    events = [*service.deploy("v1", -900), *service.run(-900, 0), *service.deploy("v2", 0)]
    assert convicted(alone("traffic_loss"), [*events, *service.run(0, 50, rate=0), *service.run(50, 900)]) is None


def test_a_gap_between_samples_is_no_loss() -> None:
    """After it a sample counts less than its time would let expect, since counters began anew."""
    service = shop()
    events = released(service, None, 200)
    for k in range(4):
        events += service.run(300 + 200 * k, 400 + 200 * k)
    assert convicted(alone("traffic_loss"), events) is None


def test_what_is_no_loss_is_the_operator_s() -> None:
    events = released(shop(), 3.0)
    assert convicted(alone("traffic_loss", {"remaining": "10%"}), events) is None
    assert convicted(alone("traffic_loss"), events) is not None


@pytest.mark.parametrize("remaining", [0.2, 0.3])
def test_a_loss_that_leaves_a_third_is_found_in_the_end(remaining: float) -> None:
    """Less than the half that is let pass, for an hour."""
    assert convicted(alone("traffic_loss"), released(shop(), 20 * remaining, 3500)) is not None


def test_a_service_that_always_was_uneven_needs_to_lose_for_longer() -> None:
    even, uneven = (convicted_after(alone("traffic_loss"), released(shop(3, burst=b), 2.0, 1800)) for b in (0.05, 0.6))
    assert even is not None
    assert uneven is None or uneven >= even


def test_a_few_requests_a_minute_can_be_lost_as_well() -> None:
    for seed in range(3):
        after = convicted_after(alone("traffic_loss"), released(shop(seed, rate=0.5), 0, 1800))
        assert after is not None
        assert after < 600
