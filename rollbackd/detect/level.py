"""Rule `level`: a queue grows without bound, or memory fills up, as it never did before."""

from __future__ import annotations

import bisect
import math
import re
from typing import ClassVar, Literal, Self

import msgspec

from rollbackd.detect.base import BASELINE_S, Charge, Rule, Scene, decades
from rollbackd.detect.chart import course
from rollbackd.detect.history import ANY_VERSION
from rollbackd.detect.sequential import LN10
from rollbackd.detect.series import Series
from rollbackd.detect.settings import LevelSettings
from rollbackd.model import AnyEvent, Evidence, Gauge, Verdict

MIN_BLOCKS = 15
"""Blocks that a history must hold for a rank among them to mean something."""
BLOCKS_WARMUPS = 0.5
"""A block is the mean over half a warm-up."""
POWER = 0.3
"""The calibrator that makes e-values of p-values: power * p^(power - 1) (Vovk and Sellke; Shafer and Vovk 2019,
11.5)."""
MAX_LEVELS = 16
"""Gauges followed."""
LOOK_BACK = {"backlog": 8, "usage": 4}
"""Growth is told over so many blocks, each beyond what ever was: from their first half to their second. A backlog
scatters far more than a usage."""
GROWS = 1.13
"""A backlog that grew by less than this factor has stopped growing."""
SURELY = 3.5
"""Growth must exceed so many standard errors of it."""
FILLS = 0.02
"""What filled by less than this share of the limit has stopped filling."""

Kind = Literal["backlog", "usage"]


class Level(msgspec.Struct):
    """One gauge: what it showed before, in order of size, its newest block, and the blocks since it is beyond all that.

    `score` is the log of the evidence, never below 0, that it is beyond what it ever was.
    """

    kind: Kind
    before: list[float]
    last: float | None = None
    beyond: list[float] = []
    begin: float | None = None
    sum: float = 0.0
    count: float = 0.0
    score: float = 0.0
    began: float | None = None

    def fresh(self) -> Level:
        return Level(self.kind, self.before)

    @property
    def usual(self) -> float:
        return self.before[len(self.before) // 2]

    @property
    def top(self) -> float:
        return self.before[-1]


class LevelRule(Rule, tag="level"):
    """Ranks a gauge's blocks among those of the time before: a conformal test martingale.

    While nothing changes, a block is as likely as any to be the largest, so its rank gives a p-value, and the
    calibrated e-values multiply (Vovk, Gammerman, Shafer 2005, "Algorithmic Learning in a Random World", 7.1); the
    running sum of logs is kept above 0, since growth may begin at any time (a Page CUSUM, so that false alarms are
    held down by the rank and the growth asked for, not by a proof over the whole bake). Practically worse means for a
    backlog (queue, lag, pending work): `factor` times as high as ever for the load that there is, and still growing;
    for a usage (memory, heap, disk): fuller than `full` of its limit and than ever, and still filling. Other gauges,
    the CPU among them, are no harm in themselves: what they do to requests shows in errors and latency.
    """

    wants: ClassVar[tuple[type, ...]] = (Gauge,)

    limit: float
    factor: float
    full: float
    least: float
    levels: dict[str, Level] = {}
    rate: float = 0.0

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.level or LevelSettings()
        at = scene.deployed_at
        rule = cls(limit=decades(scene.alpha), factor=settings.factor, full=settings.full, least=settings.least)
        for name, streams in scene.history.gauges.items():
            kind = kind_of(name, settings)
            found = scene.others(streams)
            if kind is None or not found or len(rule.levels) >= MAX_LEVELS:
                continue
            before = _blocks(streams[max(found, key=lambda key: len(streams[key].rows))], at, scene.warmup)
            if kind == "usage" and not (before and min(before) >= 0 and max(before) <= 1):
                continue  # bytes, say: nobody knows of what limit
            if len(before) >= MIN_BLOCKS:
                rule.levels[name] = Level(kind, sorted(before))
        rule.rate = _rate(scene, at - BASELINE_S / 4, at)
        return rule

    def fresh(self) -> Self:
        kept = {name: level.fresh() for name, level in self.levels.items()}
        return type(self)(self.limit, self.factor, self.full, self.least, kept, self.rate)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        assert isinstance(event, Gauge)  # noqa: S101
        level = self.levels.get(event.name)
        if level is None or event.t <= scene.deployed_at:
            return
        if (event.version or ANY_VERSION) != scene.own(scene.history.gauges[event.name]):
            return
        if level.begin is None:
            level.begin = event.t
        level.sum, level.count = level.sum + event.value, level.count + 1
        if event.t - level.begin < BLOCKS_WARMUPS * scene.warmup * 0.9:
            return
        self._block(level, level.sum / level.count, event.t, scene)
        level.begin, level.sum, level.count = event.t, 0.0, 0.0

    def _block(self, level: Level, value: float, now: float, scene: Scene) -> None:
        level.last = value
        larger = len(level.before)
        if (comparable := self._comparable(level, value, now, scene)) > 0:
            larger -= bisect.bisect_left(level.before, comparable)
        level.beyond = [*level.beyond[-LOOK_BACK[level.kind] :], value] if not larger else []
        p = (1 + larger) / (1 + len(level.before))
        level.score = max(level.score + math.log(POWER) + (POWER - 1) * math.log(p), 0.0)
        if level.score <= 0:
            level.began = None
        elif level.began is None:
            level.began = max(level.begin or now, scene.deployed_at)

    def _comparable(self, level: Level, value: float, now: float, scene: Scene) -> float:
        """What to rank among the blocks of before: 0 for what is no worse, however rare."""
        if level.kind == "usage":
            return value if self.full <= value <= 1.5 else 0.0
        if value < self.least:
            return 0.0
        load = 1.0
        if value > self.factor * level.top and self.rate > 0:
            load = max(_rate(scene, now - 2 * scene.warmup, now) / self.rate, 1.0)
        return value / (self.factor * load)

    def _grows(self, level: Level) -> bool:
        if len(level.beyond) <= LOOK_BACK[level.kind]:
            return False
        half = LOOK_BACK[level.kind] // 2
        told = level.beyond[1:]  # the first one may lie astride a step
        first, last = sum(told[:half]) / half, sum(told[half:]) / half
        bends = [(a - 2 * b + c) ** 2 for a, b, c in zip(told, told[1:], told[2:], strict=False)]
        scatter = math.sqrt(sum(bends) / (6 * len(bends)) * 2 / half)  # of the difference, whatever the slope
        least = (GROWS - 1) * first if level.kind == "backlog" else FILLS
        return last - first >= max(least, SURELY * scatter)

    def _worst(self) -> tuple[str, Level] | None:
        return max(self.levels.items(), key=lambda item: item[1].score, default=None)

    @property
    def strength(self) -> float:
        worst = self._worst()
        return worst[1].score / LN10 if worst is not None else 0.0

    @property
    def threshold(self) -> float:
        return self.limit

    def _guilty(self) -> tuple[str, Level] | None:
        found = ((n, one) for n, one in self.levels.items() if one.score / LN10 >= self.limit and self._grows(one))
        return next(found, None)

    def convicts(self, scene: Scene) -> bool:
        return self._guilty() is not None

    def charge(self, scene: Scene) -> Charge:
        found = self._guilty()
        assert found is not None  # noqa: S101  it convicts
        name, level = found
        began = level.began if level.began is not None else scene.deployed_at
        return Charge(trouble="level", since=began, size=(level.last or 0.0) / max(level.usual, 1e-9), detail=name)

    def standing(self, scene: Scene, since: float) -> Verdict:
        if not any(level.last is not None for level in self.levels.values()):
            return "insufficient"
        return "degraded" if any(level.score > 0 for level in self.levels.values()) else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        worst = self._guilty() or self._worst()
        if worst is None or worst[1].last is None:
            summary = "no queue, memory or other level that could be compared with before"
            return Evidence(rule="level", signal="level", verdict="insufficient", summary=summary, threshold=self.limit)
        name, level = worst
        last = worst[1].last
        highest = max(level.top * self.factor, self.least) if level.kind == "backlog" else max(self.full, level.top)
        key = scene.own(scene.history.gauges.get(name, {}))
        rows = [row for stream in scene.history.gauges.get(name, {}).values() for row in stream.rows]
        series = scene.history.gauges.get(name, {}).get(key)
        return Evidence(
            rule="level",
            signal=name,
            verdict="degraded" if self.convicts(scene) else "healthy",
            summary=f"{name} is {last:.4g}, before it was {level.usual:.4g} and never above {level.top:.4g}",
            baseline=level.usual,
            observed=last,
            samples=float(len(series.between(scene.deployed_at, scene.now))) if series is not None else 0.0,
            strength=self.strength,
            threshold=self.limit,
            onset=level.began,
            worse=highest,
            chart=course(sorted(rows), scene, lambda row: row[2] / row[3] if row[3] else None),
        )


def kind_of(name: str, settings: LevelSettings) -> Kind | None:
    """What a gauge of this name is, by the words it is made of; None where it is not judged."""
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))
    if words & set(settings.backlogs):
        return "backlog"
    return "usage" if words & set(settings.usages) else None


def _blocks(series: Series, at: float, warmup: float) -> list[float]:
    """Means over half a warm-up each, of the hour before."""
    blocks: list[float] = []
    seconds = total = count = 0.0
    for row in series.between(at - BASELINE_S, at):
        seconds, total, count = seconds + row[1] - row[0], total + row[2], count + row[3]
        if seconds >= BLOCKS_WARMUPS * warmup * 0.9:
            blocks.append(total / count)
            seconds = total = count = 0.0
    return blocks


def _rate(scene: Scene, after: float, until: float) -> float:
    """Requests a second over all streams; 0 where none were counted."""
    rate = 0.0
    for series in scene.history.counts.values():
        seconds, sums = series.window(after, until)
        rate += sums[1] / seconds if seconds > 0 else 0.0
    return rate
