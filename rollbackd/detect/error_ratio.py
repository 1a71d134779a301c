"""Rule `error_ratio`: the new release fails a larger share of its requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

from rollbackd.detect.base import BASELINE_S, RECENT_S, Charge, Rule, Scene, decades
from rollbackd.detect.chart import course
from rollbackd.detect.history import ANY_VERSION
from rollbackd.detect.noise import estimate
from rollbackd.detect.onset import Onset, pinpoint
from rollbackd.detect.persistence import ERRORS, PIECE_WARMUPS, Piece, has_lasted, spells
from rollbackd.detect.sequential import wilson
from rollbackd.detect.settings import ErrorRatioSettings
from rollbackd.detect.share_test import FEWEST, OVER_AT, SURE, ShareTest, is_falling, onset_from, usual_share, weight_of
from rollbackd.model import AnyEvent, Evidence, Requests, Verdict

MIN_BASELINE = 30.0
"""Requests that must have been seen before for "as before" to mean anything."""
SEVERE = 0.10
"""Failure beyond the null of more than this share of requests acts within the warm-up, and sooner after it."""
SEVERE_WARMUPS = 1 / 3
"""So many warm-ups severe failure must last."""
SEVERE_SAMPLES = 3
"""So many samples at least must show it: what lasts no longer than one can fall into two."""
FEW = 20.0
"""What happened lately reaches back over at least so many requests."""


class ErrorRatio(Rule, tag="error_ratio"):
    """Sequential test of the new release's failures against what was before, and against the old release beside it.

    The null is a failure ratio of `usual * (1 + tolerance) + floor`, `usual` being the upper bound of the ratio of
    the hour before, or of the last minutes before where it was failing already. A conviction is tested a second time
    against the old release beside the new one, over the very stretch of trouble.
    """

    wants: ClassVar[tuple[type, ...]] = (Requests,)

    settings: tuple[float, float]
    limit: float
    before: tuple[float, float] = (0.0, 0.0)
    test: ShareTest | None = None

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.error_ratio or ErrorRatioSettings()
        at = scene.deployed_at
        rule = cls(settings=(settings.tolerance, settings.floor), limit=decades(scene.alpha))
        others = scene.others(scene.history.counts)
        rows = [row for key in others for row in scene.history.counts[key].between(at - BASELINE_S, at)]
        errors, total = sum(row[2] for row in rows), sum(row[3] for row in rows)
        if total < MIN_BASELINE:
            return rule
        samples = [(row[1] - row[0], row[2], row[3]) for row in rows]
        noise = estimate(samples, errors / total)
        usual, error = usual_share(errors, total, noise, sum(row[1] - row[0] for row in rows))
        null = rule.bounded(usual)
        rule.before = errors, total
        seen = spells(samples, null, lambda share: share / max(usual, 1e-6), scene.warmup)
        rule.test = ShareTest(usual, error, null, noise, seen)
        failed, of = scene.history.counted(others, at - RECENT_S, at)
        if rule.test.exceeded_by(failed, of, RECENT_S):
            rule.test.usual = wilson(failed, of, SURE)[1]  # it was failing before: that is no news
            rule.test.null = rule.bounded(rule.test.usual)
        return rule

    def fresh(self) -> Self:
        return type(self)(self.settings, self.limit, self.before, self.test and self.test.fresh())

    def bounded(self, usual: float) -> float:
        """The largest ratio that is no worse than the usual one."""
        tolerance, floor = self.settings
        return min(usual * (1 + tolerance) + floor, 0.99)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        assert isinstance(event, Requests)  # noqa: S101
        if event.t <= scene.deployed_at or event.total <= 0:
            return
        test = self.test if self.test is not None else self._against_what_runs_beside(scene)
        if test is None or test.calm(event.errors, event.total):
            return
        own = scene.own(scene.history.counts)
        series = scene.history.counts.get(own)
        row = series.newest(event.t) if series is not None and (event.version or ANY_VERSION) == own else None
        if series is None or row is None:
            return
        start = max(row[0], scene.deployed_at, row[1] - 3 * series.interval)
        weight = weight_of(start, row[1], scene.deployed_at, scene.warmup, scene.bake)
        test.take(start, row[1], row[2], row[3], told=start >= scene.warm_at, weight=weight, pause=scene.warmup)
        if test.began is not None:
            _, lately = series.window(scene.now - max(scene.warmup, 3 * series.interval), scene.now)
            if lately and test.is_over(lately[0], lately[1]):
                test.clear()

    def _against_what_runs_beside(self, scene: Scene) -> ShareTest | None:
        """Where nothing is known of the time before, the old release beside the new one is the baseline."""
        errors, total = self._beside(scene, scene.deployed_at)
        if total >= MIN_BASELINE:
            noise = estimate((), errors / total)
            usual, error = usual_share(errors, total, noise, scene.now - scene.deployed_at)
            self.before, self.test = (errors, total), ShareTest(usual, error, self.bounded(usual), noise)
        return self.test

    def _beside(self, scene: Scene, since: float) -> tuple[float, float]:
        return scene.history.counted(scene.beside(scene.history.counts), since, scene.now)

    @property
    def strength(self) -> float:
        return self.test.strength() if self.test is not None else 0.0

    @property
    def threshold(self) -> float:
        return self.limit

    def convicts(self, scene: Scene) -> bool:
        test = self.test
        if test is None or test.began is None or test.counted < FEWEST:
            return False
        null = max(test.null, self._null_beside(scene, test.began))
        series = scene.history.counts[scene.own(scene.history.counts)]
        newest = ((row[2], row[3]) for row in series.backwards(scene.deployed_at, scene.now))
        if test.strength_with_warmup(null) < self.limit or not test.goes_on(newest):
            return False
        onset = self._onset(scene)
        since = onset.at if onset is not None else test.began
        if self._is_severe(test, null, since, scene):
            return True
        if scene.now <= scene.warm_at or test.strength(null) < self.limit:
            return False
        sizes = (
            (took, share / max(test.usual, 1e-6))
            for took, share in self._pieces(test, since, PIECE_WARMUPS * scene.warmup, scene)
        )
        pieces = (Piece(took, size, size) for took, size in sizes)
        if not has_lasted(pieces, ERRORS, scene.warmup, test.seen, began=since - scene.deployed_at):
            return False
        lately, before = self._lately(scene, test.began)
        return not (scene.settles and is_falling(lately - test.usual, before - test.usual))

    def _pieces(self, test: ShareTest, since: float, least: float, scene: Scene) -> Iterator[tuple[float, float]]:
        """(seconds, share) of the stretch of trouble from its end back to its beginning, each piece of `least`
        seconds and with enough failures to be measured."""
        series = scene.history.counts[scene.own(scene.history.counts)]
        seconds = errors = total = 0.0
        for row in series.backwards(max(since, scene.deployed_at), scene.now):
            took = min(row[1] - row[0], 3 * series.interval)
            seconds, errors, total = seconds + took, errors + row[2], total + row[3]
            if seconds >= least and total * test.share >= OVER_AT:
                yield seconds, errors / total
                seconds = errors = total = 0.0
        if total > 0:
            yield seconds, errors / total

    def _is_severe(self, test: ShareTest, null: float, since: float, scene: Scene) -> bool:
        """Whether so much fails, and has for so long in each piece of that time, that no warm-up is waited for."""
        if wilson(test.failures, test.total, SURE)[0] <= null + SEVERE:
            return False
        series = scene.history.counts[scene.own(scene.history.counts)]
        enough = max(SEVERE_WARMUPS * scene.warmup, SEVERE_SAMPLES * series.interval) - 0.1
        lasted = 0.0
        for seconds, share in self._pieces(test, since, 0.0, scene):
            if share <= null + SEVERE:
                return False
            lasted += seconds
            if lasted >= enough:
                return True
        return False

    def _null_beside(self, scene: Scene, since: float) -> float:
        """The largest ratio that is no worse than what the old release beside the new one shows in the same time."""
        errors, total = self._beside(scene, since)
        return self.bounded(wilson(errors, total)[1]) if total >= MIN_BASELINE else 0.0

    def _lately(self, scene: Scene, since: float) -> tuple[float, float]:
        """The ratio of the last half warm-up, longer where little was asked, and that of as long before it."""
        series = scene.history.counts[scene.own(scene.history.counts)]
        span = max(scene.warmup / 2, 2 * series.interval)
        errors = total = seconds = 0.0
        until = scene.now
        for row in series.backwards(since, scene.now):
            errors, total, seconds, until = errors + row[2], total + row[3], seconds + row[1] - row[0], row[0]
            if seconds >= span and total >= FEW:
                break
        _, earlier = series.window(max(until - span, since), until)
        before = earlier[0] / earlier[1] if earlier and earlier[0] >= FEW else 0.0
        return (errors / total if total else 0.0), before

    def charge(self, scene: Scene) -> Charge:
        onset = self._onset(scene)
        if onset is None:
            return Charge(trouble="errors", since=scene.deployed_at)
        return Charge(trouble="errors", since=onset.at, latest=onset.latest, size=onset.share - self.usual)

    def _onset(self, scene: Scene) -> Onset | None:
        """When the stretch of trouble began; looked for from before the deployment on, since it may have begun
        there."""
        test = self.test
        if test is None or test.began is None:
            return None
        after = onset_from(test.began, scene)
        rows = sorted(row for row in self._rows(scene) if row[0] >= after)
        return pinpoint([(row[0], row[2], row[3]) for row in rows], test.null, test.share, scene.now)

    @property
    def usual(self) -> float:
        """The share that failed before."""
        return self.before[0] / self.before[1] if self.before[1] else 0.0

    def standing(self, scene: Scene, since: float) -> Verdict:
        errors, total = scene.history.counted((scene.own(scene.history.counts),), since, scene.now)
        if self.test is None and errors >= FEWEST and errors > total / 2:
            return "degraded"  # no worse than what is not known, and no release to go back to
        if self.test is None or total <= 0:
            return "insufficient"
        null = max(self.test.null, self._null_beside(scene, max(since, scene.deployed_at)))
        return "degraded" if wilson(errors, total)[0] > null else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        test, onset = self.test, self._onset(scene)
        since = max(onset.at, scene.deployed_at) if onset is not None else scene.deployed_at
        errors, total = scene.history.counted((scene.own(scene.history.counts),), since, scene.now)
        known = self.before[1] > 0
        if not known:
            summary = "nothing is known of the time before, so no error ratio can be called worse"
        elif total <= 0:
            summary = "no requests seen since the deployment"
        else:
            summary = f"{errors / total:.2%} of {total:.0f} requests failed, before it was {self.usual:.2%}"
        verdict: Verdict = "healthy" if known and total > 0 else "insufficient"
        return Evidence(
            rule="error_ratio",
            signal="error ratio",
            verdict="degraded" if self.convicts(scene) else verdict,
            summary=summary,
            unit="ratio",
            baseline=self.usual if known else None,
            observed=errors / total if total else None,
            interval=wilson(errors, total) if total else None,
            samples=total,
            strength=self._shown(test, scene) if test is not None else 0.0,
            threshold=self.limit,
            onset=max(onset.at, scene.deployed_at) if onset is not None else None,
            onset_between=(onset.earliest, onset.latest) if onset is not None else None,
            worse=test.null if test is not None else None,
            harmed=max(errors - self.usual * total, 0.0) if onset is not None else None,
            chart=course(self._rows(scene), scene, lambda row: row[2] / row[3] if row[3] else None) if known else (),
        )

    def _shown(self, test: ShareTest, scene: Scene) -> float:
        """The evidence that convicts: within the warm-up, and for severe trouble that began there, all of it."""
        told = test.strength()
        return told if told >= self.limit or not self.convicts(scene) else test.strength_with_warmup()

    def _rows(self, scene: Scene) -> Iterator[list[float]]:
        """The stream of the release under watch, before the deployment those that it followed."""
        own = scene.own(scene.history.counts)
        for key, series in scene.history.counts.items():
            for row in series.rows:
                if scene.shows(own, key, row[1]):
                    yield row
