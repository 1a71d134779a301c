"""Samples that a server kept of one service's instances, to the Events that scraping them would have given. No I/O.

Samples that were scraped together have one moment, so they are put together again as looks and counted by the code
that counts what we scrape ourselves, each instance by itself: its restart is nobody else's. What the instances counted
in one step of time is then added up; of their levels the highest stands for all, since their number changes.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TypeAlias

import msgspec
import structlog
from msgspec.structs import replace

from rollbackd.metrics.exposition import Exposition, Series
from rollbackd.metrics.growth import FORGET_AFTER_S, START_TIME, created_name
from rollbackd.metrics.native import NativeSample, classic
from rollbackd.metrics.presets import GaugeRow, Meaning
from rollbackd.metrics.tally import Tally, counter_names
from rollbackd.model import MAX_COUNT, AnyEvent, Gauge, Latency, Requests

MAX_SERIES = 20_000
"""Series followed of one service where nothing else is asked for, as of one endpoint that is scraped."""
SETTLE_S = 2.0
"""So long after its moment a sample is taken to have reached the server; one that comes later is counted later."""

Place: TypeAlias = tuple[str, str]
"""The job and the instance of a series: what Prometheus calls a target."""

_NOTHING = Meaning(preset="none", requests=None)
"""What is assumed before anything is known: levels can be told already."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.metrics")


class Row(msgspec.Struct, frozen=True):
    """One series: its labels, the name among them as `__name__`, and (Unix seconds, value as text) each; of a native
    histogram (Unix seconds, histogram) each."""

    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    histograms: list[tuple[float, NativeSample]] = []


@dataclass
class _Look:
    """What was read of one instance in one step of time."""

    t: float = 0.0
    samples: dict[Series, float] = field(default_factory=dict)


@dataclass
class _Instance:
    """One instance's counts, up to which moment they were taken in, and which of several servers' samples are used.
    `refused` are series beyond the bound."""

    tally: Tally
    seen_at: float = -math.inf
    refused: int = 0
    replica: str | None = None
    resume_at: float = -math.inf


class Samples:
    """The requests, latencies and levels of one service.

    `match` are the labels that its series are picked by; `step` is the least time between two looks, in seconds.
    `replica_labels` tell apart servers that scrape the same instances: of them one is followed at a time.
    """

    def __init__(
        self,
        service: str,
        meanings: Sequence[Meaning],
        gauges: Sequence[GaugeRow],
        match: Mapping[str, str],
        step: float,
        *,
        max_series: int = MAX_SERIES,
        replica_labels: Sequence[str] = (),
    ) -> None:
        self._service, self._meanings, self._gauges, self._match = service, meanings, gauges, match
        self._step, self._max_series, self._replica_labels = step, max_series, replica_labels
        self._meaning = meanings[0] if len(meanings) == 1 else None
        self._instances: dict[Place, _Instance] = {}
        self._cell: float | None = None
        self.done = -math.inf
        """The moment up to which all that is known was taken in, where samples are taken as they come."""
        self.dropped: Counter[str] = Counter()
        """What could not be used since the owner last emptied it, by reason."""
        self._counters = frozenset(name for meaning in meanings for name in counter_names(meaning))
        created = {created_name(name) for name in self._counters}
        levels = {row.source.metric for row in gauges}
        self._natives = {one.metric: meaning.scale for meaning in meanings for one in meaning.latency}
        self.metrics = frozenset({*self._counters, *created, *levels, *self._natives, START_TIME})
        """The names of the metrics to be read."""

    @property
    def counters(self) -> frozenset[str]:
        """The names of the metrics that requests and latencies are counted by."""
        return self._counters | frozenset(self._natives)

    def take(self, rows: Sequence[Row], until: float | None = None) -> list[AnyEvent]:
        """The events of the next samples, in order of time; see `steps`."""
        return [event for events in self.steps(rows, until) for event in events]

    def steps(self, rows: Sequence[Row], until: float | None = None) -> Iterator[list[AnyEvent]]:
        """The events of the next samples, one step of time after the other, so that others get their turn in between.

        Without `until` all of them are used. With it, only whole steps of time that had ended by then: the others are
        expected to be given again, and so may be what was used already, which is known by its moment.
        """
        rows = [*self._classic(rows)]
        self._choose(rows)
        cell = self._cell_of(rows)
        end = math.inf if until is None else math.floor((until - min(SETTLE_S, cell)) / cell) * cell
        cells = self._looks(rows, cell, end)
        for number in sorted(cells):
            seen: list[AnyEvent] = []
            for place, look in sorted(cells[number].items()):
                seen += self._taken(self._instances[place], look)
            yield list(added_up(self._service, seen, not_before=number * cell))
        if until is not None:
            self.done = max(self.done, end)
        self._forget()

    def _taken(self, instance: _Instance, look: _Look) -> list[AnyEvent]:
        scrape = Exposition(instance.tally.reader)
        scrape.samples, scrape.refused = look.samples, instance.refused
        instance.seen_at, instance.refused = look.t, 0
        events = instance.tally.take(scrape, look.t, look.t)
        self.dropped += instance.tally.dropped
        instance.tally.dropped.clear()
        return events

    def _choose(self, rows: Sequence[Row]) -> None:
        """Settle on what the series mean: one meaning for all instances, or a proxy and the service behind it would
        both be counted."""
        if len(self._meanings) == 1:
            return
        present = [_series(row.metric, ()) for row in rows if row.metric.get("__name__") in self._counters]
        if self._meaning is not None and _present(self._meaning, present):
            return
        found = next((meaning for meaning in self._meanings if _present(meaning, present)), None)
        if found is not None and found.requests is not None:
            log.info("preset_chosen", service=self._service, preset=found.preset, requests=found.requests.metric)
            self._meaning, self._instances = found, {}

    def _cell_of(self, rows: Sequence[Row]) -> float:
        """How much time one look covers: the step, or the time between two scrapes where that is longer."""
        if self._cell is not None:
            return self._cell
        moments = max((row.values for row in rows), key=len, default=[])
        if len(moments) < 3:
            return self._step
        steps = [later[0] - earlier[0] for earlier, later in pairwise(moments)]
        self._cell = max(self._step, round(median(steps), 1))
        return self._cell

    def _looks(self, rows: Iterable[Row], cell: float, end: float) -> dict[int, dict[Place, _Look]]:
        """The samples by step of time and instance; of several samples of a series in one step the newest counts.

        What came too late for its own step belongs to the first that is still open.
        """
        cells: defaultdict[int, dict[Place, _Look]] = defaultdict(dict)
        first = math.ceil(self.done / cell) if math.isfinite(self.done) else -(2**62)
        followed = self._followed(rows, cell)
        for row in rows:
            place = _place(row.metric)
            instance = self._instance(place)
            if instance.replica != _replica(row.metric, self._replica_labels):
                continue
            series = self._known(instance, row.metric)
            if series is None:
                continue
            after = max(instance.seen_at, followed.get(place, -math.inf))
            for t, text in row.values:
                if not after < t <= end:
                    continue
                looks = cells[max(int(t // cell), first)]
                look = looks.get(place)
                if look is None:
                    look = looks[place] = _Look()
                look.samples[series] = _number(text)
                look.t = max(look.t, t)
        return cells

    def _followed(self, rows: Iterable[Row], cell: float) -> dict[Place, float]:
        """Settle which server's samples are used of each instance; gives from when on, for those that changed.

        Two servers' clocks may differ by a little, and a counter that seems to fall seems to have begun again: so after
        a change a whole step is left out. Its counts come with the next look.
        """
        if not self._replica_labels:
            return {}
        newest: defaultdict[Place, dict[str, float]] = defaultdict(dict)
        for row in rows:
            if row.values:
                replica, found = _replica(row.metric, self._replica_labels), newest[_place(row.metric)]
                found[replica or ""] = max(found.get(replica or "", 0.0), row.values[-1][0])
        for place, found in newest.items():
            instance = self._instance(place)
            kept = found.get(instance.replica or "")
            if kept is None or kept < max(found.values()) - 3 * cell:
                best = max(found, key=lambda name: (found[name], name))
                known = instance.seen_at > -math.inf
                instance.replica = best or None
                instance.resume_at = instance.seen_at + cell if known else -math.inf
        return {place: self._instances[place].resume_at for place in newest}

    def _known(self, instance: _Instance, metric: dict[str, str]) -> Series | None:
        reader = instance.tally.reader
        series = _series(metric, self._replica_labels)
        fresh = series.text not in reader.known and reader.wants(series.name)
        if fresh and sum(len(one.tally.reader.known) for one in self._instances.values()) >= self._max_series:
            instance.refused += 1
            return None
        return reader.admit(series)

    def _instance(self, place: Place) -> _Instance:
        found = self._instances.get(place)
        if found is None:
            tally = Tally(self._service, [self._meaning or _NOTHING], self._gauges, self._match, self._max_series)
            found = self._instances[place] = _Instance(tally)
        return found

    def _forget(self) -> None:
        """Let go of instances that are long gone: every deployment may bring new ones."""
        newest = max((instance.seen_at for instance in self._instances.values()), default=0.0)
        self._instances = {
            place: instance
            for place, instance in self._instances.items()
            if newest - instance.seen_at <= FORGET_AFTER_S
        }

    def _classic(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, native histograms as the classic series that would say the same. Where an instance shows a
        histogram both ways, the classic one is used."""
        rows = [*rows]
        both = {(_place(row.metric), row.metric.get("__name__", "")) for row in rows if not row.histograms}
        for row in rows:
            name = row.metric.get("__name__", "")
            if not row.histograms:
                if name not in self._natives:
                    yield row
            elif name in self._natives and (_place(row.metric), f"{name}_bucket") not in both:
                yield from _unfolded(row, name, self._natives[name])


def _unfolded(row: Row, name: str, scale: float) -> Iterator[Row]:
    columns: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for t, sample in row.histograms:
        for bound, count in classic(sample, scale).items():
            columns[bound].append((t, repr(count)))
    for bound, values in columns.items():
        yield Row({**row.metric, "__name__": f"{name}_bucket", "le": bound}, values)
    yield Row({**row.metric, "__name__": f"{name}_count"}, columns["+Inf"])


def _place(metric: Mapping[str, str]) -> Place:
    return metric.get("job", ""), metric.get("instance", "")


def _replica(metric: Mapping[str, str], labels: Sequence[str]) -> str | None:
    return "/".join(metric.get(label, "") for label in labels).strip("/") or None


def _series(metric: Mapping[str, str], but: Sequence[str]) -> Series:
    labels = {label: value for label, value in metric.items() if label != "__name__" and label not in but}
    name = metric.get("__name__", "")
    return Series(repr((name, sorted(labels.items()))), name, labels)


def _present(meaning: Meaning, series: Iterable[Series]) -> bool:
    wanted = meaning.requests
    return wanted is not None and any(wanted.fits(one) for one in series)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def added_up(service: str, events: Iterable[AnyEvent], not_before: float = 0.0) -> Iterator[AnyEvent]:
    """What several instances counted in one step, as one event for each version, and each highest level."""
    requests: defaultdict[str | None, list[Requests]] = defaultdict(list)
    latency: defaultdict[str | None, list[Latency]] = defaultdict(list)
    levels: dict[tuple[str, str | None], Gauge] = {}
    newest = not_before
    for event in events:
        newest = max(newest, event.t)
        if isinstance(event, Requests):
            requests[event.version].append(event)
        elif isinstance(event, Latency):
            latency[event.version].append(event)
        elif isinstance(event, Gauge):
            key = (event.name, event.version)
            levels[key] = max(levels.get(key, event), event, key=lambda one: one.value)
    for version, parts in requests.items():
        total = sum(part.total for part in parts)
        if total <= MAX_COUNT:
            errors = sum(part.errors for part in parts)
            yield Requests(t=newest, service=service, version=version, total=total, errors=errors)
    for version, histograms in latency.items():
        shared = set.intersection(*(set(part.buckets) for part in histograms))
        bounds = [bound for bound in histograms[0].buckets if bound in shared]
        buckets = {bound: sum(part.buckets[bound] for part in histograms) for bound in bounds}
        if buckets["+Inf"] <= MAX_COUNT:
            yield Latency(t=newest, service=service, version=version, buckets=buckets)
    for level in levels.values():
        yield replace(level, t=newest)
