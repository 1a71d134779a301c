"""Samples of one service to the Events that its live sources would have made of them. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rollbackd.metrics.growth import START_TIME
from rollbackd.metrics.presets import Meaning
from rollbackd.metrics.samples import Place, Row, Samples
from rollbackd.model import MAX_COUNT, AnyEvent, Probe

PROBE_UP, PROBE_DURATION = "probe_success", "probe_duration_seconds"
"""What the blackbox exporter calls them: https://github.com/prometheus/blackbox_exporter."""


class SignalHistory:
    """The requests, latencies and probes of one service.

    `match` are the labels that its source picks its series by; `step` is the least time between two looks, in seconds.
    """

    def __init__(self, service: str, meanings: Sequence[Meaning], match: Mapping[str, str], step: float) -> None:
        self._service = service
        self._samples = Samples(service, meanings, (), match, step)
        self.metrics = self._samples.metrics | {PROBE_UP, PROBE_DURATION}
        """The names of the metrics to be read."""
        self.found = False
        """Whether there was any sample of what can be judged."""

    def take(self, rows: Sequence[Row]) -> list[AnyEvent]:
        """The events of the next page of samples, in order of time."""
        self.found = self.found or any(row.values for row in rows if row.metric.get("__name__") != START_TIME)
        probes = [row for row in rows if row.metric.get("__name__") in (PROBE_UP, PROBE_DURATION)]
        counts = [row for row in rows if row.metric.get("__name__") not in (PROBE_UP, PROBE_DURATION)]
        events: list[AnyEvent] = [*_probes(self._service, probes), *self._samples.take(counts)]
        return sorted(events, key=lambda event: event.t)


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
