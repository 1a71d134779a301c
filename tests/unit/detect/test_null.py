"""Good releases: how often a bake of a full hour, with a look every ten seconds, convicts one by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rollbackd.detect.noise import Noise
from rollbackd.detect.sequential import beginning_weight, excess_evidence, loss_evidence, wilson
from rollbackd.detect.share_test import ShareTest, weight_of

WARMUP, BAKE, EVERY = 60.0, 3600.0, 10.0
BAKES, ALPHA = 3000, 0.05
LIMIT = math.log10(1 / ALPHA)


def _weights() -> list[float]:
    starts = np.arange(0, BAKE, EVERY)
    return [weight_of(start, start + EVERY, 0.0, WARMUP, BAKE) for start in starts]


def _below_alpha(alarms: int, trials: int) -> None:
    low, high = wilson(alarms, trials)
    assert high < ALPHA, f"{alarms} of {trials} good bakes convicted: {low:.4f} to {high:.4f} (95 %), promised {ALPHA}"


@pytest.mark.parametrize(("null", "requests"), [(0.003, 200), (0.02, 20)])
def test_a_good_hour_is_convicted_of_errors_less_often_than_alpha(null: float, requests: int) -> None:
    """Independent trials exactly at the null, a look every ten seconds for an hour. A test of fixed size that looks as
    often convicts many times as many of the same bakes (Armitage, McPherson, Rowe 1969, "Repeated significance tests on
    accumulating data")."""
    drawn = np.random.default_rng(1)
    weights, alarms = _weights(), 0
    bakes = drawn.binomial(requests, null, (BAKES // 2, len(weights)))
    seen = requests * np.arange(1, len(weights) + 1)
    away = (bakes.cumsum(axis=1) - seen * null) / np.sqrt(seen * null * (1 - null))
    assert (away > stats.norm.ppf(1 - ALPHA)).any(axis=1).mean() > 4 * ALPHA
    for counts in bakes.tolist():
        test = ShareTest(null, 0.0, null)
        for k, (failures, weight) in enumerate(zip(counts, weights, strict=True)):
            if not test.calm(failures, requests):
                test.take(k * EVERY, (k + 1) * EVERY, failures, requests, told=True, weight=weight)
                if test.strength() >= LIMIT:
                    alarms += 1
                    break
    _below_alpha(alarms, BAKES // 2)


def test_a_good_hour_is_convicted_of_lost_traffic_less_often_than_alpha() -> None:
    """Arrivals that are as few as is no loss; the stretch begins where what is missing began to grow."""
    drawn, least = np.random.default_rng(2), 12.0
    weights, alarms = _weights(), 0
    for counts in drawn.poisson(least, (BAKES, len(weights))).tolist():
        missing = counted = expected = weight = 0.0
        for count, begins in zip(counts, weights, strict=True):
            if missing <= 0:
                missing = counted = expected = 0.0
                weight = begins
            missing, counted, expected = missing + least - count, counted + count, expected + least
            if missing > 0 and loss_evidence(counted, expected) + weight >= LIMIT * math.log(10):
                alarms += 1
                break
    _below_alpha(alarms, BAKES)


def test_a_good_hour_is_convicted_of_new_errors_less_often_than_alpha() -> None:
    """Lines as often as they may come, counted from the first on, with a look at each."""
    drawn, rate, trials = np.random.default_rng(3), 1 / 60, 2 * BAKES
    alarms = 0
    for gaps in drawn.exponential(1 / rate, (trials, 120)):
        lines = np.cumsum(gaps)
        first = float(lines[0])
        weight = beginning_weight(first, WARMUP, WARMUP, BAKE) - math.log(2)
        for k, at in enumerate(lines[lines < BAKE][1:].tolist(), start=1):
            if excess_evidence(k, rate * (at - first)) + weight >= LIMIT * math.log(10):
                alarms += 1
                break
    _below_alpha(alarms, trials)


def test_wandering_that_is_known_is_no_evidence_either() -> None:
    """Not independent: the share wanders by a quarter for minutes, as the noise says that the test is told of."""
    drawn, usual, requests = np.random.default_rng(4), 0.01, 2000
    deviation, tau = 0.25 * usual, 200.0
    told = Noise(deviation**2 * 0.906, tau)  # the mean over a block of 60 s varies less: g(0.3) = 0.906
    null, kept = usual * 1.15, math.exp(-EVERY / tau)
    weights, bakes = _weights(), 400
    alarms = {True: 0, False: 0}
    for _ in range(bakes):
        at, wave = drawn.normal(0, deviation), []
        for step in drawn.normal(0, deviation * math.sqrt(1 - kept**2), len(weights)):
            at = kept * at + step
            wave.append(max(usual + at, 0.0))
        counts = drawn.binomial(requests, wave).tolist()
        for knows in alarms:
            test = ShareTest(usual, 0.0, null, told if knows else Noise())
            for k, (failures, weight) in enumerate(zip(counts, weights, strict=True)):
                test.take(k * EVERY, (k + 1) * EVERY, failures, requests, told=True, weight=weight)
                if test.strength() >= LIMIT:
                    alarms[knows] += 1
                    break
    assert alarms[True] <= ALPHA * bakes, f"{alarms[True]} of {bakes} good bakes convicted, promised {ALPHA}"
    assert alarms[False] > bakes / 4, "the noise must be large enough to matter"
