"""How much each counter grew between two looks at an endpoint, through restarts, gaps and unreadable values. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from rollbackd.metrics.exposition import Exposition, Reader, Series

START_TIME = "process_start_time_seconds"

FORGET_AFTER_S = 3600.0
"""A series that was absent from every look for so long is forgotten; if it comes back, it counts from 0."""

RECENT_START_S = 600.0
"""A process that began longer before our last look than this is not a restarted one, but another one."""

_JITTER_S = 1.0
_CREATED = "_created"


@dataclass(eq=False, slots=True)
class Child:
    """Series that begin together: a counter, or all buckets of one histogram. `known` once one of them was read."""

    key: tuple[str, frozenset[tuple[str, str]]]
    members: int = 0
    known: bool = False
    created: float | None = None
    restarted: bool = False
    unreadable: bool = False


@dataclass(frozen=True)
class Step:
    """One look: the readable samples, the growth of counters since the look before, and the seconds since then.

    `first` marks the baseline, of which no counter has any growth.
    """

    samples: dict[Series, float]
    growth: dict[Series, float]
    seconds: float
    first: bool


def base_name(name: str) -> str:
    """A metric's name without what the formats append to it."""
    for suffix in ("_total", "_bucket", "_count", _CREATED):
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


def created_name(counter: str) -> str:
    """The metric that says when a counter or histogram began."""
    return base_name(counter) + _CREATED


@dataclass
class Growth:
    """Remembers the last value of every series that `reader` knows; `counters` names those that only rise.

    A counter that fell, or whose process or `_created` time moved on, began again at 0. A series seen for the first
    time began at 0 too, unless this is the first look or the look before could not read everything. A value that is
    no number is left out with the rest of its histogram, and what was missed comes with the next good value.
    """

    reader: Reader
    counters: frozenset[str]
    dropped: Counter[str]
    _last: dict[Series, float] = field(default_factory=dict)
    _child_of: dict[Series, Child] = field(default_factory=dict)
    _children: dict[tuple[str, frozenset[tuple[str, str]]], Child] = field(default_factory=dict)
    _absent_since: dict[Series, float] = field(default_factory=dict)
    _looked_at: tuple[float, float] | None = None
    _all_read: bool = False
    _started: float | None = None
    _several: bool = False

    def step(self, scrape: Exposition, t: float, elapsed: float) -> Step | None:
        """Take a complete scrape in. None where another process than before answered: differences mean nothing then."""
        samples = self._readable(scrape)
        comparable = self._same_process(samples, t)
        before = self._looked_at
        self._find_restarts(samples)
        growth = self._grown(samples) if comparable and before is not None else {}
        for series, value in samples.items():
            if self._child_of[series].unreadable:
                self._last.setdefault(series, math.nan)
            else:
                self._last[series] = value
        for child in self._children.values():
            child.known, child.restarted, child.unreadable = True, False, False
        self._looked_at = (t, elapsed)
        self._all_read = not scrape.refused and not scrape.malformed
        self._forget(scrape, elapsed)
        if not comparable:
            self.dropped["several_processes"] += 1
            return None
        return Step(samples, growth, elapsed - before[1] if before else 0.0, first=before is None)

    def _readable(self, scrape: Exposition) -> dict[Series, float]:
        if scrape.malformed:
            self.dropped["malformed_line"] += scrape.malformed
        if scrape.refused:
            self.dropped["too_many_series"] += scrape.refused
        readable = {}
        for series, value in scrape.samples.items():
            child = self._child_of.get(series) or self._join(series)
            if math.isfinite(value) and (value >= 0 or series.name not in self.counters):
                readable[series] = value
            else:
                self.dropped["not_a_number"] += 1
                child.unreadable = True
                self._last.setdefault(series, math.nan)
        return readable

    def _join(self, series: Series) -> Child:
        labels = frozenset(item for item in series.labels.items() if item[0] != "le")
        key = (base_name(series.name), labels)
        child = self._children.setdefault(key, Child(key))
        child.members += 1
        self._child_of[series] = child
        return child

    def _same_process(self, samples: dict[Series, float], t: float) -> bool:
        starts = [value for series, value in samples.items() if series.name == START_TIME]
        before, self._started = self._started, starts[0] if len(starts) == 1 else None
        if before is None or self._started is None or abs(self._started - before) <= _JITTER_S:
            return True
        looked_at = self._looked_at[0] if self._looked_at else t
        if self._started < before or self._started < looked_at - RECENT_START_S:
            self._several = True
        if self._several:
            return False
        for child in self._children.values():
            child.restarted = True
        return True

    def _find_restarts(self, samples: dict[Series, float]) -> None:
        for series, value in samples.items():
            if series.name in self.counters:
                if value < self._last.get(series, 0.0):
                    self._child_of[series].restarted = True
            elif series.name.endswith(_CREATED):
                child = self._child_of[series]
                child.restarted = child.restarted or (child.created is not None and value > child.created)
                child.created = value

    def _grown(self, samples: dict[Series, float]) -> dict[Series, float]:
        growth = {}
        for series, value in samples.items():
            if series.name not in self.counters:
                continue
            child, last = self._child_of[series], self._last.get(series)
            if child.unreadable:
                continue
            if child.restarted:
                growth[series] = value
            elif last is None:
                if self._all_read and not child.known:
                    growth[series] = value
            elif not math.isnan(last):
                growth[series] = value - last
        return growth

    def _forget(self, scrape: Exposition, elapsed: float) -> None:
        """Let go of what is long gone; of everything that is gone, where room is short."""
        for series in [series for series in self._absent_since if series in scrape.samples]:
            del self._absent_since[series]
        if len(scrape.samples) == len(self._child_of):
            return
        for series in [series for series in self._child_of if series not in scrape.samples]:
            since = self._absent_since.setdefault(series, elapsed)
            if scrape.refused or elapsed - since > FORGET_AFTER_S:
                self._drop(series)

    def _drop(self, series: Series) -> None:
        self.reader.known.pop(series.text, None)
        self._last.pop(series, None)
        self._absent_since.pop(series, None)
        child = self._child_of.pop(series)
        child.members -= 1
        if not child.members:
            del self._children[child.key]
