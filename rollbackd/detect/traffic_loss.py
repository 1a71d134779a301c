"""Rule `traffic_loss`: requests no longer reach the new release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from rollbackd.detect.base import Charge, Rule, Scene, decades
from rollbackd.detect.chart import course
from rollbackd.detect.history import ANY_VERSION
from rollbackd.detect.noise import ORDINARY_TAU_S, PRIOR_SPREAD, variance_of_mean
from rollbackd.detect.sequential import LN10, loss_evidence
from rollbackd.detect.settings import TrafficLossSettings
from rollbackd.detect.share_test import weight_of
from rollbackd.model import AnyEvent, Evidence, Requests, Verdict

EXPECT_S = 900.0
"""The rate to be expected is that of the last quarter of an hour: longer, and the time of day moves it."""
MIN_SAMPLES = 5
EMPTY = 2 / 3
"""A sample without any request lasts so much of its time only: a counter that begins anew reads as none, too."""


class TrafficLoss(Rule, tag="traffic_loss"):
    """Sequential test of a count against the least that is no loss.

    A likelihood ratio of Poisson counts, divided by the counts' own overdispersion. The stretch of loss begins where
    the sum of what is missing began to grow (Page 1954), and has to outlast a warm-up. Only for sources that see all
    versions in one stream: a canary's share is not known.
    """

    wants: ClassVar[tuple[type, ...]] = (Requests,)

    remaining: float
    limit: float
    rate: float | None = None
    spread: float = 0.0
    missing: float = 0.0
    began: float | None = None
    ended: float = 0.0
    lasted: float = 0.0
    count: float = 0.0
    least: float = 0.0
    weight: float = 0.0

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
            wild = sum((n - m) ** 2 - m for n, m in expected) / sum(m * m for _, m in expected)
            rule.spread = max(wild, PRIOR_SPREAD**2)
        return rule

    def fresh(self) -> Self:
        return type(self)(self.remaining, self.limit, self.rate, self.spread)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        assert isinstance(event, Requests)  # noqa: S101
        if event.version is not None or self.rate is None or event.t <= scene.deployed_at:
            return
        series = scene.history.counts[ANY_VERSION]
        row = series.newest(event.t)
        seconds = row[1] - row[0] if row is not None else 0.0
        if row is None or not 0 < seconds <= 2.5 * series.interval:
            return  # after a gap nobody knows how long a sample counted
        least = self.remaining * self.rate * seconds
        self.missing += least - row[3]
        if self.missing <= 0 or row[3] >= 2 * least:
            self.missing, self.began, self.lasted, self.count, self.least = 0.0, None, 0.0, 0.0, 0.0
            return
        if self.began is None:
            self.began = max(row[0], scene.deployed_at)
            self.weight = weight_of(self.began, row[1], scene.deployed_at, scene.warmup, scene.bake)
        self.lasted += seconds if row[3] > 0 else EMPTY * seconds
        self.ended, self.count, self.least = row[1], self.count + row[3], self.least + least

    @property
    def strength(self) -> float:
        if self.began is None or self.count >= self.least:
            return 0.0
        wandering = self.spread * variance_of_mean((self.ended - self.began) / ORDINARY_TAU_S)
        inflation = 1 + self.least * wandering
        return max((loss_evidence(self.count, self.least, inflation) + self.weight) / LN10, 0.0)

    @property
    def threshold(self) -> float:
        return self.limit

    def convicts(self, scene: Scene) -> bool:
        if self.began is None or scene.now <= scene.warm_at or self.lasted < scene.warmup:
            return False
        rate, _ = self._rate_since(scene, scene.now - max(scene.warmup / 2, 1e-3))
        still = rate is not None and self.rate is not None and rate < self.remaining * self.rate
        return still and self.strength >= self.limit

    def charge(self, scene: Scene) -> Charge:
        began = self.began if self.began is not None else scene.deployed_at
        left = self.remaining * self.count / self.least if self.least else 1.0
        return Charge(trouble="traffic", since=began, size=left)

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
        rate, total = self._rate_since(scene, self.began if self.began is not None else scene.deployed_at)
        known = rate is not None and self.rate is not None
        series = scene.history.counts.get(ANY_VERSION)
        verdict: Verdict = "healthy" if known else "insufficient"
        return Evidence(
            rule="traffic_loss",
            signal="traffic",
            verdict="degraded" if self.convicts(scene) else verdict,
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
            onset=self.began,
            worse=self.remaining * self.rate if self.rate is not None else None,
            harmed=self.least / self.remaining - self.count if self.began is not None and self.remaining else None,
            chart=course(series.rows, scene, _rate) if series is not None and known else (),
        )


def _rate(row: Sequence[float]) -> float | None:
    return row[3] / (row[1] - row[0]) if row[1] > row[0] else None
