"""How much each counter grew between two looks at an endpoint, through restarts, gaps and unreadable values. No I/O."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from rollbackd.metrics.exposition import Exposition, Reader, Series

START_TIME = "process_start_time_seconds"

FORGET_AFTER_S = 3600.0
"""A series that was absent from every look for so long is forgotten; if it comes back, it counts from 0."""

RECENT_START_S = 600.0
"""A process that began longer before our last look than this is not a restarted one, but another one."""

MIN_ABSENT = 1000
"""So many absent series are remembered at least; more only up to as many as ever were there in one look."""

LARGEST = sys.float_info.max

_JITTER_S = 1.0
_CREATED = "_created"


Key: TypeAlias = tuple[str, frozenset[tuple[str, str]]]


@dataclass(eq=False, slots=True)
class Child:
    """Series that begin together: a counter, or all buckets of one histogram. Looks are told by their number."""

    key: Key
    joined: int
    members: int = 0
    created: float | None = None
    restarted: int = 0
    unreadable: int = 0


@dataclass(eq=False, slots=True)
class Track:
    """What is remembered of one series: `last` is its newest good value, `least` the smallest that it may have."""

    child: Child
    joined: int
    counter: bool
    least: float
    last: float = math.nan


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

    `came` and `gone` are the series that began and ceased to be remembered with the last look.
    """

    reader: Reader
    counters: frozenset[str]
    dropped: Counter[str]
    came: list[Series] = field(default_factory=list)
    gone: list[Series] = field(default_factory=list)
    _tracks: dict[Series, Track] = field(default_factory=dict)
    _children: dict[Key, Child] = field(default_factory=dict)
    _absent_since: dict[Series, float] = field(default_factory=dict)
    _starts: dict[Series, None] = field(default_factory=dict)
    _createds: dict[Series, None] = field(default_factory=dict)
    _most: int = MIN_ABSENT
    _look: int = 0
    _looked_at: tuple[float, float] | None = None
    _all_read: bool = False
    _started: float | None = None
    _several: bool = False

    def step(self, scrape: Exposition, t: float, elapsed: float) -> Step | None:
        """Take a complete scrape in. None where another process than before answered: differences mean nothing then."""
        self._look += 1
        self.came, self.gone = [], []
        samples, before = scrape.samples, self._looked_at
        bad = self._unreadable(scrape)
        if bad:
            samples = {series: value for series, value in samples.items() if series not in bad}
        restarted, comparable = self._restarted(samples, t)
        growth = self._grown(samples, restarted=restarted)
        self._looked_at = (t, elapsed)
        self._all_read = not scrape.refused and not scrape.malformed
        self._forget(scrape, elapsed)
        if not comparable:
            self.dropped["several_processes"] += 1
            return None
        if before is None:
            return Step(samples, {}, 0.0, first=True)
        return Step(samples, growth, elapsed - before[1], first=False)

    def _unreadable(self, scrape: Exposition) -> set[Series]:
        """The series whose values are no numbers; notes which others are counters that fell."""
        if scrape.malformed:
            self.dropped["malformed_line"] += scrape.malformed
        if scrape.refused:
            self.dropped["too_many_series"] += scrape.refused
        look, tracks = self._look, self._tracks
        bad: set[Series] = set()
        for series, value in scrape.samples.items():
            track = tracks.get(series) or self._join(series)
            if track.least <= value <= LARGEST:
                if value < track.last and track.counter:
                    track.child.restarted = look
            else:
                self.dropped["not_a_number"] += 1
                track.child.unreadable = look
                bad.add(series)
        return bad

    def _join(self, series: Series) -> Track:
        labels = frozenset(item for item in series.labels.items() if item[0] != "le")
        key = (base_name(series.name), labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = Child(key, self._look)
        child.members += 1
        counter = series.name in self.counters
        track = self._tracks[series] = Track(child, self._look, counter, 0.0 if counter else -LARGEST)
        self.came.append(series)
        if series.name == START_TIME:
            self._starts[series] = None
        elif not counter and series.name.endswith(_CREATED):
            self._createds[series] = None
        return track

    def _restarted(self, samples: Mapping[Series, float], t: float) -> tuple[bool, bool]:
        """Whether the whole process began again, and whether it is the one that was looked at before."""
        for series in self._createds:
            value = samples.get(series)
            if value is not None:
                child = self._tracks[series].child
                if child.created is not None and value > child.created:
                    child.restarted = self._look
                child.created = value
        starts = [samples[series] for series in self._starts if series in samples]
        before, self._started = self._started, starts[0] if len(starts) == 1 else None
        if before is None or self._started is None or abs(self._started - before) <= _JITTER_S:
            return False, True
        looked_at = self._looked_at[0] if self._looked_at else t
        if self._started < before or self._started < looked_at - RECENT_START_S:
            self._several = True
        return not self._several, not self._several

    def _grown(self, samples: Mapping[Series, float], *, restarted: bool) -> dict[Series, float]:
        """What each counter grew by; remembers the values for the next time."""
        look, tracks = self._look, self._tracks
        growth: dict[Series, float] = {}
        for series, value in samples.items():
            track = tracks[series]
            child = track.child
            if child.unreadable == look:
                continue
            if track.counter:
                if restarted or child.restarted == look:
                    growth[series] = value
                elif track.joined == look:
                    if self._all_read and child.joined == look:
                        growth[series] = value
                elif track.last == track.last:  # a number: it was read before
                    growth[series] = value - track.last
            track.last = value
        return growth

    def _forget(self, scrape: Exposition, elapsed: float) -> None:
        """Let go of what is long gone, of the oldest where it is much, of everything gone where room is short."""
        samples, absent = scrape.samples, self._absent_since
        for series in [series for series in absent if series in samples]:
            del absent[series]
        if len(samples) + len(absent) < len(self._tracks):
            for series in self._tracks:
                if series not in samples:
                    absent.setdefault(series, elapsed)
        self._most = max(self._most, len(samples))
        surplus = len(absent) - self._most
        for number, (series, since) in enumerate([*absent.items()] if absent else ()):
            if not (scrape.refused or number < surplus or elapsed - since > FORGET_AFTER_S):
                break
            self._drop(series)

    def _drop(self, series: Series) -> None:
        self.reader.known.pop(series.text, None)
        self._absent_since.pop(series, None)
        self._starts.pop(series, None)
        self._createds.pop(series, None)
        self.gone.append(series)
        child = self._tracks.pop(series).child
        child.members -= 1
        if not child.members:
            del self._children[child.key]
