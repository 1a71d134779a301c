"""The sequential tests under the counting rules: may be looked at after every sample, at any moment.

**The statistic** is the evidence of one stretch of trouble. For a null "at most a share q of requests fails" and an
alternative p > q the likelihood ratio of independent Bernoulli trials,

    L(p) = (p/q)^failures * ((1-p)/(1-q))^(total-failures),

has an expectation of at most 1 under every share up to q, and its running product is a test supermartingale: it ever
reaches 1/alpha with probability at most alpha, however often one looks (Ville 1939; Ramdas, Gruenwald, Vovk, Shafer
2023, "Game-theoretic statistics and safe anytime-valid inference"). Nobody knows how bad it is, so several
alternatives share the evidence; nor when it began, so the moments at which a stretch may begin share a weight of 1.
What is reported,

    log E = max over p of log L(p) / inflation - log(number of alternatives) + log(weight of the stretch's beginning),

is never above the mixture over alternatives and beginnings, so the bound holds for it as well: a good release is ever
convicted by chance with probability at most alpha (Lindon, Sanden, Shirikian 2022, "Rapid Regression Detection in
Software Deployments through Sequential Testing", test counts the same way). Counts over time (arrivals) are tested
alike with the Poisson likelihood ratio.

**Assumptions**, and what is done where they fail. Trials are not independent: `noise.py` measures how a service's own
ratio wanders, and `inflation` (at least 1, growing with the stretch) divides the evidence by it; dividing a log
likelihood ratio by a number above 1 only lowers its expectation (Jensen), so the bound stays. The baseline is itself
a sample: the null is set above its upper confidence bound. Services have short spells of trouble that are nobody's
fault; no test of independent trials can know of those, and `persistence.py` asks for how long trouble must last.

**Delay.** For a known p no test needs fewer than log(1/alpha) / KL(p, q) requests on average (Wald 1945, Lorden 1971);
tests/unit/detect/test_sequential.py holds the measured delay beside it.
"""

from __future__ import annotations

import math

ODDS_RATIOS = (1.5, 2.5, 5.0, 20.0, 200.0)
"""Alternatives: the null's odds times these."""
REMAINS = (0.7, 0.4, 0.15, 0.03)
"""Alternatives for arrivals: this share of the least count that is no loss."""
WITH_DEPLOYMENT = 0.5
"""Share of the beginnings' weight that lies on the first two warm-ups after the deployment: when most faults begin."""

LN10 = math.log(10)


def share_evidence(failures: float, total: float, null: float, inflation: float = 1.0) -> float:
    """Log evidence (nats) that more than the share `null` fails, the beginning's weight left out; may be negative."""
    if total <= 0:
        return 0.0
    null = min(max(null, 1e-9), 1 - 1e-9)
    odds = null / (1 - null)
    best = -math.inf
    for ratio in ODDS_RATIOS:
        p = odds * ratio / (1 + odds * ratio)
        gain = failures * math.log(p / null) + (total - failures) * math.log((1 - p) / (1 - null))
        best = max(best, gain)
    return best / inflation - math.log(len(ODDS_RATIOS))


def loss_evidence(count: float, least: float, inflation: float = 1.0) -> float:
    """Log evidence (nats) that a count falls short of the Poisson mean `least`; may be negative."""
    best = max(count * math.log(share) + least * (1 - share) for share in REMAINS)
    return best / inflation - math.log(len(REMAINS))


def excess_evidence(count: float, most: float, inflation: float = 1.0) -> float:
    """Log evidence (nats) that a count exceeds the Poisson mean `most`; may be negative."""
    best = max(count * math.log(ratio) - most * (ratio - 1) for ratio in ODDS_RATIOS)
    return best / inflation - math.log(len(ODDS_RATIOS))


def beginning_weight(age: float, seconds: float, warmup: float, bake: float) -> float:
    """Log of the weight of a stretch that begins with a sample of `seconds`, `age` seconds after the deployment.

    The weights of one bake sum to at most 1: half of it lies on the warm-up and as much again, half on the whole bake.
    """
    early = WITH_DEPLOYMENT * seconds / (2 * warmup) if warmup > 0 and age < 2 * warmup - seconds / 2 else 0.0
    late = (1 - WITH_DEPLOYMENT) * seconds / bake
    return math.log(min(max(early + late, 1e-12), 1.0))


def wilson(successes: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927); (0, 1) where nothing was counted."""
    if total <= 0:
        return 0.0, 1.0
    p = min(max(successes / total, 0.0), 1.0)
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
