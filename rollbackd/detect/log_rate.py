"""Rule `log_rate`: where the log is all there is, the new release logs more errors than before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

from rollbackd.detect.base import BASELINE_S, RECENT_S, Charge, Rule, Scene, decades
from rollbackd.detect.chart import course
from rollbackd.detect.history import ERROR_LEVELS
from rollbackd.detect.noise import estimate
from rollbackd.detect.onset import Onset, pinpoint
from rollbackd.detect.persistence import ERRORS, PIECE_WARMUPS, Piece, has_lasted, spells
from rollbackd.detect.sequential import wilson
from rollbackd.detect.settings import LogRateSettings
from rollbackd.detect.share_test import FEWEST, OVER_AT, SURE, ShareTest, is_falling, onset_from, usual_share, weight_of
from rollbackd.model import AnyEvent, Evidence, Log, Verdict

MOMENTS = 100_000.0
"""A rate is taken for the share of a second's moments in which a line came. With so many of them, Bernoulli trials are
as good as Poisson counts, and the test of a share is one of a rate."""
MIN_BASELINE_S = 600.0
"""So long the log must have been followed before for "as before" to mean anything."""
FEW_LINES = 20.0
"""The load is told from other lines as if so many more of them had come, as usual: a few tell little."""
MOST_LOAD = 10.0
"""What makes a log so many times as long as usual is no load but another way of logging."""
COUNTED_S = 300.0
"""Requests are counted while there was a sample of them within so long."""


class LogRate(Rule, tag="log_rate"):
    """Sequential test of how many error lines come, whatever they say, against how many came before.

    The test of `error_ratio`, with time in the place of requests: its noise is how the service's own error lines come
    in bursts, and trouble must last as long. Where requests are counted it says nothing: they tell the same better,
    since one failure may be logged once or ten times. A busier service logs more of everything, so time counts for
    more where other lines too come more often than usual. What the old release beside the new one logs, if lines name
    their release, is not counted.
    """

    wants: ClassVar[tuple[type, ...]] = (Log,)

    settings: tuple[float, float]
    limit: float
    before: tuple[float, float] = (0.0, 0.0)
    others: float = 0.0
    test: ShareTest | None = None
    taken: float = 0.0
    of_the_old: float = 0.0
    guilty: bool = False

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.log_rate or LogRateSettings()
        at = scene.deployed_at
        rule = cls(settings=(settings.factor, settings.per_minute / 60), limit=decades(scene.alpha), taken=at)
        rows = [row for row in scene.history.lines.series.between(at - BASELINE_S, at) if row[1] > row[0]]
        seconds = sum(row[1] - row[0] for row in rows)
        if seconds < MIN_BASELINE_S:
            return rule
        rule.before, rule.others = (sum(row[2] for row in rows), seconds), sum(row[3] for row in rows) / seconds
        samples = [(row[1] - row[0], *rule._trials(row)) for row in rows]
        lines, moments = sum(one[1] for one in samples), sum(one[2] for one in samples)
        noise = estimate(samples, max(lines, 1.0) / moments)
        usual, error = usual_share(max(lines, 1.0), moments, noise, seconds)
        null = rule._bounded(usual)
        rule.test = ShareTest(
            usual, error, null, noise, spells(samples, null, lambda share: share / usual, scene.warmup)
        )
        recent = [rule._trials(row) for row in rows if row[1] > at - RECENT_S]
        lately, of = sum(one[0] for one in recent), sum(one[1] for one in recent)
        if rule.test.exceeded_by(lately, of, RECENT_S):
            rule.test.usual = wilson(lately, of, SURE)[1]  # there were as many before: that is no news
            rule.test.null = rule._bounded(rule.test.usual)
        return rule

    def fresh(self) -> Self:
        test = self.test.fresh() if self.test is not None else None
        return type(self)(self.settings, self.limit, self.before, self.others, test)

    def _bounded(self, usual: float) -> float:
        factor, per_second = self.settings
        return min(usual * factor + per_second / MOMENTS, 0.5)

    def _trials(self, row: Sequence[float]) -> tuple[float, float]:
        """Error lines, and the moments in which they might have come: more of them where the load is higher."""
        usual = self.others * (row[1] - row[0]) + FEW_LINES
        load = min(max((row[3] + FEW_LINES) / usual, 1.0), MOST_LOAD)
        moments = (row[1] - row[0]) * MOMENTS * load
        return min(row[2], moments), moments

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        assert isinstance(event, Log)  # noqa: S101
        if self.test is None or event.t <= scene.deployed_at:
            return
        if not scene.concerns(event.version) and event.level.lower() in ERROR_LEVELS:
            self.of_the_old += event.count
        series = scene.history.lines.series
        if series.last is None or series.last <= self.taken:
            return
        for row in series.between(max(self.taken, scene.deployed_at), series.last):
            self._take(row, self.test, scene)
        self.taken = series.last
        self.guilty = self._convicted(self.test, scene)

    def _take(self, row: Sequence[float], test: ShareTest, scene: Scene) -> None:
        lines, moments = self._trials(row)
        lines, self.of_the_old = max(lines - self.of_the_old, 0.0), 0.0
        if moments <= 0 or test.calm(lines, moments):
            return
        start = max(row[0], scene.deployed_at)
        weight = weight_of(start, row[1], scene.deployed_at, scene.warmup, scene.bake)
        test.take(start, row[1], lines, moments, told=start >= scene.warm_at, weight=weight, pause=scene.warmup)
        if test.began is not None and test.is_over(*self._since(scene, row[1] - scene.warmup, row[1])):
            test.clear()

    def _since(self, scene: Scene, after: float, until: float) -> tuple[float, float]:
        """(lines, moments) in that time."""
        found = [self._trials(row) for row in scene.history.lines.series.backwards(after, until)]
        return sum(one[0] for one in found), sum(one[1] for one in found)

    @property
    def strength(self) -> float:
        return self.test.strength() if self.test is not None else 0.0

    @property
    def threshold(self) -> float:
        return self.limit

    def convicts(self, scene: Scene) -> bool:
        return self.guilty and scene.now - self.taken <= scene.warmup and not _counts_requests(scene)

    def _convicted(self, test: ShareTest, scene: Scene) -> bool:
        """Whether the evidence suffices and has lasted, looked at once for each step."""
        if test.began is None or test.failures < FEWEST or scene.now <= scene.warm_at:
            return False
        if test.strength() < self.limit:
            return False
        onset = self._onset(scene)
        since = onset.at if onset is not None else test.began
        if not test.goes_on(self._trials(row) for row in self._newest(scene, test.began)):
            return False
        sizes = self._pieces(test, since, PIECE_WARMUPS * scene.warmup, scene)
        pieces = (Piece(took, share / test.usual, share / test.usual) for took, share in sizes)
        if not has_lasted(pieces, ERRORS, scene.warmup, test.seen, began=since - scene.deployed_at):
            return False
        half = scene.warmup / 2
        lately = self._since(scene, self._last(scene) - half, scene.now)
        before = self._since(scene, self._last(scene) - 2 * half, self._last(scene) - half)
        excess = [lines / moments - test.usual if moments else 0.0 for lines, moments in (lately, before)]
        return not (scene.settles and is_falling(*excess))

    @staticmethod
    def _last(scene: Scene) -> float:
        return scene.history.lines.series.last or scene.now

    @staticmethod
    def _newest(scene: Scene, since: float) -> Iterator[list[float]]:
        return scene.history.lines.series.backwards(max(since, scene.deployed_at), scene.now)

    def _pieces(self, test: ShareTest, since: float, least: float, scene: Scene) -> Iterator[tuple[float, float]]:
        """(seconds, share) of the stretch from its end back to its beginning, in pieces large enough to be measured."""
        seconds = lines = moments = 0.0
        for row in self._newest(scene, since):
            came, of = self._trials(row)
            seconds, lines, moments = seconds + row[1] - row[0], lines + came, moments + of
            if seconds >= least and moments * test.share >= OVER_AT:
                yield seconds, lines / moments
                seconds = lines = moments = 0.0
        if moments > 0:
            yield seconds, lines / moments

    def charge(self, scene: Scene) -> Charge:
        onset = self._onset(scene)
        if onset is None or self.test is None:
            return Charge(trouble="log_rate", since=scene.deployed_at)
        size = onset.share / self.test.usual
        return Charge(trouble="log_rate", since=onset.at, latest=onset.latest, size=size)

    def _onset(self, scene: Scene) -> Onset | None:
        test = self.test
        if test is None or test.began is None:
            return None
        rows = scene.history.lines.series.between(onset_from(test.began, scene), scene.now)
        samples = [(row[0], *self._trials(row)) for row in rows if row[1] > row[0]]
        return pinpoint(samples, test.null, test.share, self._last(scene))

    def standing(self, scene: Scene, since: float) -> Verdict:
        lines, moments = self._since(scene, since, scene.now)
        if self.test is None or moments <= 0 or _counts_requests(scene):
            return "insufficient"
        return "degraded" if wilson(lines, moments)[0] > self.test.null else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        test, onset = self.test, self._onset(scene)
        since = max(onset.at, scene.deployed_at) if onset is not None else scene.deployed_at
        seconds, sums = scene.history.lines.series.window(since, scene.now)
        known = test is not None and seconds > 0 and not _counts_requests(scene)
        usual = self.before[0] / self.before[1] * 60 if self.before[1] else None
        rate = sums[0] / seconds * 60 if sums and seconds > 0 else None
        if _counts_requests(scene):
            summary = "not judged: requests are counted, which tell failures better"
        elif test is None:
            summary = "the log was not followed long enough before to know how many errors are usual"
        elif rate is None or usual is None:
            summary = "nothing was logged since the deployment"
        else:
            summary = f"{rate:.1f} error lines a minute, before it was {usual:.1f}"
        verdict: Verdict = "healthy" if known else "insufficient"
        return Evidence(
            rule="log_rate",
            signal="error lines",
            verdict="degraded" if self.convicts(scene) else verdict,
            summary=summary,
            unit="1/min",
            baseline=usual,
            observed=rate if known else None,
            samples=sums[0] if known and sums else 0.0,
            strength=self.strength,
            threshold=self.limit,
            onset=since if onset is not None and known else None,
            onset_between=(onset.earliest, onset.latest) if onset is not None and known else None,
            worse=test.null * MOMENTS * 60 if test is not None else None,
            chart=course(scene.history.lines.series.rows, scene, _per_minute) if known else (),
        )


def _per_minute(row: Sequence[float]) -> float | None:
    return row[2] / (row[1] - row[0]) * 60 if row[1] > row[0] else None


def _counts_requests(scene: Scene) -> bool:
    """Whether there are counts of requests, which tell failures better than lines do."""
    return any(one.last is not None and one.last > scene.now - COUNTED_S for one in scene.history.counts.values())
