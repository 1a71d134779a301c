"""Adds up the StatsD lines of one service, and makes events of them, by version. No I/O."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from rollbackd.metrics.statsd import COUNTER, GAUGE, SET, TIMERS, Belonging, Meaning, Parts, Selection
from rollbackd.metrics.statsd import stamp as stamp_of
from rollbackd.metrics.statsd import values as values_of
from rollbackd.metrics.statsd import weight as weight_of
from rollbackd.model import MAX_BACKWARDS_S, MAX_COUNT, AnyEvent, Gauge, Latency, Requests

BOUNDS = tuple(round(digit * 10.0**power, 6) for power in (-3, -2, -1, 0, 1) for digit in (1, 1.5, 2, 3, 5, 7))
"""The upper bounds in seconds that times are put between: 1 ms to 70 s, six a decade."""
BOUND_NAMES = (*(format(bound, ".12g") for bound in BOUNDS), "+Inf")

MAX_VERSIONS = 50
"""Versions told apart at a time; what comes of others is dropped."""

MAX_LEVELS = 1000
"""Series of gauges that are followed; what comes of others is dropped."""

MAX_VERSION = 500
FORGET_AFTER_S = 3600.0
"""A version that was not counted for so long is forgotten, and its silence means nothing any more."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources.statsd")


class Use(NamedTuple):
    """What a metric stands for under one of the meanings."""

    meaning: int
    request: bool
    error: bool
    scale: float | None
    """What makes its times seconds; None where they are not the latency."""


class Role(NamedTuple):
    """What a metric stands for: worked out once for each name with its tags."""

    version: str | None
    uses: tuple[Use, ...] = ()
    gauges: tuple[str, ...] = ()


@dataclass
class _Sums:
    """What was counted of one version."""

    total: float = 0.0
    errors: float = 0.0
    times: list[float] | None = None


@dataclass
class _Level:
    """A gauge of one series. `base` is what relative values add to; None until one came that was not relative."""

    base: float | None = None
    name: tuple[str, ...] = ()
    version: str | None = None
    touched: float = 0.0
    fresh: bool = False


@dataclass
class Tally:
    """The counts of one service since they were last told.

    Of `meanings` the first is used of which requests came; another one only where those of that one no longer come.
    """

    belonging: Belonging
    meanings: Sequence[Meaning]
    gauges: Mapping[str, Selection]
    version_tags: Sequence[str]
    dropped: Counter[str] = field(default_factory=Counter)
    """What could not be used since the owner last emptied it, by reason."""
    _sums: dict[tuple[int, str | None], _Sums] = field(default_factory=dict)
    _levels: dict[tuple[bytes, bytes], _Level] = field(default_factory=dict)
    _spoke: set[str | None] = field(default_factory=set)
    _counted_at: dict[str | None, float] = field(default_factory=dict)
    _chosen: int | None = None

    def role(self, name: str, tags: Mapping[str, str]) -> Role | None:
        """What the metric stands for; None where it is another service's."""
        own = self.belonging.own_name(name, tags)
        if own is None:
            return None
        version = next((tags[tag] for tag in self.version_tags if tags.get(tag, "") not in ("", "unknown")), None)
        uses = []
        for place, meaning in enumerate(self.meanings):
            request = meaning.requests is not None and meaning.requests.fits(own, tags)
            error = meaning.errors is not None and meaning.errors.fits(own, tags)
            timed = meaning.latency is not None and meaning.latency.fits(own, tags)
            if request or error or timed:
                uses.append(Use(place, request, error, (1.0 if meaning.seconds else 0.001) if timed else None))
        gauges = tuple(name for name, selection in self.gauges.items() if selection.fits(own, tags))
        return Role(version[:MAX_VERSION] if version else None, tuple(uses), gauges)

    def take(self, role: Role, line: Parts, now: float) -> None:
        """Add a line of the service, at `now` in Unix seconds. Raises Malformed."""
        if len(self._spoke) < MAX_VERSIONS:
            self._spoke.add(role.version)
        if line.kind == SET:
            self.dropped["set"] += 1
        elif not role.uses and not role.gauges:
            return
        elif (told := stamp_of(line.stamp)) is not None and told < now - MAX_BACKWARDS_S:
            self.dropped["too_old"] += 1
        elif line.kind == GAUGE:
            if role.gauges:
                self._level(role, line, now)
        elif line.kind == COUNTER or line.kind in TIMERS:
            self._count(role, line)

    def _count(self, role: Role, line: Parts) -> None:
        values, each = values_of(line.values), weight_of(line.rate)
        timed = line.kind != COUNTER
        if min(values) < 0:
            self.dropped["negative"] += 1
            return
        count = each * (len(values) if timed else sum(values))
        for use in role.uses:
            sums = self._sums.get((use.meaning, role.version))
            if sums is None:
                if len(self._sums) >= MAX_VERSIONS * len(self.meanings):
                    self.dropped["too_many_versions"] += 1
                    continue
                sums = self._sums[use.meaning, role.version] = _Sums()
            if use.request:
                sums.total += count
            if use.error:
                sums.errors += count
            if use.scale is not None and timed:
                if sums.times is None:
                    sums.times = [0.0] * len(BOUND_NAMES)
                for value in values:
                    sums.times[bisect_left(BOUNDS, value * use.scale)] += each

    def _level(self, role: Role, line: Parts, now: float) -> None:
        key = (line.name, line.tags)
        level = self._levels.get(key)
        if level is None:
            if len(self._levels) >= MAX_LEVELS:
                self.dropped["too_many_series"] += 1
                return
            level = self._levels[key] = _Level(name=role.gauges, version=role.version)
        level.touched = now
        relative = line.values[:1] in (b"+", b"-")
        for value in values_of(line.values):
            if not relative:
                level.base = value
            elif level.base is None:
                self.dropped["gauge_without_base"] += 1
                return
            else:
                level.base += value
        level.fresh = math.isfinite(level.base or 0.0)
        if not level.fresh:
            level.base = None
            self.dropped["not_a_number"] += 1

    # -- what it amounts to

    def events(self, t: float) -> list[AnyEvent]:
        """What was counted since this was last asked, as events at `t`; counting begins anew."""
        self._choose()
        events: list[AnyEvent] = []
        for version in sorted(self._counted(t), key=lambda version: version or ""):
            sums = self._sums.get((self._chosen or 0, version)) or _Sums()
            events += self._of_version(t, version, sums)
        events += self._of_levels(t)
        self.forget()
        return events

    def forget(self) -> None:
        """Begin to count anew, without having told."""
        self._sums.clear()
        self._spoke.clear()
        for level in self._levels.values():
            level.fresh = False

    def _choose(self) -> None:
        present = {place for (place, _), sums in self._sums.items() if sums.total or sums.errors}
        if present and self._chosen not in present:
            self._chosen = min(present)
            self._counted_at.clear()
            preset = self.meanings[self._chosen].preset
            log.info("preset_chosen", service=self.belonging.service, preset=preset)

    def _counted(self, t: float) -> set[str | None]:
        """The versions to speak of: those that were counted, and those whose sender spoke and counted nothing."""
        counted = {version for place, version in self._sums if place == (self._chosen or 0)}
        for version in counted:
            if self._sums[self._chosen or 0, version].total and len(self._counted_at) < MAX_VERSIONS:
                self._counted_at[version] = t
        for version in [version for version, at in self._counted_at.items() if t - at > FORGET_AFTER_S]:
            del self._counted_at[version]
        return counted | (self._counted_at.keys() & self._spoke)

    def _of_version(self, t: float, version: str | None, sums: _Sums) -> list[AnyEvent]:
        events: list[AnyEvent] = []
        service, total = self.belonging.service, max(sums.total, sums.errors)
        if total > MAX_COUNT:
            self.dropped["not_a_number"] += 1
        elif self.meanings[self._chosen or 0].requests is not None and (total or version in self._counted_at):
            events.append(Requests(t=t, service=service, version=version, total=total, errors=sums.errors))
        if sums.times is not None:
            reached, buckets = 0.0, {}
            for name, count in zip(BOUND_NAMES, sums.times, strict=True):
                reached += count
                buckets[name] = reached
            if reached <= MAX_COUNT:
                events.append(Latency(t=t, service=service, version=version, buckets=buckets))
            else:
                self.dropped["not_a_number"] += 1
        return events

    def _of_levels(self, t: float) -> list[AnyEvent]:
        most: dict[tuple[str, str | None], float] = {}
        for key, level in list(self._levels.items()):
            if t - level.touched > FORGET_AFTER_S:
                del self._levels[key]
            elif level.fresh and level.base is not None:
                for name in level.name:
                    most[name, level.version] = max(level.base, most.get((name, level.version), level.base))
        order = sorted(most, key=lambda place: (place[0], place[1] or ""))
        service = self.belonging.service
        return [Gauge(t=t, service=service, name=name, version=v, value=most[name, v]) for name, v in order]
