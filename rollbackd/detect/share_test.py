"""One sequential test of a share (of requests that fail, or are slower than a bound) against what is usual."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from rollbackd.detect.base import RECENT_S, Scene
from rollbackd.detect.noise import Noise
from rollbackd.detect.persistence import Spells
from rollbackd.detect.sequential import LN10, beginning_weight, share_evidence, wilson

LEEWAY = 1.1
"""A stretch of trouble goes on while more than so many times the null fails on the whole."""
FEWEST = 8.0
"""Fewer failures than this convict nobody: two or three strays are everybody's."""
FEWEST_OF_SAMPLE = 1.0
"""Of a sample's failures so many count among the fewest, or a tenth of its requests: what fails together is one
mishap."""
SURE = 2.6
"""Standard errors from which on a share is taken to lie above another."""
GOES_ON = 0.25
"""Trouble that shrank to less than this share of what it was is no longer the same."""
FALLING = 0.8
"""Trouble that shrank to this share of itself within half a warm-up is on its way back."""
OVER_AT = 4.0
"""A stretch is over once so many failures were to be expected lately, at its own rate, and no more came than usual."""


class ShareTest(msgspec.Struct):
    """A null and the stretch of trouble, if any, that is going on.

    `usual` is the usual share, `error` the variance of that estimate, and `null` the largest share that is no worse.
    Since `began` (None while nothing is wrong) `failures` of `total` requests failed, of which `told` after the
    warm-up, which alone are evidence; `score` is how much more than the null allows. The stretch is the one for which
    that is largest, so `began` is the maximum-likelihood onset (Page 1954) for a fault just worse than allowed.
    """

    usual: float
    error: float
    null: float
    noise: Noise = Noise()
    seen: Spells = Spells()
    began: float | None = None
    ended: float = 0.0
    score: float = 0.0
    failures: float = 0.0
    total: float = 0.0
    told_failures: float = 0.0
    told_total: float = 0.0
    counted: float = 0.0
    weight: float = 0.0

    def fresh(self) -> ShareTest:
        """The same null without a stretch."""
        return ShareTest(self.usual, self.error, self.null, self.noise, self.seen)

    def exceeded_by(self, failures: float, total: float, seconds: float) -> bool:
        """Whether a share seen over so many seconds surely lies above the null, wandering included."""
        inflation = self.noise.inflation(total, self.null, seconds)
        return total > 0 and wilson(failures / inflation, total / inflation, SURE)[0] > self.null

    def calm(self, failures: float, total: float) -> bool:
        """Whether the sample changes nothing: no stretch goes on, and none begins."""
        return self.began is None and failures <= LEEWAY * self.null * total

    def take(
        self,
        start: float,
        end: float,
        failures: float,
        total: float,
        *,
        told: bool,
        weight: float,
        pause: float = math.inf,
    ) -> None:
        """Add the sample of `(start, end]`; `weight` is the log weight of a stretch that begins with it.

        A stretch does not go on through a gap of more than `pause` seconds: nobody saw what was in between.
        """
        if self.began is not None and start - self.ended > pause:
            self.clear()
        self.score += failures - LEEWAY * self.null * total
        if self.score <= 0:
            self.clear()
            return
        if self.began is None:
            self.began, self.weight = start, weight
        self.ended = end
        self.failures += failures
        self.total += total
        self.counted += min(failures, max(FEWEST_OF_SAMPLE, total / 10))
        if told:
            self.told_failures += failures
            self.told_total += total

    def clear(self) -> None:
        """The trouble is over."""
        self.began = None
        self.ended = self.score = self.failures = self.total = 0.0
        self.told_failures = self.told_total = self.counted = self.weight = 0.0

    def is_over(self, failures: float, total: float) -> bool:
        """Whether what was seen lately shows the stretch to be over, though on the whole it was bad."""
        if self.began is None or self.total <= 0:
            return False
        return failures <= self.null * total and total * self.failures / self.total >= OVER_AT

    def goes_on(self, newest: Iterable[tuple[float, float]]) -> bool:
        """Whether the newest samples (failures, total), as few as can tell, show the stretch still to be going on:
        worse than the null, and at least a quarter as bad as the stretch on the whole."""
        failures = total = 0.0
        for failed, of in newest:
            failures, total = failures + failed, total + of
            if total * self.share >= OVER_AT:
                break
        return failures > max(self.null, GOES_ON * self.share) * total

    @property
    def seconds(self) -> float:
        """How long the stretch has lasted."""
        return self.ended - self.began if self.began is not None else 0.0

    def strength(self, null: float | None = None) -> float:
        """Evidence of the stretch in decades, against this null or the test's own."""
        return self._decades(self.told_failures, self.told_total, null)

    def strength_with_warmup(self, null: float | None = None) -> float:
        """The same with what was seen while warming up."""
        return self._decades(self.failures, self.total, null)

    def _decades(self, failures: float, total: float, null: float | None) -> float:
        against = self.null if null is None else null
        if self.began is None or failures <= against * total:
            return 0.0
        inflation = self.noise.inflation(total, against, self.seconds)
        inflation += total * self.error / (against * (1 - against))  # the baseline is a sample as well
        return max((share_evidence(failures, total, against, inflation) + self.weight) / LN10, 0.0)

    @property
    def share(self) -> float:
        """The share of the stretch."""
        return self.failures / self.total if self.total else 0.0


def usual_share(failures: float, total: float, noise: Noise, seconds: float) -> tuple[float, float]:
    """The usual share, a standard error above what a sample over `seconds` shows, and the variance of that estimate."""
    inflation = noise.inflation(total, failures / total, seconds)
    share = wilson(failures / inflation, total / inflation, 1.0)[1]
    return share, share * (1 - share) * inflation / total


def weight_of(start: float, end: float, deployed_at: float, warmup: float, bake: float) -> float:
    """Log weight of a stretch that begins with the sample of `(start, end]`."""
    return beginning_weight(start - deployed_at, max(end - start, 1e-3), warmup, bake)


def onset_from(began: float, scene: Scene) -> float:
    """From when on the onset of a stretch is looked for: from before the deployment, where it may have begun there."""
    return min(began, scene.deployed_at) - RECENT_S if began < scene.warm_at else began


def is_falling(lately: float, before: float) -> bool:
    """Whether an excess is on its way back: a release that recovers by itself is still warming up."""
    return before > 0 and lately < FALLING * before
