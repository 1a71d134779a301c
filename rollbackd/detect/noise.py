"""How much a service's own ratio wanders: overdispersion and autocorrelation, estimated from its history.

The ratio of failures is taken for a constant times a slowly wandering multiplier, an Ornstein-Uhlenbeck process: its
share varies with variance V and forgets itself with time constant tau. A mean over T seconds then varies with V * g(T
/ tau), g(x) = 2 (x - 1 + exp(-x)) / x^2, beside the binomial p(1-p)/n. How often that is more than the binomial alone
is the `inflation` by which evidence is divided (McCullagh and Nelder 1989, 4.5, for one block; Williams 1982 for the
form 1 + n * rho).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec

BLOCK_S = 60.0
"""Blocks in which the history is read: shorter ones hold too few events, longer ones are too few."""
PRIOR_BLOCKS = 10.0
"""A history counts as so many blocks of an ordinary service's, beside its own."""
PRIOR_SPREAD = 0.12
"""How far an ordinary service's ratio wanders, as a share of itself (times its complement)."""
PRIOR_MEMORY = 0.7
"""Correlation of an ordinary service's neighbouring blocks."""
ORDINARY_TAU_S = 170.0
"""Time constant that goes with it."""
WILDEST = 2.5
"""A block further than this factor from the usual share is no wandering but a spell, which `persistence` sees to."""


class Noise(msgspec.Struct, frozen=True):
    """Variance of the share over a block, beyond the binomial, and the time constant of its wandering in seconds."""

    variance: float = 0.0
    tau: float = ORDINARY_TAU_S

    def inflation(self, total: float, share: float, seconds: float) -> float:
        """How many times more a sum of `total` trials over `seconds` varies than independent trials would."""
        if total <= 0 or self.variance <= 0:
            return 1.0
        share = min(max(share, 1e-9), 1 - 1e-9)
        wandering = self.variance * variance_of_mean(seconds / self.tau) / variance_of_mean(BLOCK_S / self.tau)
        return 1.0 + total * wandering / (share * (1 - share))


def estimate(counts: Sequence[tuple[float, float, float]], share: float) -> Noise:
    """From samples `(seconds, failures, total)` in order of time whose usual share is `share`."""
    share = min(max(share, 1e-9), 1 - 1e-9)
    prior = (PRIOR_SPREAD * share * (1 - share)) ** 2
    away: list[float] = []
    noise = 0.0
    for failures, total in _blocks(counts):
        seen = min(max(failures / total, share / WILDEST), 1 - (1 - share) / WILDEST, share * WILDEST)
        away.append(seen - share)
        noise += min(share * (1 - share) / total, (seen - share) ** 2 + prior)
    blocks = len(away)
    squares = sum(one * one for one in away)
    variance = max(squares - noise, 0.0)
    together = sum(one * other for one, other in itertools.pairwise(away))
    memory = min(max(together / variance, 0.0), 0.98) if variance > 0 else PRIOR_MEMORY
    memory = (memory * blocks + PRIOR_MEMORY * PRIOR_BLOCKS) / (blocks + PRIOR_BLOCKS)
    return Noise((variance + prior * PRIOR_BLOCKS) / (blocks + PRIOR_BLOCKS), -BLOCK_S / math.log(memory))


def _blocks(counts: Sequence[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """Sums (failures, total) over at least `BLOCK_S` seconds each; what is left over at the end is left out."""
    blocks: list[tuple[float, float]] = []
    seconds = failures = total = 0.0
    for took, failed, of in counts:
        seconds, failures, total = seconds + took, failures + failed, total + of
        if seconds >= BLOCK_S:
            if total > 0:
                blocks.append((failures, total))
            seconds = failures = total = 0.0
    return blocks


def variance_of_mean(x: float) -> float:
    """Variance of the mean over x time constants of an Ornstein-Uhlenbeck process of variance 1."""
    return 1.0 - x / 3 if x < 1e-3 else 2 * (x - 1 + math.exp(-x)) / (x * x)
