"""The statistics under the counting rules: another implementation, exact enumeration, and how long they take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.delay import FAULTS, alpha, bound, measure, null_of
from rollbackd.detect.base import decades
from rollbackd.detect.sequential import (
    ODDS_RATIOS,
    REMAINS,
    beginning_weight,
    excess_evidence,
    loss_evidence,
    share_evidence,
    wilson,
)
from rollbackd.detect.share_test import ShareTest, weight_of

WARMUP, BAKE, EVERY = 60.0, 3600.0, 10.0


# -- beside scipy


@pytest.mark.parametrize("total", [1, 7, 300, 100_000])
@pytest.mark.parametrize("null", [1e-5, 0.003, 0.2, 0.97])
def test_the_evidence_of_a_share_is_a_ratio_of_binomial_likelihoods(total: int, null: float) -> None:
    for failures in {0, 1, total // 100, total // 3, total}:
        usual = stats.binom.logpmf(failures, total, null)
        odds = [ratio * null / (1 - null) for ratio in ODDS_RATIOS]
        ratios = [stats.binom.logpmf(failures, total, one / (1 + one)) - usual for one in odds]
        expected = max(ratios) - math.log(len(ratios))
        assert share_evidence(failures, total, null) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("mean", [0.01, 3.0, 250.0, 1e5])
def test_the_evidence_of_a_count_is_a_ratio_of_poisson_likelihoods(mean: float) -> None:
    for count in {0, 1, round(mean / 20), round(mean), round(3 * mean)}:
        usual = stats.poisson.logpmf(count, mean)
        for evidence, alternatives in ((loss_evidence, REMAINS), (excess_evidence, ODDS_RATIOS)):
            ratios = [stats.poisson.logpmf(count, mean * one) - usual for one in alternatives]
            expected = max(ratios) - math.log(len(ratios))
            assert evidence(count, mean) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_wilson_s_interval_is_scipy_s(total: int, share: float) -> None:
    successes = round(share * total)
    theirs = stats.binomtest(successes, total).proportion_ci(confidence_level=0.95, method="wilson")
    z = float(stats.norm.ppf(0.975))
    assert wilson(successes, total, z) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)
    assert wilson(successes, total) == pytest.approx((theirs.low, theirs.high), rel=1e-3, abs=1e-9)


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


# -- what evidence is


def test_no_sample_is_no_evidence() -> None:
    assert share_evidence(0, 0, 0.1) <= 0
    assert loss_evidence(0, 0) <= 0
    assert excess_evidence(0, 0) <= 0


@given(st.floats(0, 1e6), st.floats(0, 1), st.floats(0, 1), st.floats(1, 1e4))
def test_evidence_is_finite_at_every_edge(total: float, share: float, null: float, inflation: float) -> None:
    assert math.isfinite(share_evidence(share * total, total, null, inflation))
    assert math.isfinite(loss_evidence(share * total, total, inflation))
    assert math.isfinite(excess_evidence(share * total, total, inflation))


def test_evidence_grows_with_what_went_wrong_and_shrinks_with_noise() -> None:
    found = [share_evidence(failures, 1000, 0.01) for failures in (10, 20, 40, 80, 1000)]
    assert found == sorted(found)
    assert found[0] < 0 < found[2]
    lost = [loss_evidence(count, 100) for count in (100, 60, 30, 0)]
    assert lost == sorted(lost)
    assert lost[0] < 0 < lost[2]
    more = [excess_evidence(count, 100) for count in (100, 150, 300, 900)]
    assert more == sorted(more)
    assert more[0] < 0 < more[2]
    assert share_evidence(80, 1000, 0.01) > share_evidence(80, 1000, 0.01, 3.0) > share_evidence(80, 1000, 0.01, 30.0)


# -- exactly


@pytest.mark.parametrize("null", [0.02, 0.2, 0.6])
@pytest.mark.parametrize("better", [1.0, 0.5])
def test_the_expected_evidence_of_a_share_is_at_most_one(null: float, better: float) -> None:
    """Over every number of failures, at the null and below it."""
    for total in (1, 2, 5, 40, 400):
        logs = np.asarray(stats.binom.logpmf(range(total + 1), total, null * better)).tolist()
        expected = sum(math.exp(log + share_evidence(k, total, null)) for k, log in enumerate(logs))
        assert expected <= 1 + 1e-9


@pytest.mark.parametrize("mean", [0.1, 3.0, 80.0])
@pytest.mark.parametrize("better", [1.0, 1.5])
def test_the_expected_evidence_of_a_count_is_at_most_one(mean: float, better: float) -> None:
    """Over every count: a loss where at least so many are to be expected, an excess where at most."""
    counts = range(int(mean * 400) + 400)
    for evidence, actual in ((loss_evidence, mean * better), (excess_evidence, mean / better)):
        logs = np.asarray(stats.poisson.logpmf(counts, actual)).tolist()
        expected = sum(math.exp(log + evidence(k, mean)) for k, log in enumerate(logs))
        assert expected <= 1 + 1e-9


def _fed(failed: Iterable[int], null: float, looks: int) -> Iterator[float]:
    """The e-value after each of so many trials, each a sample; beginnings share their weight equally."""
    test = ShareTest(null, 0.0, null)
    for k, one in enumerate(failed):
        test.take(k, k + 1, one, 1, told=True, weight=-math.log(looks))
        yield 10 ** test.strength() if test.strength() > 0 else 0.0


@pytest.mark.parametrize("share", [0.2, 0.1])
@pytest.mark.parametrize("stop_at", [math.inf, 2.0, 1.1])
def test_the_expected_evidence_is_at_most_one_whenever_one_stops(share: float, stop_at: float) -> None:
    """Over every sequence of eleven trials, exactly: at the end, and at the first look that shows so much. The
    beginnings of the stretch are unknown, and it is the test that chooses among them."""
    expected, looks = 0.0, 11
    for outcome in itertools.product((0, 1), repeat=looks):
        found = list(_fed(outcome, 0.2, looks))
        shown = next((one for one in found if one >= stop_at), found[-1])
        failures = sum(outcome)
        expected += share**failures * (1 - share) ** (looks - failures) * shown
    assert 0 < expected <= 1 + 1e-9


@pytest.mark.parametrize("every", [0.5, 5.0, 10.0, 15.0, 60.0])
@pytest.mark.parametrize("warmup", [0.0, 10.0, 60.0, 600.0])
def test_the_weights_of_a_bake_s_beginnings_sum_to_about_one(every: float, warmup: float) -> None:
    """But for the sample on which the first two warm-ups end."""
    starts = np.arange(0, BAKE, every)
    spent = sum(math.exp(beginning_weight(start, every, warmup, BAKE)) for start in starts)
    assert 0.4 <= spent <= 1 + (every / (4 * warmup) if warmup else 0.0) + 1e-9


# -- how long it takes


@pytest.mark.parametrize(("usual", "fault"), FAULTS)
def test_no_more_than_three_times_the_fewest_requests_are_needed(usual: float, fault: float) -> None:
    """Beside the bound of Wald and Lorden, which holds for a test that knows the fault and when it begins. Figures in
    full are those of `bench/delay.py`."""
    row = measure(usual, fault, 200, seed=1)
    told = f"{row.ours} requests on average for {fault:.1%} after {usual:.2%}, at least {row.bound} are needed"
    assert 1 <= row.ratio <= 3, told


@pytest.mark.parametrize("late", [20, 120, 300])
def test_a_fault_that_sets_in_late_takes_but_little_longer(late: int) -> None:
    """Its beginning has less weight than that of a fault that comes with the deployment, and that is all."""
    usual, fault, requests = 0.002, 0.02, 100
    null, drawn = null_of(usual), np.random.default_rng(5)
    delays = []
    for _ in range(60):
        test, looks = ShareTest(usual, 0.0, null), 0
        while looks < late or test.strength() < decades(alpha()):
            failures = int(drawn.binomial(requests, fault if looks >= late else usual))
            weight = weight_of(looks * EVERY, (looks + 1) * EVERY, 0.0, WARMUP, BAKE)
            test.take(looks * EVERY, (looks + 1) * EVERY, failures, requests, told=True, weight=weight)
            looks += 1
        delays.append((looks - late) * requests)
    assert np.mean(delays) <= 4 * bound(fault, null)
