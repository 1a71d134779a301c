"""Rule `error_ratio`: the new release fails a larger share of its requests."""

from __future__ import annotations

from typing import Self

import msgspec

from rollbackd.detect.base import BASELINE_S, RECENT_S, SEVERE, Rule, Scene, decades
from rollbackd.detect.history import ANY_VERSION
from rollbackd.detect.sequential import LN10, START_MASS, ProportionTest, longest_run, overdispersion, wilson
from rollbackd.detect.settings import ErrorRatioSettings
from rollbackd.model import AnyEvent, Evidence, Requests, Verdict

MIN_BASELINE = 30.0
"""Requests that must have been seen before for "as before" to mean anything."""
MILD_FACTOR, MILD_EXCESS = 4.0, 0.01
"""Failure below so many times the usual, and below so large a share more, is mild: services have such stretches."""
SEVERE_SAMPLE = 10.0
"""Requests a sample must hold to be called severe on its own."""


class ErrorRatio(Rule, tag="error_ratio"):
    """Sequential test of the new release's failures against what was before, and against the old release beside it."""

    settings: tuple[float, float]
    limit: float
    usual: float | None = None
    before: tuple[float, float] = (0.0, 0.0)
    dispersion: float = 1.0
    seen_before: float = 0.0
    test: ProportionTest = msgspec.field(default_factory=ProportionTest)
    onset: float | None = None

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.error_ratio or ErrorRatioSettings()
        at = scene.deployed_at
        rows = [row for key in scene.others(scene.history.counts) for row in _rows(scene, key, at)]
        errors, total = sum(row[2] for row in rows), sum(row[3] for row in rows)
        rule = cls(settings=(settings.tolerance, settings.floor), limit=decades(scene.alpha))
        if total >= MIN_BASELINE:
            usual = wilson(errors, total)[1]
            recent_errors, recent_total = scene.history.counted(scene.others(scene.history.counts), at - RECENT_S, at)
            if wilson(recent_errors, recent_total)[0] > 1.5 * usual:
                usual = wilson(recent_errors, recent_total)[1]  # it was failing before: that is no news
            rule.usual, rule.before = usual, (errors, total)
            rule.dispersion = overdispersion([(row[2], row[3]) for row in rows])
            null = rule.bounded(usual)
            troubled = ((row[1] - row[0], row[2] >= 2 and row[2] > null * row[3]) for row in rows)
            rule.seen_before = longest_run(troubled)
        return rule

    def fresh(self) -> Self:
        return type(self)(self.settings, self.limit, self.usual, self.before, self.dispersion, self.seen_before)

    def null(self, scene: Scene) -> float | None:
        """The largest error ratio that is not worse: from before, and from the old release beside the new one."""
        usual = self.usual
        beside = scene.beside(scene.history.counts)
        errors, total = scene.history.counted(beside, max(scene.deployed_at, scene.now - RECENT_S), scene.now)
        if total >= MIN_BASELINE:
            usual = max(usual or 0.0, wilson(errors, total)[1])
        return None if usual is None else self.bounded(usual)

    def bounded(self, usual: float) -> float:
        """The largest ratio that is no worse than the usual one."""
        tolerance, floor = self.settings
        return min(usual * (1 + tolerance) + floor, 0.99)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        if not isinstance(event, Requests) or event.t <= scene.deployed_at:
            return
        own = scene.own(scene.history.counts)
        series = scene.history.counts.get(own)
        row = series.newest(event.t) if series is not None and (event.version or ANY_VERSION) == own else None
        null = self.null(scene)
        if series is None or row is None or null is None or event.total <= 0:
            return
        errors, total = row[2:]
        seconds = min(row[1] - row[0], 3 * series.interval)
        severe = total >= SEVERE_SAMPLE and wilson(errors, total)[0] > null + SEVERE
        if event.errors > null * event.total:
            self.onset = max(row[0], scene.deployed_at) if self.onset is None else self.onset
        elif self.strength <= 0:
            self.onset = None
        if event.t <= scene.warm_at and not severe:
            return
        if errors > null * total and scene.neighbours("errors", "") is not None:
            return
        usual = self.usual or 0.0
        mild = errors < total * min(usual * MILD_FACTOR, usual + MILD_EXCESS)
        patience = scene.patience(series.interval, severe=severe, mild=mild, seen_before=self.seen_before)
        self.test.update(
            errors,
            total,
            null,
            weight=(1 - START_MASS) * seconds / scene.bake,
            discount=self.dispersion,
            most=self.limit * LN10 * seconds / patience,
        )

    @property
    def strength(self) -> float:
        return self.test.strength

    @property
    def threshold(self) -> float:
        return self.limit

    def standing(self, scene: Scene, since: float) -> Verdict:
        null = self.null(scene)
        errors, total = scene.history.counted((scene.own(scene.history.counts),), since, scene.now)
        if null is None or total <= 0:
            return "insufficient"
        low, _ = wilson(errors, total)
        return "degraded" if low > null else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        since = self.onset if self.onset is not None else scene.deployed_at
        errors, total = scene.history.counted((scene.own(scene.history.counts),), since, scene.now)
        baseline = self.before[0] / self.before[1] if self.before[1] else None
        if baseline is None:
            summary = "nothing is known of the time before, so no error ratio can be called worse"
        elif total <= 0:
            summary = "no requests seen since the deployment"
        else:
            summary = f"{errors / total:.2%} of {total:.0f} requests failed, before it was {baseline:.2%}"
        return Evidence(
            rule="error_ratio",
            signal="error ratio",
            verdict=_verdict(self, baseline, total),
            summary=summary,
            unit="ratio",
            baseline=baseline,
            observed=errors / total if total else None,
            interval=wilson(errors, total) if total else None,
            samples=total,
            strength=self.strength,
            threshold=self.limit,
            onset=self.onset,
        )


def _rows(scene: Scene, key: str, at: float) -> list[list[float]]:
    series = scene.history.counts.get(key)
    return series.between(at - BASELINE_S, at) if series is not None else []


def _verdict(rule: ErrorRatio, baseline: float | None, total: float) -> Verdict:
    if rule.convicts:
        return "degraded"
    return "insufficient" if baseline is None or total <= 0 else "healthy"
