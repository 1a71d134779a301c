"""Rule `traffic_loss`: requests no longer reach the new release."""

from __future__ import annotations

import math
from typing import Self

import msgspec

from rollbackd.detect.base import Rule, Scene, decades
from rollbackd.detect.history import ANY_VERSION
from rollbackd.detect.sequential import LN10
from rollbackd.detect.settings import TrafficLossSettings
from rollbackd.model import AnyEvent, Evidence, Requests, Verdict

EXPECT_S = 900.0
"""The rate to be expected is that of the last quarter of an hour: longer, and the time of day moves it."""
MIN_SAMPLES = 5
SHARES = (0.5, 0.1, 0.01)
"""Alternatives: this share of the least rate that would still be no loss."""


class TrafficLoss(Rule, tag="traffic_loss"):
    """Sequential test of a count against the least rate that is no loss.

    A likelihood ratio of Poisson counts with the log-likelihood divided by the counts' own overdispersion, mixed over
    how much remains; evidence is cut off above a sample and never carried below zero (a Page CUSUM of it), since a
    loss may begin at any time. Only for sources that see all versions in one stream: a canary's share is not known.
    """

    remaining: float
    limit: float
    rate: float | None = None
    dispersion: float = 1.0
    sums: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(SHARES))
    onset: float | None = None

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.traffic_loss or TrafficLossSettings()
        rule = cls(remaining=settings.remaining, limit=decades(scene.alpha))
        series = scene.history.counts.get(ANY_VERSION)
        rows = series.between(scene.deployed_at - EXPECT_S, scene.deployed_at) if series else []
        rows = [row for row in rows if row[1] > row[0]]
        total, seconds = sum(row[3] for row in rows), sum(row[1] - row[0] for row in rows)
        if len(rows) >= MIN_SAMPLES and total > 0:
            rule.rate = total / seconds
            expected = [(row[3], rule.rate * (row[1] - row[0])) for row in rows]
            rule.dispersion = max(1.0, sum((n - m) ** 2 / m for n, m in expected) / (len(expected) - 1))
        return rule

    def fresh(self) -> Self:
        return type(self)(self.remaining, self.limit, self.rate, self.dispersion)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        if not isinstance(event, Requests) or event.version is not None or self.rate is None:
            return
        series = scene.history.counts[ANY_VERSION]
        row = series.newest(event.t)
        seconds = row[1] - row[0] if row is not None else 0.0
        if row is None or event.t <= scene.warm_at or not 0 < seconds <= 2.5 * series.interval:
            return  # after a gap nobody knows how long a sample counted
        least = self.remaining * self.rate * seconds
        total = row[3]
        if total < least and scene.neighbours("traffic", "") is not None:
            return
        most = self.limit * LN10 * seconds / scene.patience(series.interval, severe=False)
        for k, share in enumerate(SHARES):
            gain = (total * math.log(share) + least * (1 - share)) / self.dispersion
            self.sums[k] = max(0.0, self.sums[k] + min(gain, most))
        if self.strength <= 0:
            self.onset = None
        elif self.onset is None:
            self.onset = row[0]

    @property
    def strength(self) -> float:
        return max(self.sums) / LN10 - math.log10(len(SHARES)) if any(self.sums) else 0.0

    @property
    def threshold(self) -> float:
        return self.limit

    def _rate_since(self, scene: Scene, since: float) -> tuple[float | None, float]:
        series = scene.history.counts.get(ANY_VERSION)
        seconds, sums = series.window(since, scene.now) if series is not None else (0.0, [])
        return (sums[1] / seconds, sums[1]) if sums and seconds > 0 else (None, 0.0)

    def standing(self, scene: Scene, since: float) -> Verdict:
        rate, _ = self._rate_since(scene, since)
        if rate is None or self.rate is None:
            return "insufficient"
        return "degraded" if rate < self.remaining * self.rate else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        rate, total = self._rate_since(scene, self.onset if self.onset is not None else scene.deployed_at)
        known = rate is not None and self.rate is not None
        return Evidence(
            rule="traffic_loss",
            signal="traffic",
            verdict="degraded" if self.convicts else ("healthy" if known else "insufficient"),
            summary=(
                f"{rate:.1f} requests/s arrive, before it was {self.rate:.1f}"
                if known
                else "no traffic to compare with"
            ),
            unit="1/s",
            baseline=self.rate,
            observed=rate,
            samples=total,
            strength=self.strength,
            threshold=self.limit,
            onset=self.onset,
        )
