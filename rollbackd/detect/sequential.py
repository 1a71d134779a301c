"""The one sequential test under the counting rules: a proportion against a null, looked at after every sample.

The statistic is a test supermartingale (an e-process). For a null "at most a share q of requests fails" and an
alternative p > q the likelihood ratio of independent Bernoulli trials has expectation at most 1 whatever the true
share below q, so its running product crosses 1/alpha with probability at most alpha, however often one looks
(Ville's inequality; Ramdas, Gruenwald, Vovk, Shafer 2023, "Game-theoretic statistics and safe anytime-valid
inference"). Alternatives are mixed, since nobody knows how bad it is; so are the moments at which it may have begun,
since a fault can set in late (a mixture of e-processes over start times whose weights sum to at most 1 is one again).

Real traffic is no sequence of independent trials. Three measures keep the test honest there: the log-likelihood is
divided by the overdispersion that the service's own history shows; a sample's evidence is cut off above, which only
lowers an expectation; and the null is set above everything the baseline can explain (see the rules).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

ODDS_RATIOS = (1.5, 2.5, 5.0, 20.0, 200.0)
"""Alternatives: the null's odds times these."""
START_MASS = 0.5
"""Share of the start-time weight put on the first sample; the rest is spread evenly over the bake."""

LN10 = math.log(10)


class ProportionTest(msgspec.Struct):
    """State of one test. `log_e` holds the log of each alternative's mixture over start times."""

    log_e: list[float] = []
    spent: float = 0.0

    def update(
        self, failures: float, total: float, null: float, *, weight: float, discount: float, most: float
    ) -> None:
        """Take one sample: `failures` of `total`, tested against the share `null`.

        `weight` is the start-time weight due to this sample's time, `discount` the overdispersion (at least 1), and
        `most` the largest log evidence that the sample may add.
        """
        if total <= 0:
            return
        first = not self.log_e
        if first:
            self.log_e = [-math.inf] * len(ODDS_RATIOS)
        mass = min(START_MASS if first else weight, 1.0 - self.spent)
        self.spent += mass
        log_mass = math.log(mass) if mass > 0 else -math.inf
        null = min(max(null, 1e-9), 1 - 1e-9)
        odds = null / (1 - null)
        for k, ratio in enumerate(ODDS_RATIOS):
            p = odds * ratio / (1 + odds * ratio)
            gain = failures * math.log(p / null) + (total - failures) * math.log((1 - p) / (1 - null))
            self.log_e[k] = log_add(self.log_e[k], log_mass) + min(gain / discount, most)

    @property
    def strength(self) -> float:
        """Evidence against the null in decades: log10 of the e-value."""
        if not self.log_e:
            return 0.0
        total = -math.inf
        for value in self.log_e:
            total = log_add(total, value)
        return (total - math.log(len(self.log_e))) / LN10


def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


def wilson(successes: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) where nothing was counted."""
    if total <= 0:
        return 0.0, 1.0
    p = min(max(successes / total, 0.0), 1.0)
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def longest_run(samples: Iterable[tuple[float, bool]]) -> float:
    """The longest time, in seconds, that consecutive samples (seconds, whether in trouble) were in trouble; a single
    sample out of trouble does not end it."""
    longest = run = pause = 0.0
    forgiven = True
    for seconds, troubled in samples:
        if troubled:
            run, pause, forgiven = run + pause + seconds, 0.0, False
            longest = max(longest, run)
        elif not forgiven:
            pause, forgiven = seconds, True
        else:
            run = pause = 0.0
    return longest


def overdispersion(counts: Sequence[tuple[float, float]], block: int = 6, most: float = 100.0) -> float:
    """How many times more (failures, total) samples scatter than independent trials would, at least 1.

    Pearson's chi-square over its degrees of freedom (McCullagh and Nelder 1989, 4.5), for single samples and for blocks
    of `block` consecutive ones, which autocorrelation inflates; the larger of the two.
    """
    return min(most, max(1.0, _pearson(counts), _pearson(_blocks(counts, block))))


def _blocks(counts: Sequence[tuple[float, float]], size: int) -> list[tuple[float, float]]:
    groups = [counts[k : k + size] for k in range(0, len(counts) - size + 1, size)]
    return [(sum(f for f, _ in group), sum(n for _, n in group)) for group in groups]


def _pearson(counts: Sequence[tuple[float, float]]) -> float:
    used = [(f, n) for f, n in counts if n > 0]
    total = sum(n for _, n in used)
    p = sum(f for f, _ in used) / total if total else 0.0
    if len(used) < 4 or not 0 < p < 1:
        return 1.0
    return sum((f - n * p) ** 2 / (n * p * (1 - p)) for f, n in used) / (len(used) - 1)
