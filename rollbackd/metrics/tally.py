"""Turns the looks at one endpoint into Events of one service: requests, latency and gauges of each version. No I/O.

What a series stands for is worked out once, when it comes. From then on a look adds up what the wanted counters grew
by, in one pass, and touches nothing else.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from rollbackd.metrics.exposition import Exposition, Reader, Series
from rollbackd.metrics.growth import START_TIME, Growth, Step, created_name
from rollbackd.metrics.presets import GaugeRow, Meaning, Selection
from rollbackd.model import MAX_COUNT, AnyEvent, Gauge, Latency, Requests

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources.scrape")

MAX_VERSION = 500
"""Characters of a version label's value that are kept."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a counter stands for under a meaning. Buckets have a `bound`, and the place of their `histogram` in it."""

    version: str | None
    request: bool = False
    error: bool = False
    bound: str | None = None
    histogram: int = 0


@dataclass(eq=False, slots=True)
class Sum:
    """What the `members` that share a role grew by in one look, those `parts` of them whose growth is known."""

    role: Role
    members: int = 0
    parts: int = 0
    grown: float = 0.0


@dataclass(eq=False, slots=True)
class Picked:
    """The series that a selection picks of those that are remembered, in the order in which they came."""

    selection: Selection
    series: dict[Series, None] = field(default_factory=dict)

    def among(self, samples: Mapping[Series, float]) -> Iterator[Series]:
        """Those that have a sample."""
        return (series for series in self.series if series in samples)


class Tally:
    """The counts of one endpoint for one service.

    Of `meanings` the first one present is used, and kept as long as any of its series is there.
    """

    def __init__(
        self,
        service: str,
        meanings: Sequence[Meaning],
        gauges: Sequence[GaugeRow],
        match: Mapping[str, str],
        max_series: int,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        """What could not be used since the owner last emptied it, by reason."""
        self._service, self._meanings, self._match = service, meanings, match
        rows = [row for row in gauges if match or not row.shared]
        rates = {row.source.metric for row in rows if row.kind == "rate"}
        levels = {row.source.metric for row in rows if row.kind == "level"}
        counters = frozenset({name for meaning in meanings for name in counter_names(meaning)} | rates)
        wanted = counters | levels | {created_name(name) for name in counters} | {START_TIME}
        self.reader = Reader(wanted, match, max_series)
        self._growth = Growth(self.reader, counters, self.dropped)
        self._meaning = meanings[0] if len(meanings) == 1 else None
        self._versionless = False
        self._sum_of: dict[Series, Sum | None] = {}
        self._sums: dict[Role, Sum] = {}
        self._asked = [(meaning, Picked(meaning.requests)) for meaning in meanings if meaning.requests is not None]
        self._shown = [(row, Picked(row.source)) for row in rows]
        self._picked: defaultdict[str, list[Picked]] = defaultdict(list)
        for picked in [picked for _, picked in self._asked] + [picked for _, picked in self._shown]:
            self._picked[picked.selection.metric].append(picked)

    def take(self, scrape: Exposition, t: float, elapsed: float) -> list[AnyEvent]:
        """The events of a complete scrape made at `t`, `elapsed` on a clock nobody sets. The first gives no counts."""
        step = self._growth.step(scrape, t, elapsed)
        self._keep_up()
        if step is None:
            return []
        self._choose(step)
        events: list[AnyEvent] = []
        if not step.first and self._meaning is not None:
            sums = self._added_up(step.growth)
            events += self._requests(t, sums, scrape)
            events += self._latency(t, sums)
        if self._meaning is None or self._meaning.own_process:
            events += self._levels(t, step)
        return events

    def _keep_up(self) -> None:
        """Meet the series that came, part with those that are gone."""
        for series in self._growth.came:
            for picked in self._picked.get(series.name, ()):
                if picked.selection.holds(series):
                    picked.series[series] = None
        for series in self._growth.gone:
            for picked in self._picked.get(series.name, ()):
                picked.series.pop(series, None)
            found = self._sum_of.pop(series, None)
            if found is not None:
                found.members -= 1
                if not found.members:
                    del self._sums[found.role]

    def _choose(self, step: Step) -> None:
        if len(self._meanings) == 1:
            return
        present = [meaning for meaning, picked in self._asked if any(picked.among(step.samples))]
        if self._meaning in present:
            return
        if present:
            self._meaning, self._sum_of, self._sums, self._versionless = present[0], {}, {}, False
            requests = present[0].requests.metric if present[0].requests else None
            log.info("preset_chosen", service=self._service, preset=present[0].preset, requests=requests)
        elif step.first:
            log.warning("no_request_metrics", service=self._service, cure="set `preset` or `metrics`")

    def _sum(self, series: Series) -> Sum | None:
        """Where the growth of a series belongs, remembered until the series is gone."""
        role = _role(self._meaning, series) if self._meaning else None
        found = self._sums.setdefault(role, Sum(role)) if role is not None else None
        if found is not None:
            found.members += 1
        self._sum_of[series] = found
        return found

    def _added_up(self, growth: Mapping[Series, float]) -> list[Sum]:
        """The growth by role; of those roles that grew, if only by 0."""
        for each in self._sums.values():
            each.grown, each.parts = 0.0, 0
        for series, grown in growth.items():
            try:
                found = self._sum_of[series]
            except KeyError:
                found = self._sum(series)
            if found is not None:
                found.grown += grown
                found.parts += 1
        return [each for each in self._sums.values() if each.parts]

    def _idle(self, scrape: Exposition) -> bool:
        """Whether the service's own process answers and its counters are not there: it has served nothing yet."""
        meaning = self._meaning
        if meaning is None or meaning.requests is None or not meaning.own_process or self._match:
            return False
        if scrape.refused or scrape.malformed or not self._versionless:
            return False
        return all(series.name != meaning.requests.metric for series in scrape.samples)

    def _requests(self, t: float, sums: Iterable[Sum], scrape: Exposition) -> list[AnyEvent]:
        totals: defaultdict[str | None, float] = defaultdict(float)
        errors: defaultdict[str | None, float] = defaultdict(float)
        for each in sums:
            if each.role.request:
                totals[each.role.version] += each.grown
            if each.role.error:
                errors[each.role.version] += each.grown
        if totals:
            self._versionless = None in totals
        elif self._idle(scrape):
            totals[None] = 0.0
        events: list[AnyEvent] = []
        for version in _in_order(totals):
            failed = errors[version]
            total = max(totals[version], failed)
            if self._usable(total <= MAX_COUNT):
                events.append(Requests(t=t, service=self._service, version=version, total=total, errors=failed))
        return events

    def _latency(self, t: float, sums: Iterable[Sum]) -> list[AnyEvent]:
        found = [(each.role.bound, each) for each in sums if each.role.bound is not None]
        used = min((each.role.histogram for _, each in found), default=0)
        histograms: defaultdict[str | None, dict[str, Sum]] = defaultdict(dict)
        for bound, each in found:
            if each.role.histogram == used:
                histograms[each.role.version][bound] = each
        events: list[AnyEvent] = []
        for version in _in_order(histograms):
            buckets = _cumulative(histograms[version])
            count = buckets.get("+Inf", 0.0)
            if count and self._usable(count <= MAX_COUNT):
                events.append(Latency(t=t, service=self._service, version=version, buckets=buckets))
        return events

    def _levels(self, t: float, step: Step) -> list[AnyEvent]:
        labels = self._meaning.version if self._meaning else ("version",)
        done: set[str] = set()
        events: list[AnyEvent] = []
        for row, picked in self._shown:
            found = [*picked.among(step.samples)]
            if row.name in done or not found:
                continue
            done.add(row.name)
            levels: defaultdict[str | None, float] = defaultdict(float)
            for series in found:
                if row.kind == "level":
                    levels[_version(series, labels)] += step.samples[series]
                elif series in step.growth and step.seconds > 0:
                    levels[_version(series, labels)] += step.growth[series] / step.seconds
            events += [
                Gauge(t=t, service=self._service, version=version, name=row.name, value=levels[version])
                for version in _in_order(levels)
                if self._usable(math.isfinite(levels[version]))
            ]
        return events

    def _usable(self, bounded: bool) -> bool:
        """Whether a sum is bounded, as events must be: each part of it can be finite, and the sum not."""
        if not bounded:
            self.dropped["not_a_number"] += 1
        return bounded


def bound_text(le: str, scale: float) -> str | None:
    """A bucket's bound in seconds as canonical text (`0.005`, `1`, `+Inf`); None where it is no number."""
    try:
        bound = float(le) * scale
    except ValueError:
        return None
    if math.isnan(bound) or bound == -math.inf:
        return None
    return "+Inf" if bound == math.inf else format(bound + 0.0, ".12g")  # adding makes -0 the same as 0


def _in_order(versions: Iterable[str | None]) -> list[str | None]:
    return sorted(versions, key=lambda version: version or "")


def _version(series: Series, labels: Sequence[str]) -> str | None:
    for label in labels:
        value = series.labels.get(label, "")
        if value and value != "unknown":
            return value[:MAX_VERSION]
    return None


def counter_names(meaning: Meaning) -> list[str]:
    """The metrics that a meaning counts by, as their samples are named."""
    counted = [meaning.requests] if meaning.requests else []
    names = [selection.metric for selection in (*counted, *meaning.errors)]
    return names + [selection.metric + "_bucket" for selection in meaning.latency]


def _role(meaning: Meaning, series: Series) -> Role | None:
    version = _version(series, meaning.version)
    request = meaning.requests is not None and meaning.requests.fits(series)
    error = any(selection.fits(series) for selection in meaning.errors)
    if request or error:
        return Role(version, request=request, error=error)
    for place, selection in enumerate(meaning.latency):
        if selection.fits(series, "_bucket"):
            bound = bound_text(series.labels.get("le", ""), meaning.scale)
            return Role(version, bound=bound, histogram=place) if bound is not None else None
    return None


def _cumulative(sums: Mapping[str, Sum]) -> dict[str, float]:
    """The bounds that every histogram of the sum has, in order; counts read while they rose may lag by a little."""
    most = max(each.parts for each in sums.values())
    shared = sorted((bound for bound, each in sums.items() if each.parts == most), key=float)
    buckets: dict[str, float] = {}
    floor = 0.0
    for bound in shared:
        floor = max(floor, sums[bound].grown)
        buckets[bound] = floor
    return buckets if "+Inf" in buckets else {}
