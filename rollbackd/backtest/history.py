"""Samples of one service to the Events that its live sources would have made of them. No I/O.

Samples that were scraped together have one moment, so they are put together again as looks and counted by the live
source's own code, each instance by itself: its restart is nobody else's. What the instances of a service counted
in one step of time is then added up.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TypeAlias

from rollbackd.backtest.prometheus import Row
from rollbackd.metrics.exposition import Exposition, Series
from rollbackd.metrics.growth import FORGET_AFTER_S, START_TIME, created_name
from rollbackd.metrics.presets import Meaning
from rollbackd.metrics.tally import Tally, counter_names
from rollbackd.model import MAX_COUNT, AnyEvent, Latency, Probe, Requests

PROBE_UP, PROBE_DURATION = "probe_success", "probe_duration_seconds"
"""What the blackbox exporter calls them: https://github.com/prometheus/blackbox_exporter."""
MAX_SERIES = 20_000
"""Series followed of one instance, as the live source does by default."""

Place: TypeAlias = tuple[str, str]
"""The job and the instance of a series: what Prometheus calls a target."""


@dataclass
class _Look:
    """What was read of one instance in one step of time."""

    t: float = 0.0
    samples: dict[Series, float] = field(default_factory=dict)


@dataclass
class _Instance:
    """One instance's counts. `refused` are series beyond the bound."""

    tally: Tally
    seen_at: float = 0.0
    refused: int = 0


class SignalHistory:
    """The requests, latencies and probes of one service.

    `match` are the labels that its source picks its series by; `step` is the least time between two looks, in seconds.
    """

    def __init__(self, service: str, meanings: Sequence[Meaning], match: Mapping[str, str], step: float) -> None:
        self._service, self._meanings, self._match, self._step = service, meanings, match, step
        self._instances: dict[Place, _Instance] = {}
        self._cell: float | None = None
        counters = {name for meaning in meanings for name in counter_names(meaning)}
        created = {created_name(name) for name in counters}
        self.metrics = frozenset({*counters, *created, START_TIME, PROBE_UP, PROBE_DURATION})
        """The names of the metrics to be read."""
        self.found = False
        """Whether there was any sample of what can be judged."""

    def take(self, rows: Sequence[Row]) -> list[AnyEvent]:
        """The events of the next page of samples, in order of time."""
        self.found = self.found or any(row.values for row in rows if row.metric.get("__name__") != START_TIME)
        probes = [row for row in rows if row.metric.get("__name__") in (PROBE_UP, PROBE_DURATION)]
        counts = [row for row in rows if row.metric.get("__name__") not in (PROBE_UP, PROBE_DURATION)]
        events: list[AnyEvent] = [*_probes(self._service, probes), *self._counts(counts)]
        return sorted(events, key=lambda event: event.t)

    def _counts(self, rows: Sequence[Row]) -> Iterator[AnyEvent]:
        for instance in self._instances.values():
            instance.refused = 0
        cells = self._looks(rows, self._cell_of(rows))
        for number in sorted(cells):
            seen: list[AnyEvent] = []
            for place, look in sorted(cells[number].items()):
                instance = self._instances[place]
                scrape = Exposition(instance.tally.reader)
                scrape.samples, scrape.refused = look.samples, instance.refused
                instance.seen_at = look.t
                seen += instance.tally.take(scrape, look.t, look.t)
            yield from added_up(self._service, seen)
        self._forget()

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

    def _looks(self, rows: Iterable[Row], cell: float) -> dict[int, dict[Place, _Look]]:
        """The samples by step of time and instance; of several samples of a series in one step the newest counts."""
        cells: defaultdict[int, dict[Place, _Look]] = defaultdict(dict)
        for row in rows:
            place = (row.metric.get("job", ""), row.metric.get("instance", ""))
            instance = self._instance(place)
            series = _known(instance, row.metric)
            if series is None:
                continue
            for t, text in row.values:
                looks = cells[int(t // cell)]
                look = looks.get(place)
                if look is None:
                    look = looks[place] = _Look()
                look.samples[series] = _number(text)
                look.t = max(look.t, t)
        return cells

    def _instance(self, place: Place) -> _Instance:
        found = self._instances.get(place)
        if found is None:
            tally = Tally(self._service, self._meanings, (), self._match, MAX_SERIES)
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


def _known(instance: _Instance, metric: dict[str, str]) -> Series | None:
    labels = {label: value for label, value in metric.items() if label != "__name__"}
    name = metric.get("__name__", "")
    try:
        return instance.tally.reader.admit(Series(repr((name, sorted(labels.items()))), name, labels))
    except OverflowError:
        instance.refused += 1
        return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _probes(service: str, rows: Iterable[Row]) -> Iterator[Probe]:
    """A check each; one that has no duration is taken as of no time."""
    took: dict[tuple[Place, float], float] = {}
    for row in rows:
        place = (row.metric.get("job", ""), row.metric.get("instance", ""))
        if row.metric["__name__"] == PROBE_DURATION:
            took |= {(place, t): _number(text) for t, text in row.values}
    for row in rows:
        place = (row.metric.get("job", ""), row.metric.get("instance", ""))
        if row.metric["__name__"] != PROBE_UP:
            continue
        for t, text in row.values:
            value, duration = _number(text), took.get((place, t), 0.0)
            if math.isfinite(value):
                yield Probe(
                    t=t, service=service, up=value > 0, duration=duration if 0 <= duration <= MAX_COUNT else 0.0
                )


def added_up(service: str, events: Iterable[AnyEvent]) -> Iterator[AnyEvent]:
    """What several instances counted in one step, as one event for each version."""
    requests: defaultdict[str | None, list[Requests]] = defaultdict(list)
    latency: defaultdict[str | None, list[Latency]] = defaultdict(list)
    for event in events:
        if isinstance(event, Requests):
            requests[event.version].append(event)
        elif isinstance(event, Latency):
            latency[event.version].append(event)
    for version, parts in requests.items():
        total = sum(part.total for part in parts)
        if total <= MAX_COUNT:
            errors = sum(part.errors for part in parts)
            newest = max(part.t for part in parts)
            yield Requests(t=newest, service=service, version=version, total=total, errors=errors)
    for version, histograms in latency.items():
        shared = set.intersection(*(set(part.buckets) for part in histograms))
        bounds = [bound for bound in histograms[0].buckets if bound in shared]
        buckets = {bound: sum(part.buckets[bound] for part in histograms) for bound in bounds}
        if buckets["+Inf"] <= MAX_COUNT:
            yield Latency(t=max(part.t for part in histograms), service=service, version=version, buckets=buckets)
