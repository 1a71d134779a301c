"""An operator's own PromQL in place of metric names: rates and levels, evaluated on a grid of moments."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rollbackd.aiokit import Clock
from rollbackd.errors import RollbackdError
from rollbackd.fields import Duration, Model
from rollbackd.metrics.promql import inside
from rollbackd.metrics.samples import Row
from rollbackd.metrics.settings import GaugeName
from rollbackd.metrics.tally import MAX_VERSION, bound_text
from rollbackd.model import MAX_COUNT, AnyEvent, Gauge, Latency, Requests
from rollbackd.sources.base import Sink
from rollbackd.sources.prometheus_server import Server
from rollbackd.sources.schedule import Schedule

LONGEST_PAGE = 1000
"""Moments that are asked for at once."""
SETTLE_S = 5.0
"""So long after a moment the samples before it are taken to have reached the server."""
MAX_PARTS = 200
"""Versions and bounds of one query's answer that are used at one moment."""

Expression = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class Queries(Model):
    """PromQL; `{service}` and `{step}` stand for the service's name and the time between two evaluations."""

    requests: Expression | None = None
    """Requests a second, as in `sum by (version) (rate(http_requests_total{app="{service}"}[{step}]))`."""
    errors: Expression | None = None
    """Failed requests a second; a moment at which it gives nothing and `requests` does is one without failures."""
    latency: Expression | None = None
    """Requests a second by histogram bucket, with the label `le`, as in `sum by (le) (rate(NAME_bucket[{step}]))`."""
    unit: Literal["s", "ms"] = "s"
    """The unit of the bounds in `le`."""
    gauges: dict[GaugeName, Expression] = Field(default_factory=dict)
    """Levels, by the name they shall have; of several series of one version the highest is taken."""
    step: Annotated[Duration, Field(ge=1)] = 60.0
    """The time between two evaluations; a rate needs at least two scrapes within it."""
    version_label: str = "version"
    """The label that tells versions apart, where the answers have it."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.requests is None) != (self.errors is None):
            raise ValueError("`requests` and `errors` need each other: a count without its failures says nothing")
        if self.requests is None and self.latency is None and not self.gauges:
            raise ValueError("nothing is asked for: write `requests` and `errors`, `latency` or `gauges`")
        return self


class Evaluation:
    """The queries of one service, each evaluated once a step: no rate then counts a request twice."""

    def __init__(self, queries: Queries, service: str, server: Server, clock: Clock) -> None:
        self._queries, self._service, self._server, self._clock = queries, service, server, clock

    async def run(self, sink: Sink, since: float, oldest: Callable[[], float]) -> None:
        """Evaluate from `since` on, never before `oldest`, and emit until cancelled."""
        step = self._queries.step
        schedule = Schedule(self._clock, step)
        done = math.floor(since / step) * step
        while True:
            await schedule.tick()
            last = math.floor((self._clock.now() - min(SETTLE_S, step / 4)) / step) * step
            done = max(done, math.floor(oldest() / step) * step)
            try:
                while done < last:
                    end = min(done + LONGEST_PAGE * step, last)
                    events = await self._page(done + step, end, sink)
                    done = end
                    for event in events:
                        await sink.emit(event)
            except RollbackdError as error:
                sink.down(str(error))
            else:
                sink.up()

    async def _page(self, first: float, last: float, sink: Sink) -> list[AnyEvent]:
        queries = self._queries
        asked = {"requests": queries.requests, "errors": queries.errors, "latency": queries.latency}
        found = {name: await self._steps(text, first, last) for name, text in asked.items() if text is not None}
        events: list[AnyEvent] = []
        if queries.requests is not None:
            events += self._requests(found["requests"], found["errors"], sink)
        if queries.latency is not None:
            events += self._latency(found["latency"], sink)
        for name, text in queries.gauges.items():
            events += self._gauge(name, await self._steps(text, first, last))
        return sorted(events, key=lambda event: event.t)

    async def _steps(self, text: str, first: float, last: float) -> list[Row]:
        step = self._queries.step
        text = text.replace("{service}", inside(self._service)).replace("{step}", f"{round(step * 1000)}ms")
        async with self._server.at_once:
            return await self._server.api.steps(text, first, last, step, self._server.max_bytes)

    def _version(self, metric: Mapping[str, str]) -> str | None:
        value = metric.get(self._queries.version_label, "")
        return value[:MAX_VERSION] if value and value != "unknown" else None

    def _counts(self, rows: Sequence[Row], sink: Sink) -> dict[tuple[float, str | None], float]:
        counts: defaultdict[tuple[float, str | None], float] = defaultdict(float)
        for row in rows[:MAX_PARTS]:
            for t, rate in _finite(row, sink):
                counts[t, self._version(row.metric)] += rate * self._queries.step
        return counts

    def _requests(self, rows: Sequence[Row], failing: Sequence[Row], sink: Sink) -> list[AnyEvent]:
        errors = self._counts(failing, sink)
        events: list[AnyEvent] = []
        for (t, version), total in self._counts(rows, sink).items():
            failed = errors.get((t, version), 0.0)
            total = max(total, failed)
            if total <= MAX_COUNT:
                events.append(Requests(t=t, service=self._service, version=version, total=total, errors=failed))
        return events

    def _latency(self, rows: Sequence[Row], sink: Sink) -> list[AnyEvent]:
        scale = 0.001 if self._queries.unit == "ms" else 1.0
        found: defaultdict[tuple[float, str | None], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for row in rows[:MAX_PARTS]:
            bound = bound_text(row.metric.get("le", ""), scale)
            if bound is None:
                sink.dropped("no_bound", len(row.values))
                continue
            for t, rate in _finite(row, sink):
                found[t, self._version(row.metric)][bound] += rate * self._queries.step
        events: list[AnyEvent] = []
        for (t, version), counts in found.items():
            buckets, floor = dict[str, float](), 0.0
            for bound in sorted(counts, key=float):
                buckets[bound] = floor = max(floor, counts[bound])
            if 0 < buckets.get("+Inf", 0.0) <= MAX_COUNT:
                events.append(Latency(t=t, service=self._service, version=version, buckets=buckets))
        return events

    def _gauge(self, name: str, rows: Sequence[Row]) -> list[AnyEvent]:
        levels: dict[tuple[float, str | None], float] = {}
        for row in rows[:MAX_PARTS]:
            for t, text in row.values:
                key, value = (t, self._version(row.metric)), _number(text)
                if math.isfinite(value):
                    levels[key] = max(value, levels.get(key, value))
        return [
            Gauge(t=t, service=self._service, version=version, name=name, value=value)
            for (t, version), value in levels.items()
        ]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _finite(row: Row, sink: Sink) -> list[tuple[float, float]]:
    """The rates of a series; NaN, as from a division by nothing, and what cannot be a rate are dropped."""
    found = [(t, _number(text)) for t, text in row.values]
    good = [(t, value) for t, value in found if math.isfinite(value) and value >= 0]
    if len(good) < len(found):
        sink.dropped("not_a_number", len(found) - len(good))
    return good
