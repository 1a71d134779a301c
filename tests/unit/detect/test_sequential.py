"""The statistics under the rules, against closed forms, published values and a simulation."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.detect.sequential import (
    ODDS_RATIOS,
    START_MASS,
    ProportionTest,
    log_add,
    longest_run,
    overdispersion,
    wilson,
)

UNCAPPED = math.inf


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes: float, total: float, low: float, high: float) -> None:
    assert wilson(successes, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_knows_nothing_without_counts() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.floats(0, 1e15), st.floats(1e-3, 1e15))
def test_wilson_holds_the_share_and_stays_a_share(successes: float, total: float) -> None:
    """Also where rounding has made the successes a little more than all."""
    low, high = wilson(successes, total)
    assert 0 <= low <= high <= 1
    assert low - 1e-9 <= min(successes / total, 1.0) <= high + 1e-9


def test_log_add_is_the_log_of_a_sum() -> None:
    assert log_add(math.log(2), math.log(3)) == pytest.approx(math.log(5))
    assert log_add(-math.inf, 1.0) == log_add(1.0, -math.inf) == 1.0
    assert log_add(-math.inf, -math.inf) == -math.inf
    assert log_add(1e6, -1e6) == 1e6


def test_counts_that_scatter_as_much_as_possible() -> None:
    """None or all of ten in turn: each has (5 - 0)^2 / (10/4) = 10, so four have 40 over 3 degrees of freedom."""
    assert overdispersion([(0, 10), (10, 10)] * 2) == pytest.approx(40 / 3)


def test_slow_waves_are_found_in_blocks() -> None:
    """Six bad samples after six good ones: the blocks scatter six times as much as their samples do."""
    wave = ([(0.0, 10.0)] * 6 + [(2.0, 10.0)] * 6) * 10
    singles = overdispersion(wave, block=10**6)
    assert overdispersion(wave) == pytest.approx(6 * singles * 119 / 120 * 20 / 19)


@pytest.mark.parametrize("counts", [[], [(1.0, 10.0)] * 3, [(0.0, 10.0)] * 50, [(10.0, 10.0)] * 50, [(0.0, 0.0)] * 50])
def test_nothing_is_made_of_too_little(counts: list[tuple[float, float]]) -> None:
    assert overdispersion(counts) == 1.0


def test_overdispersion_is_bounded_and_never_below_one() -> None:
    assert overdispersion([(0, 1e6), (1e6, 1e6)] * 20) == 100.0
    assert overdispersion([(5.0, 10.0)] * 20) == 1.0


def test_independent_trials_are_not_overdispersed() -> None:
    drawn = random.Random(5)
    samples = [(float(sum(drawn.random() < 0.1 for _ in range(100))), 100.0) for _ in range(300)]
    assert overdispersion(samples) == pytest.approx(1.0, abs=0.5)


def test_the_evidence_of_one_failure_in_closed_form() -> None:
    """A likelihood ratio of p/q for each alternative p, mixed evenly, on the share of weight that starts here."""
    test = ProportionTest()
    test.update(1, 1, 0.1, weight=0.0, discount=1.0, most=UNCAPPED)
    ratios = [10 * ratio / (9 + ratio) for ratio in ODDS_RATIOS]
    assert 10**test.strength == pytest.approx(START_MASS * sum(ratios) / len(ratios))


def test_no_sample_is_no_evidence() -> None:
    test = ProportionTest()
    assert test.strength == 0.0
    test.update(0, 0, 0.1, weight=0.5, discount=1.0, most=UNCAPPED)
    assert test.strength == 0.0


@pytest.mark.parametrize("share", [0.2, 0.1])
def test_the_expected_evidence_under_the_null_is_at_most_one(share: float) -> None:
    """Over every sequence of nine trials, exactly: an e-value, which is what makes peeking harmless."""
    expected = 0.0
    for outcome in itertools.product((0, 1), repeat=9):
        test = ProportionTest()
        for failed in outcome:
            test.update(failed, 1, 0.2, weight=(1 - START_MASS) / 8, discount=1.0, most=UNCAPPED)
        failures = sum(outcome)
        expected += share**failures * (1 - share) ** (9 - failures) * 10**test.strength
    assert expected <= 1.0 + 1e-9
    if share == 0.2:
        assert expected == pytest.approx(1.0)


def test_a_cut_sample_and_a_discounted_one_weigh_less() -> None:
    free, cut, discounted = ProportionTest(), ProportionTest(), ProportionTest()
    free.update(50, 100, 0.01, weight=0.1, discount=1.0, most=UNCAPPED)
    cut.update(50, 100, 0.01, weight=0.1, discount=1.0, most=2.0)
    discounted.update(50, 100, 0.01, weight=0.1, discount=10.0, most=UNCAPPED)
    assert cut.strength <= 2.0 / math.log(10)
    assert 0 < discounted.strength < free.strength / 9


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1e15), st.floats(0, 1), st.floats(0, 10), st.floats(1, 100)),
        max_size=30,
    )
)
def test_the_test_never_fails_at_the_edges(samples: list[tuple[float, float, float, float, float]]) -> None:
    test = ProportionTest()
    for share, total, null, weight, discount in samples:
        test.update(share * total, total, null, weight=weight, discount=discount, most=50.0)
    assert math.isfinite(test.strength) or test.strength == -math.inf
    assert test.spent <= 1.0


BAKES, LOOKS, ALPHA = 2000, 60, 0.05


def _binomial(drawn: random.Random, total: int, share: float) -> int:
    """By the gaps between successes, which are geometric: quick where successes are rare."""
    count, at, scale = 0, 0, math.log1p(-share)
    while True:
        at += 1 + int(math.log(1 - drawn.random()) / scale)
        if at > total:
            return count
        count += 1


def _crosses(drawn: random.Random, shares: list[float]) -> int | None:
    """The look at which the test convicts, samples of 100 tested against 2 %."""
    test = ProportionTest()
    for look, share in enumerate(shares):
        failures = _binomial(drawn, 100, share)
        test.update(failures, 100, 0.02, weight=(1 - START_MASS) / LOOKS, discount=1.0, most=UNCAPPED)
        if test.strength >= math.log10(1 / ALPHA):
            return look
    return None


def test_looking_sixty_times_keeps_the_share_of_false_alarms_below_alpha() -> None:
    """2,000 bakes exactly at the null, each looked at 60 times: the upper end of the 95 % (Wilson) interval of the
    share that ever convicts lies below alpha. A fixed-horizon test of this level, looked at 50 times, convicts 32 %
    (Armitage, McPherson and Rowe 1969, "Repeated significance tests on accumulating data", table 2)."""
    drawn = random.Random(20_240_601)
    alarms = sum(_crosses(drawn, [0.02] * LOOKS) is not None for _ in range(BAKES))
    assert wilson(alarms, BAKES)[1] < ALPHA
    assert alarms > 0


def test_a_fault_that_sets_in_late_is_found_as_well() -> None:
    drawn = random.Random(7)
    for onset in (0, 20, 40):
        found = [_crosses(drawn, [0.02] * onset + [0.1] * (LOOKS - onset)) for _ in range(50)]
        delays = sorted(look - onset for look in found if look is not None)
        assert len(delays) == 50
        assert sum(delay < 0 for delay in delays) <= 5
        assert delays[-1] < 8


def test_the_longest_run_forgives_a_single_sample_in_between() -> None:
    def run(pattern: str) -> float:
        return longest_run((10.0, sign == "x") for sign in pattern)

    assert [run(pattern) for pattern in ("", "...", "x", "xx.xx", "xx..xx", "x.x.x", "xxx..x")] == [
        0, 0, 10, 50, 20, 50, 30,
    ]  # fmt: skip
