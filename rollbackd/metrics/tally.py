"""Turns the looks at one endpoint into Events of one service: requests, latency and gauges of each version. No I/O."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from rollbackd.metrics.exposition import Exposition, Reader, Series
from rollbackd.metrics.growth import START_TIME, Growth, Step, created_name
from rollbackd.metrics.presets import GaugeRow, Meaning
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
        self._gauges = [row for row in gauges if match or not row.shared]
        rates = {row.source.metric for row in self._gauges if row.kind == "rate"}
        levels = {row.source.metric for row in self._gauges if row.kind == "level"}
        counters = frozenset({name for meaning in meanings for name in counter_names(meaning)} | rates)
        wanted = counters | levels | {created_name(name) for name in counters} | {START_TIME}
        self.reader = Reader(wanted, self._matches, max_series)
        self._growth = Growth(self.reader, counters, self.dropped)
        self._meaning = meanings[0] if len(meanings) == 1 else None
        self._roles: dict[Series, Role | None] = {}
        self._versionless = False

    def _matches(self, series: Series) -> bool:
        return all(series.labels.get(label) == value for label, value in self._match.items())

    def take(self, scrape: Exposition, t: float, elapsed: float) -> list[AnyEvent]:
        """The events of a complete scrape made at `t`, `elapsed` on a clock nobody sets. The first gives no counts."""
        step = self._growth.step(scrape, t, elapsed)
        if step is None:
            return []
        self._choose(step)
        if len(self._roles) > len(self.reader.known):
            self._roles = {}
        events: list[AnyEvent] = []
        if not step.first and self._meaning is not None:
            events += self._requests(t, step.growth, idle=self._idle(scrape))
            events += self._latency(t, step.growth)
        if self._meaning is None or self._meaning.own_process:
            events += self._levels(t, step)
        return events

    def _choose(self, step: Step) -> None:
        if len(self._meanings) == 1 or (self._meaning is not None and _present(self._meaning, step.samples)):
            return
        found = next((meaning for meaning in self._meanings if _present(meaning, step.samples)), None)
        if found is not None and found.requests is not None:
            log.info("preset_chosen", service=self._service, preset=found.preset, requests=found.requests.metric)
            self._meaning, self._roles, self._versionless = found, {}, False
        elif step.first:
            log.warning("no_request_metrics", service=self._service, cure="set `preset` or `metrics`")

    def _role(self, series: Series) -> Role | None:
        if series not in self._roles:
            self._roles[series] = _role(self._meaning, series) if self._meaning else None
        return self._roles[series]

    def _idle(self, scrape: Exposition) -> bool:
        """Whether the service's own process answers and its counters are not there: it has served nothing yet."""
        meaning = self._meaning
        if meaning is None or meaning.requests is None or not meaning.own_process or self._match:
            return False
        if scrape.refused or scrape.malformed or not self._versionless:
            return False
        return all(series.name != meaning.requests.metric for series in scrape.samples)

    def _requests(self, t: float, growth: Mapping[Series, float], *, idle: bool) -> list[AnyEvent]:
        totals: defaultdict[str | None, float] = defaultdict(float)
        errors: defaultdict[str | None, float] = defaultdict(float)
        for series, grown in growth.items():
            role = self._role(series)
            if role is not None and role.request:
                totals[role.version] += grown
            if role is not None and role.error:
                errors[role.version] += grown
        if totals:
            self._versionless = None in totals
        elif idle:
            totals[None] = 0.0
        events: list[AnyEvent] = []
        for version in _in_order(totals):
            failed = errors[version]
            total = max(totals[version], failed)
            if self._usable(total <= MAX_COUNT):
                events.append(Requests(t=t, service=self._service, version=version, total=total, errors=failed))
        return events

    def _latency(self, t: float, growth: Mapping[Series, float]) -> list[AnyEvent]:
        found = [
            (role, role.bound, grown)
            for series, grown in growth.items()
            if (role := self._role(series)) is not None and role.bound is not None
        ]
        used = min((role.histogram for role, _, _ in found), default=0)
        sums: defaultdict[str | None, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        parts: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
        for role, bound, grown in found:
            if role.histogram == used:
                sums[role.version][bound] += grown
                parts[role.version][bound] += 1
        events: list[AnyEvent] = []
        for version in _in_order(sums):
            buckets = _cumulative(sums[version], parts[version])
            count = buckets.get("+Inf", 0.0)
            if count and self._usable(count <= MAX_COUNT):
                events.append(Latency(t=t, service=self._service, version=version, buckets=buckets))
        return events

    def _levels(self, t: float, step: Step) -> list[AnyEvent]:
        by_metric: defaultdict[str, list[Series]] = defaultdict(list)
        for series in step.samples:
            by_metric[series.name].append(series)
        labels = self._meaning.version if self._meaning else ("version",)
        done: set[str] = set()
        events: list[AnyEvent] = []
        for row in self._gauges:
            found = [series for series in by_metric.get(row.source.metric, ()) if row.source.holds(series)]
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


def _present(meaning: Meaning, samples: Mapping[Series, float]) -> bool:
    wanted = meaning.requests
    return wanted is not None and any(wanted.fits(series) for series in samples)


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


def _cumulative(sums: Mapping[str, float], parts: Mapping[str, int]) -> dict[str, float]:
    """The bounds that every histogram of the sum has, in order; counts read while they rose may lag by a little."""
    most = max(parts.values())
    shared = sorted((bound for bound in sums if parts[bound] == most), key=float)
    buckets: dict[str, float] = {}
    floor = 0.0
    for bound in shared:
        floor = max(floor, sums[bound])
        buckets[bound] = floor
    return buckets if "+Inf" in buckets else {}
