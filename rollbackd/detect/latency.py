"""Rule `latency`: the new release answers more slowly."""

from __future__ import annotations

import math
from typing import Self

import msgspec

from rollbackd.detect.base import BASELINE_S, RECENT_S, SEVERE, Rule, Scene, decades
from rollbackd.detect.histogram import Histogram
from rollbackd.detect.history import ANY_VERSION
from rollbackd.detect.sequential import LN10, START_MASS, ProportionTest, longest_run, overdispersion, wilson
from rollbackd.detect.settings import LatencySettings
from rollbackd.model import AnyEvent, Evidence, Latency, Verdict

QUANTILES = (0.5, 0.9, 0.99)
MILD_FACTOR = 1.6
"""Requests that take less than so many times as long as usual are mildly slow: services have such stretches."""
MIN_BASELINE = 100.0
"""Requests that must have been seen before for a distribution to be known."""


class Exceedance(msgspec.Struct):
    """One test: the share of requests slower than `bound`, which was the baseline's quantile `q`, or near it."""

    q: float
    bound: float
    usual: float
    null: float
    dispersion: float
    seen_before: float = 0.0
    test: ProportionTest = msgspec.field(default_factory=ProportionTest)
    onset: float | None = None

    def fresh(self) -> Exceedance:
        return Exceedance(self.q, self.bound, self.usual, self.null, self.dispersion, self.seen_before)


class LatencyRule(Rule, tag="latency"):
    """Sequential tests of how many requests are slower than the baseline's own median, p90 and p99."""

    limit: float
    tests: list[Exceedance] = []
    before: Histogram = Histogram((), ())

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.latency or LatencySettings()
        rule = cls(limit=decades(scene.alpha / len(QUANTILES)))
        before = _before(scene)
        if before is not None and before[0].total >= MIN_BASELINE:
            rule.before = before[0]
            rule.tests = _tests(before[0], before[1], settings.tolerance)
            rule._forgive_what_was_slow_before(scene)
        return rule

    def _forgive_what_was_slow_before(self, scene: Scene) -> None:
        recent = _window(scene, scene.others(scene.history.latency), scene.deployed_at - RECENT_S, scene.deployed_at)
        for test in self.tests:
            slow = recent.slower(test.bound) * recent.total
            low, high = wilson(slow, recent.total)
            if recent.total and low > 1.5 * test.null:
                test.null = min(high * 1.1, 0.99)

    def fresh(self) -> Self:
        return type(self)(self.limit, [test.fresh() for test in self.tests], self.before)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        if not isinstance(event, Latency) or event.t <= scene.deployed_at or not self.tests:
            return
        own = scene.own(scene.history.latency)
        slot = scene.history.latency.get(own)
        row = slot.series.newest(event.t) if slot is not None and (event.version or ANY_VERSION) == own else None
        if slot is None or row is None:
            return
        seconds = min(row[1] - row[0], 3 * slot.series.interval)
        sample = Histogram(slot.bounds, tuple(row[2:]))
        beside = self._beside(scene)
        for test in self.tests:
            slow = sample.slower(test.bound) * sample.total
            null = test.null
            if beside is not None:
                null = max(null, wilson(beside.slower(test.bound) * beside.total, beside.total)[1])
            mild = sample.quantile(test.q) < MILD_FACTOR * self.before.quantile(test.q)
            severe = wilson(slow, sample.total)[0] > null + 5 * SEVERE
            patience = scene.patience(slot.series.interval, severe=severe, mild=mild, seen_before=test.seen_before)
            self._update(test, slow, sample.total, min(null, 0.99), row[0], seconds, patience, scene)

    def _beside(self, scene: Scene) -> Histogram | None:
        """The old release beside the new one, lately, where the source tells them apart."""
        others = scene.beside(scene.history.latency)
        beside = _window(scene, others, max(scene.deployed_at, scene.now - RECENT_S), scene.now)
        return beside if beside.total >= MIN_BASELINE else None

    def _update(
        self,
        test: Exceedance,
        slow: float,
        total: float,
        null: float,
        start: float,
        seconds: float,
        patience: float,
        scene: Scene,
    ) -> None:
        if slow > null * total:
            test.onset = max(start, scene.deployed_at) if test.onset is None else test.onset
        elif test.test.strength <= 0:
            test.onset = None
        if start + seconds <= scene.warm_at or total <= 0:
            return
        if slow > null * total and scene.neighbours("latency", "") is not None:
            return
        test.test.update(
            slow,
            total,
            null,
            weight=(1 - START_MASS) * seconds / scene.bake,
            discount=test.dispersion,
            most=self.limit * LN10 * seconds / patience,
        )

    def _worst(self) -> Exceedance | None:
        return max(self.tests, key=lambda test: test.test.strength, default=None)

    @property
    def strength(self) -> float:
        worst = self._worst()
        return worst.test.strength if worst is not None else 0.0

    @property
    def threshold(self) -> float:
        return self.limit

    def standing(self, scene: Scene, since: float) -> Verdict:
        now = _window(scene, (scene.own(scene.history.latency),), since, scene.now)
        if not self.tests or now.total <= 0:
            return "insufficient"
        worse = any(wilson(now.slower(t.bound) * now.total, now.total)[0] > t.null for t in self.tests)
        return "degraded" if worse else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        worst = self._worst()
        since = worst.onset if worst is not None and worst.onset is not None else scene.deployed_at
        now = _window(scene, (scene.own(scene.history.latency),), since, scene.now)
        if worst is None or now.total <= 0:
            reason = "of the time before" if worst is None else "since the deployment"
            return Evidence(
                rule="latency",
                signal="latency",
                verdict="insufficient",
                summary=f"no latencies are known {reason}",
                samples=now.total,
                threshold=self.limit,
            )
        baseline, observed = self.before.quantile(worst.q), now.quantile(worst.q)
        return Evidence(
            rule="latency",
            signal=f"latency p{worst.q * 100:g}",
            verdict="degraded" if self.convicts else "healthy",
            summary=(
                f"p{worst.q * 100:g} is {observed * 1000:.0f} ms, before it was {baseline * 1000:.0f} ms; "
                f"{now.slower(worst.bound):.1%} of {now.total:.0f} requests exceed {worst.bound * 1000:g} ms, "
                f"before it was {worst.usual:.1%}"
            ),
            unit="s",
            baseline=baseline,
            observed=observed,
            interval=_interval(now, worst),
            samples=now.total,
            strength=self.strength,
            threshold=self.limit,
            onset=worst.onset,
        )


def _interval(now: Histogram, test: Exceedance) -> tuple[float, float]:
    """The times that the quantile lies between, by the binomial interval of its rank."""
    low, high = wilson(test.q * now.total, now.total)
    return now.quantile(low), now.quantile(high)


def _window(scene: Scene, versions: tuple[str, ...], after: float, until: float) -> Histogram:
    """The streams' histogram over `(after, until]`; of several layouts, the one with most requests."""
    found = [scene.history.latency[v].window(after, until) for v in versions if v in scene.history.latency]
    same = [h for h in found if h.total > 0]
    if not same:
        return Histogram((), ())
    widest = max(same, key=lambda h: h.total)
    fitting = [h.counts for h in same if h.bounds == widest.bounds]
    return Histogram(widest.bounds, tuple(sum(counts) for counts in zip(*fitting, strict=True)))


def _before(scene: Scene) -> tuple[Histogram, list[tuple[float, Histogram]]] | None:
    """The baseline's histogram and its samples one by one, each with the seconds it covers."""
    at = scene.deployed_at
    whole = _window(scene, scene.others(scene.history.latency), at - BASELINE_S, at)
    if whole.total <= 0:
        return None
    samples = [
        (row[1] - row[0], Histogram(slot.bounds, tuple(row[2:])))
        for version in scene.others(scene.history.latency)
        if (slot := scene.history.latency.get(version)) is not None and slot.bounds == whole.bounds
        for row in slot.series.between(at - BASELINE_S, at)
    ]
    return whole, samples


def _tests(before: Histogram, samples: list[tuple[float, Histogram]], tolerance: float) -> list[Exceedance]:
    """One test a quantile, at the bucket bound whose exceedance is nearest to it, each bound once."""
    tests: list[Exceedance] = []
    finite = [b for b in before.bounds[:-1] if 0 < before.slower(b) < 1]
    for q in QUANTILES:
        if not finite:
            break
        bound = min(finite, key=lambda b: abs(_logit(before.slower(b)) - _logit(1 - q)))
        if any(test.bound == bound for test in tests):
            continue
        usual = before.slower(bound)
        _, high = wilson(usual * before.total, before.total)
        null = max(before.slower(bound / (1 + tolerance)), high)
        scatter = overdispersion([(s.slower(bound) * s.total, s.total) for _, s in samples])
        run = longest_run((seconds, s.slower(bound) > null) for seconds, s in samples)
        tests.append(Exceedance(q, bound, usual, min(null, 0.99), scatter, run))
    return tests


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))
