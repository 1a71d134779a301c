"""Rule `latency`: the new release answers more slowly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from typing import ClassVar, Self

import msgspec

from rollbackd.detect.base import BASELINE_S, RECENT_S, Charge, Rule, Scene, decades
from rollbackd.detect.chart import course
from rollbackd.detect.histogram import Histogram, logit, merged
from rollbackd.detect.history import ANY_VERSION, LatencySeries
from rollbackd.detect.noise import estimate
from rollbackd.detect.onset import Onset, pinpoint
from rollbackd.detect.persistence import LATENCY, PIECE_WARMUPS, Piece, Spells, has_lasted, spells
from rollbackd.detect.sequential import wilson
from rollbackd.detect.settings import LatencySettings
from rollbackd.detect.share_test import FEWEST, OVER_AT, ShareTest, is_falling, onset_from, usual_share, weight_of
from rollbackd.model import AnyEvent, Evidence, Latency, Verdict

SHARES = (0.5, 0.25, 0.1, 0.03, 0.01, 0.001)
"""The distribution is tested at the bucket bounds that about these shares of the requests exceed."""
FLOOR = 0.002
"""So many more requests of all may be slower than any bound."""
TAIL = 0.01
"""Slowdowns are read no further out than at the 99th percentile."""
SHARED = math.log10(len(SHARES))
"""Decades that the best of so many tests owes to their number."""
MIN_BASELINE = 100.0
"""Requests that must have been seen before for a distribution to be known."""
LOAD_POWER = 0.15
"""Latency may grow by this power of the load, from where that is beyond `LOAD_USUAL`: thrice the requests excuse an
eighth."""
LOAD_USUAL = 1.3
"""So many times the usual load are nothing unusual."""


class Exceedance(msgspec.Struct):
    """One test: the share of requests slower than `bound`, which was the baseline's quantile 1 - `usual`."""

    bound: float
    usual: float
    test: ShareTest

    def fresh(self) -> Exceedance:
        return Exceedance(self.bound, self.usual, self.test.fresh())

    @property
    def q(self) -> float:
        """The quantile at which the slowdown is read."""
        return 1 - max(self.usual, TAIL)

    def slowdown(self, now: Histogram, before: Histogram) -> float:
        """How many times as long the baseline's quantile at this bound takes now."""
        usual = before.quantile(self.q)
        return now.quantile(self.q) / usual if usual > 0 and now.total > 0 else 1.0


class LatencyRule(Rule, tag="latency"):
    """Sequential tests of how many requests are slower than bounds all over the baseline's distribution.

    At each bound the null is the share that would exceed it if every request took `1 + tolerance` times as long as
    before. One bound, the median's or the tail's, suffices; alpha is shared among them.
    """

    wants: ClassVar[tuple[type, ...]] = (Latency,)

    limit: float
    tolerance: float
    tests: list[Exceedance] = []
    before: Histogram = Histogram((), ())
    rate: float = 0.0
    layout: tuple[float, ...] = ()
    places: list[int] = []

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.latency or LatencySettings()
        rule = cls(limit=decades(scene.alpha), tolerance=settings.tolerance)
        at = scene.deployed_at
        others = [scene.history.latency[key] for key in scene.others(scene.history.latency)]
        whole = merged([slot.window(at - BASELINE_S, at) for slot in others])
        if whole.total < MIN_BASELINE:
            return rule
        rows = [
            row for slot in others if slot.bounds == whole.bounds for row in slot.series.between(at - BASELINE_S, at)
        ]
        seconds = sum(row[1] - row[0] for row in rows)
        if seconds <= 0:
            return rule
        rule.before, rule.rate = whole, whole.total / seconds
        recent = merged([slot.window(at - RECENT_S, at) for slot in others])
        tests = [rule._test(bound, rows, scene.warmup) for bound in _bounds(whole)]
        recent = recent if recent.bounds == whole.bounds else Histogram((), ())
        if any(one.test.exceeded_by(recent.slower(one.bound) * recent.total, recent.total, RECENT_S) for one in tests):
            rule.before = recent  # it was slow before: that is no news
            tests = [rule._test(bound, rows, scene.warmup) for bound in _bounds(recent)]
        seen = reduce(Spells.and_, (one.test.seen for one in tests), Spells())
        for one in tests:
            one.test.seen = seen
        rule.tests = tests
        return rule

    def _test(self, bound: float, rows: list[list[float]], warmup: float) -> Exceedance:
        usual = self.before.slower(bound)
        place = 2 + self.before.bounds.index(bound)
        samples = [(row[1] - row[0], row[-1] - row[place], row[-1]) for row in rows]
        noise = estimate(samples, usual)
        level, error = usual_share(usual * self.before.total, self.before.total, noise, self.before.total / self.rate)
        null = max(self.before.slower(bound / (1 + self.tolerance)), level) + FLOOR
        seen = spells(samples, null, lambda share: self._slowdown(bound, share), warmup)
        return Exceedance(bound, usual, ShareTest(level, error, min(null, 0.99), noise, seen))

    def _slowdown(self, bound: float, share: float) -> float:
        """How many times as long as before all requests take where this share of them exceeds the bound."""
        usual = self.before.quantile(1 - min(share, 1.0))
        return bound / usual if usual > 0 else 1.0

    def fresh(self) -> Self:
        return type(self)(self.limit, self.tolerance, [one.fresh() for one in self.tests], self.before, self.rate)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        assert isinstance(event, Latency)  # noqa: S101
        if event.t <= scene.deployed_at or not self.tests:
            return
        own = scene.own(scene.history.latency)
        slot = scene.history.latency.get(own)
        row = slot.series.newest(event.t) if slot is not None and (event.version or ANY_VERSION) == own else None
        if slot is None or row is None or row[-1] <= 0:
            return
        slow = self._slow(row, slot)
        total = row[-1]
        if all(one.test.calm(count, total) for one, count in zip(self.tests, slow, strict=True)):
            return
        start = max(row[0], scene.deployed_at, row[1] - 3 * slot.series.interval)
        weight = weight_of(start, row[1], scene.deployed_at, scene.warmup, scene.bake)
        lately: Histogram | None = None
        for one, count in zip(self.tests, slow, strict=True):
            one.test.take(start, row[1], count, total, told=start >= scene.warm_at, weight=weight, pause=scene.warmup)
            if one.test.began is not None:
                if lately is None:
                    lately = slot.window(scene.now - max(scene.warmup, 3 * slot.series.interval), scene.now)
                if one.test.is_over(lately.slower(one.bound) * lately.total, lately.total):
                    one.test.clear()

    def _slow(self, row: list[float], slot: LatencySeries) -> list[float]:
        """How many of the sample's requests were slower than each test's bound."""
        if slot.bounds != self.layout:
            self.layout = slot.bounds
            found = all(one.bound in slot.bounds for one in self.tests)
            self.places = [2 + slot.bounds.index(one.bound) for one in self.tests] if found else []
        total = row[-1]
        if self.places:
            return [total - row[place] for place in self.places]
        sample = Histogram(slot.bounds, tuple(row[2:]))
        return [sample.slower(one.bound) * total for one in self.tests]

    def convicts(self, scene: Scene) -> bool:
        return any(self._convicts_at(one, scene) for one in self.tests if one.test.began is not None)

    def _convicts_at(self, one: Exceedance, scene: Scene) -> bool:
        test = one.test
        if (
            test.counted < FEWEST
            or scene.now <= scene.warm_at
            or test.strength() < self.limit + SHARED
            or test.began is None
        ):
            return False
        slot = scene.history.latency[scene.own(scene.history.latency)]
        excuse = self._excused_by_load(scene, test.began)
        if test.strength(self._null(one, scene, excuse)) < self.limit + SHARED:
            return False
        if not test.goes_on(self._newest(one, slot, scene)):
            return False
        onset = self._onset(scene, one)
        since = max(onset.at if onset is not None else test.began, scene.deployed_at)
        pieces, began = self._pieces(one, since, excuse, scene), since - scene.deployed_at
        if not has_lasted(pieces, LATENCY, scene.warmup, test.seen, began=began):
            return False
        if not scene.settles:
            return True
        lately, earlier = self._lately(slot, scene, test.began)
        now, before = one.slowdown(lately, self.before), one.slowdown(earlier, self.before)
        return not (earlier.total > 0 and is_falling(now - 1, before - 1))

    def _pieces(self, one: Exceedance, since: float, excuse: float, scene: Scene) -> Iterator[Piece]:
        """The stretch of trouble from its end back to its beginning, each piece long and full enough to be measured."""
        slot = scene.history.latency[scene.own(scene.history.latency)]
        seconds, sums = 0.0, [0.0] * len(slot.bounds)
        for row in slot.series.backwards(since, scene.now):
            took = min(row[1] - row[0], 3 * slot.series.interval)
            seconds, sums = seconds + took, [a + b for a, b in zip(sums, row[2:], strict=True)]
            if seconds >= PIECE_WARMUPS * scene.warmup and sums[-1] * one.test.share >= OVER_AT:
                yield self._piece(one, seconds, Histogram(slot.bounds, tuple(sums)), excuse)
                seconds, sums = 0.0, [0.0] * len(slot.bounds)
        if sums[-1] > 0:
            yield self._piece(one, seconds, Histogram(slot.bounds, tuple(sums)), excuse)

    def _piece(self, one: Exceedance, seconds: float, now: Histogram, excuse: float) -> Piece:
        like = self._slowdown(one.bound, now.slower(one.bound))
        return Piece(seconds, min(one.slowdown(now, self.before), like) / excuse, like)

    def _null(self, one: Exceedance, scene: Scene, excuse: float) -> float:
        """The largest share over the bound that is no worse: with the load that there is, and than the old release
        beside the new one shows in the same time."""
        slowest = one.bound / ((1 + self.tolerance) * excuse)
        null = max(one.test.null, self.before.slower(slowest) + FLOOR) if excuse > 1 else one.test.null
        keys = scene.beside(scene.history.latency)
        since = one.test.began if one.test.began is not None else scene.deployed_at
        beside = merged([scene.history.latency[key].window(since, scene.now) for key in keys])
        if beside.total >= MIN_BASELINE:
            share = beside.slower(one.bound / (1 + self.tolerance))
            null = max(null, wilson(share * beside.total, beside.total)[1] + FLOOR)
        return min(null, 0.99)

    def _excused_by_load(self, scene: Scene, since: float) -> float:
        """How much longer requests may take for there being more of them, at least 1."""
        rate = 0.0
        for slot in scene.history.latency.values():
            seconds, sums = slot.series.window(since, scene.now)
            rate += sums[-1] / seconds if seconds > 0 else 0.0
        return max(rate / self.rate / LOAD_USUAL, 1.0) ** LOAD_POWER if self.rate > 0 else 1.0

    def _newest(self, one: Exceedance, slot: LatencySeries, scene: Scene) -> Iterator[tuple[float, float]]:
        """(slower than the bound, all) of the samples, newest first."""
        for row in slot.series.backwards(scene.deployed_at, scene.now):
            yield Histogram(slot.bounds, tuple(row[2:])).slower(one.bound) * row[-1], row[-1]

    def _lately(self, slot: LatencySeries, scene: Scene, since: float) -> tuple[Histogram, Histogram]:
        """The last half warm-up, and as long before it."""
        span = max(scene.warmup / 2, 2 * slot.series.interval)
        middle = max(scene.now - span, since)
        return slot.window(middle, scene.now), slot.window(max(middle - span, since), middle)

    def _worst(self) -> Exceedance | None:
        return max(self.tests, key=lambda one: one.test.strength(), default=None)

    @property
    def strength(self) -> float:
        worst = self._worst()
        return max(worst.test.strength() - SHARED, 0.0) if worst is not None else 0.0

    @property
    def threshold(self) -> float:
        return self.limit

    def charge(self, scene: Scene) -> Charge:
        found = [one for one in self.tests if one.test.began is not None and self._convicts_at(one, scene)]
        worst = max(found or self.tests, key=lambda one: one.test.strength())
        onset = self._onset(scene, worst)
        since = max(onset.at, scene.deployed_at) if onset is not None else scene.deployed_at
        now = scene.history.latency[scene.own(scene.history.latency)].window(since, scene.now)
        latest = onset.latest if onset is not None else None
        return Charge(trouble="latency", since=since, latest=latest, size=worst.slowdown(now, self.before))

    def standing(self, scene: Scene, since: float) -> Verdict:
        slot = scene.history.latency.get(scene.own(scene.history.latency))
        now = slot.window(since, scene.now) if slot is not None else Histogram((), ())
        if not self.tests or now.total <= 0:
            return "insufficient"
        worse = any(wilson(now.slower(t.bound) * now.total, now.total)[0] > t.test.null for t in self.tests)
        return "degraded" if worse else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        worst = self._worst()
        slot = scene.history.latency.get(scene.own(scene.history.latency))
        onset = self._onset(scene, worst) if worst is not None else None
        since = max(onset.at, scene.deployed_at) if onset is not None else scene.deployed_at
        now = slot.window(since, scene.now) if slot is not None else Histogram((), ())
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
        q = worst.q
        baseline, observed = self.before.quantile(q), now.quantile(q)
        slower, name = now.slower(worst.bound), f"p{100 * q:.3g}"
        return Evidence(
            rule="latency",
            signal=f"latency {name}",
            verdict="degraded" if self.convicts(scene) else "healthy",
            summary=(
                f"{name} is {observed * 1000:.0f} ms, before it was {baseline * 1000:.0f} ms; "
                f"{slower:.1%} of {now.total:.0f} requests exceed {worst.bound * 1000:g} ms, "
                f"before it was {worst.usual:.1%}"
            ),
            unit="s",
            baseline=baseline,
            observed=observed,
            interval=_interval(now, q),
            samples=now.total,
            strength=self.strength,
            threshold=self.limit,
            onset=since if onset is not None else None,
            onset_between=(onset.earliest, onset.latest) if onset is not None else None,
            worse=baseline * (1 + self.tolerance),
            harmed=max(slower - worst.usual, 0.0) * now.total if onset is not None else None,
            chart=self._chart(scene, q),
        )

    def _rows(self, scene: Scene) -> Iterator[tuple[list[float], tuple[float, ...]]]:
        """The samples of the release under watch, before the deployment of those that it followed, each with its
        bounds."""
        own = scene.own(scene.history.latency)
        for key, slot in scene.history.latency.items():
            for row in slot.series.rows:
                if scene.shows(own, key, row[1]):
                    yield row, slot.bounds

    def _chart(self, scene: Scene, q: float) -> tuple[tuple[float, float], ...]:
        rows = [row for row, bounds in self._rows(scene) if bounds == self.before.bounds]
        return course(
            rows, scene, lambda row: Histogram(self.before.bounds, tuple(row[2:])).quantile(q) if row[-1] else None
        )

    def _onset(self, scene: Scene, one: Exceedance) -> Onset | None:
        """When the stretch of trouble began; looked for from before the deployment on, since it may have begun
        there."""
        test = one.test
        if test.began is None:
            return None
        after = onset_from(test.began, scene)
        samples = sorted(
            (row[0], Histogram(bounds, tuple(row[2:])).slower(one.bound) * row[-1], row[-1])
            for row, bounds in self._rows(scene)
            if row[0] >= after
        )
        return pinpoint(samples, test.null, test.share, scene.now)


def _interval(now: Histogram, q: float) -> tuple[float, float]:
    """The times that the quantile lies between, by the binomial interval of its rank."""
    low, high = wilson(q * now.total, now.total)
    return now.quantile(low), now.quantile(high)


def _bounds(before: Histogram) -> list[float]:
    """The bucket bounds whose exceedance comes nearest to the shares that are tested, each once."""
    finite = [bound for bound in before.bounds[:-1] if 0 < before.slower(bound) < 1]
    found: list[float] = []
    for share in SHARES:
        nearest = min(finite, key=lambda bound: abs(logit(before.slower(bound)) - logit(share)), default=None)
        if nearest is not None and nearest not in found:
            found.append(nearest)
    return found
