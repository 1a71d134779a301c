"""How much a ratio wanders: what is estimated of a simulated one, and what that does to evidence."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.detect.noise import BLOCK_S, Noise, estimate

EVERY = 10.0


def block_variance(variance: float, tau: float) -> float:
    """Variance of the mean over a block of an Ornstein-Uhlenbeck process of such a variance at a moment."""
    x = BLOCK_S / tau
    return variance * 2 * (x - 1 + math.exp(-x)) / x**2


def wandering(seed: int, share: float, deviation: float, tau: float, requests: int, hours: float) -> list[float]:
    """The share at each sample."""
    drawn = np.random.default_rng(seed)
    kept, at, shares = math.exp(-EVERY / tau), drawn.normal(0, deviation), []
    for step in drawn.normal(0, deviation * math.sqrt(1 - kept**2), round(hours * 3600 / EVERY)):
        at = kept * at + step
        shares.append(min(max(share * (1 + at), 0.0), 1.0))
    return shares


def samples(seed: int, shares: list[float], requests: int) -> list[tuple[float, float, float]]:
    drawn = np.random.default_rng(seed + 1000)
    return [(EVERY, float(count), float(requests)) for count in drawn.binomial(requests, shares)]


@pytest.mark.parametrize(
    ("share", "deviation", "tau"),
    [(0.02, 0.3, 120.0), (0.02, 0.3, 600.0), (0.2, 0.2, 200.0), (0.5, 0.15, 300.0)],
)
def test_variance_and_memory_of_a_simulated_ratio_are_recovered(share: float, deviation: float, tau: float) -> None:
    """Ornstein-Uhlenbeck shares of many requests over six hours; single estimates within a factor of three, and
    half-way of fifteen seeds within two. An ordinary service's prior draws each towards itself."""
    found = []
    for seed in range(15):
        counts = samples(seed, wandering(seed, share, deviation, tau, 20_000, 6), 20_000)
        found.append(estimate(counts, share))
    variance = block_variance((share * deviation) ** 2, tau)
    ratios = [one.variance / variance for one in found]
    memories = [one.tau / tau for one in found]
    for values in (ratios, memories):
        assert all(1 / 3 < one < 3 for one in values), values
        assert 1 / 2 < statistics.median(values) < 2


def test_independent_trials_leave_no_more_than_the_prior() -> None:
    share = 0.02
    found = [estimate(samples(seed, [share] * 2160, 2000), share).variance for seed in range(10)]
    much = block_variance((0.3 * share) ** 2, 200.0)
    assert all(one < much / 10 for one in found)


def test_without_a_history_an_ordinary_service_is_assumed() -> None:
    """Some wandering, remembered for minutes: not none, since nobody's ratio is constant."""
    for counts in ([], [(10.0, 0.0, 100.0)] * 3, [(60.0, 0.0, 0.0)] * 50):
        found = estimate(counts, 0.01)
        assert 0 < found.variance < (0.5 * 0.01) ** 2
        assert 60 < found.tau < 1000


def test_a_spell_does_not_pass_for_wandering() -> None:
    """One in twenty minutes is ten times as bad: left to `persistence`, it may not make a later fault invisible."""
    shares = [0.1 if k % 120 < 6 else 0.01 for k in range(720)]
    spoilt = estimate(samples(1, shares, 2000), 0.0145)
    assert spoilt.variance < (0.5 * 0.0145) ** 2


def test_more_wandering_is_found_to_be_more() -> None:
    found = [
        estimate(samples(7, wandering(7, 0.02, deviation, 300, 5000, 6), 5000), 0.02).variance
        for deviation in (0.05, 0.2, 0.5)
    ]
    assert found[0] < found[1] / 2 < found[2] / 4


# -- inflation


def test_the_inflation_is_what_a_simulated_sum_varies_more() -> None:
    """Sums over five minutes of a share that wanders, beside the binomial variance of as many trials."""
    share, deviation, tau, requests, seconds = 0.02, 0.3, 200.0, 500, 300.0
    told = Noise(block_variance((share * deviation) ** 2, tau), tau)
    per_sum = round(seconds / EVERY)
    sums = []
    for seed in range(40):
        counts = [row[1] for row in samples(seed, wandering(seed, share, deviation, tau, requests, 6), requests)]
        sums += [sum(counts[k : k + per_sum]) for k in range(0, len(counts) - per_sum, per_sum)]
    total = requests * per_sum
    seen = statistics.pvariance(sums) / (total * share * (1 - share))
    assert told.inflation(total, share, seconds) == pytest.approx(seen, rel=0.25)


def test_what_does_not_wander_is_not_inflated() -> None:
    assert Noise(0.0).inflation(1e6, 0.1, 600) == 1.0
    assert Noise(1e-4).inflation(0, 0.1, 600) == 1.0


def test_inflation_grows_with_the_requests_and_shrinks_with_the_time_they_are_spread_over() -> None:
    noise = Noise(1e-6, 200.0)
    by_total = [noise.inflation(total, 0.01, 60) for total in (10, 100, 1000, 10_000)]
    assert by_total == sorted(by_total)
    by_time = [noise.inflation(10_000, 0.01, seconds) for seconds in (10, 60, 600, 6000)]
    assert by_time == sorted(by_time, reverse=True)


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1), st.floats(0, 1e12)), max_size=40),
    st.floats(0, 1),
    st.floats(0, 1e12),
    st.floats(0, 1e6),
)
def test_an_estimate_exists_whatever_was_counted(
    rows: list[tuple[float, float, float]], share: float, total: float, seconds: float
) -> None:
    found = estimate([(took, part * of, of) for took, part, of in rows], share)
    assert math.isfinite(found.variance)
    assert found.variance >= 0
    assert found.tau > 0
    assert found.inflation(total, share, seconds) >= 1.0
