"""Source `prometheus`: counts, latencies and gauges that a Prometheus-compatible server keeps of a service."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Self

import structlog
from pydantic import AfterValidator, Field, model_validator

from rollbackd.adapter import Adapter
from rollbackd.errors import ConfigError, RollbackdError
from rollbackd.fields import Duration, Size
from rollbackd.metrics.presets import Meaning
from rollbackd.metrics.samples import Samples
from rollbackd.metrics.settings import Metrics, PresetName, meanings
from rollbackd.model import MAX_BACKFILL_S
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.http import HttpOptions, HttpUrl
from rollbackd.sources.prometheus_api import api_root
from rollbackd.sources.prometheus_queries import Evaluation, Queries
from rollbackd.sources.prometheus_server import NAMING_LABELS, Access, Page, Question, Server

VERSION_LABELS = ("version", "app_kubernetes_io_version", "service_version")
"""The labels that say a series' version besides the preset's own; Kubernetes' recommended one comes by relabelling."""
BASELINE_S = 300.0
"""So far before the first moment that is told of, samples are read as what counters had been at before."""
OVERLAP_S = 30.0
"""So far back is read again at each look: samples reach a server late, and clocks differ."""
CATCH_UP_S = 600.0
"""The longest gap that is made up for, where `backfill` is not longer."""
LOST_AFTER_S = 600.0
"""Without a sample for so long, the server is asked anew which label names the service."""
LONGEST_WAIT_S = 60.0

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources.prometheus")


def _url(value: str) -> str:
    try:
        api_root(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


class PrometheusConfig(HttpOptions):
    """A server that speaks Prometheus' query API: Prometheus, Thanos, Mimir, VictoriaMetrics."""

    url: Annotated[HttpUrl, AfterValidator(_url), Field(repr=False)]
    """Its address, as in `http://127.0.0.1:9090`; what comes before `/api/v1` where it is not at the root."""
    interval: Annotated[Duration, Field(ge=0.05)] = 10.0
    """How often it is asked; services with the same server settings are asked for together."""
    timeout: Annotated[Duration, Field(gt=0)] | None = None
    """How long one answer may take; left out, the interval, but at least 10s."""
    backfill: Annotated[Duration, Field(le=MAX_BACKFILL_S)] = 3600.0
    """How much of the past is read at the start, so that a deployment can be judged at once; at most 6h, 0 for none."""
    match: dict[str, str] = Field(default_factory=dict)
    """Labels and their values that pick this service's series; left out, the first usual label with its name."""
    version_label: str | None = None
    """The label that tells versions apart; left out, the preset's own or one of the usual ones."""
    replica_labels: list[str] = ["prometheus_replica", "__replica__"]
    """Labels that tell several servers apart that scrape the same: of them one is followed at a time."""
    preset: PresetName = "auto"
    """Whose metric names are expected; `auto` takes the first preset that is present."""
    metrics: Metrics = Metrics()
    """Your own metric names."""
    queries: Queries | None = None
    """Your own queries, in place of everything above from `match` on."""
    max_bytes: Annotated[Size, Field(gt=0)] = 8 * 1024 * 1024
    """The largest answer that is read; what is larger is asked for in parts."""
    max_series: Annotated[int, Field(gt=0)] = 20_000
    """How many series of the service are followed at a time; more are counted as dropped."""

    @model_validator(mode="after")
    def _one_mapping(self) -> Self:
        named = self.metrics.requests or self.metrics.latency
        if self.preset != "auto" and named:
            raise ValueError("`preset` and your own `metrics` exclude each other: keep one")
        if self.queries is not None and (self.preset != "auto" or named or self.metrics.gauges or self.match):
            raise ValueError("`queries` stand in place of `match`, `preset` and `metrics`: keep one of both")
        return self

    def meanings(self) -> list[Meaning]:
        """What the server's series may stand for, in order of preference."""
        found = meanings(self.preset, self.metrics, self.version_label)
        if self.version_label is not None:
            return found
        return [replace(one, version=tuple(dict.fromkeys((*one.version, *VERSION_LABELS)))) for one in found]

    def access(self) -> Access:
        """How the server is asked; sources for which this is equal share it."""
        options = HttpOptions(headers=self.headers, bearer=self.bearer, basic=self.basic, tls=self.tls)
        timeout = self.timeout or max(self.interval, 10.0)
        return Access(api_root(self.url), options, self.interval, timeout, self.max_bytes)


class Prometheus:
    """Asks for what is new of its service at each tick of the server's, and emits what was counted."""

    def __init__(self, config: PrometheusConfig, context: SourceContext) -> None:
        self._config, self._context, self._clock = config, context, context.clock
        self._service = context.service
        self._told_until = -math.inf

    async def run(self, sink: Sink) -> None:
        access = self._config.access()
        key = (access.root, access.options.model_dump_json(), access.interval, access.timeout, access.max_bytes)
        commons = self._context.commons
        server = commons.get(("prometheus", key), Server, lambda: Server(access, self._clock))
        async with server.seat(commons, key):
            since = self._begin()
            if self._config.queries is not None:
                evaluation = Evaluation(self._config.queries, self._service, server, self._clock)
                await evaluation.run(sink, since, self._oldest)
            else:
                await self._read(server, sink, since)

    def _begin(self) -> float:
        """The moment after which events are told: never what is known already, and no more of the past than asked."""
        known = self._context.counted_until()
        return max(self._told_until, self._clock.now() - self._config.backfill, known or 0.0)

    def _oldest(self) -> float:
        return self._clock.now() - max(self._config.backfill, CATCH_UP_S)

    async def _read(self, server: Server, sink: Sink, since: float) -> None:
        match: Mapping[str, str] | None = self._config.match or None
        samples = self._samples(match)
        vain, seen_at = 0, self._clock.now()
        while True:
            after = max(samples.done - OVERLAP_S, since - BASELINE_S, self._oldest() - BASELINE_S)
            question = Question(self._service, samples.metrics, samples.counters, match, after)
            try:
                page = await server.ask(question)
            except RollbackdError as error:
                sink.down(str(error))
                continue
            sink.up()
            if page.match is None:
                vain += 1
                await self._wait(vain)
                continue
            if match is None:
                log.info("series_found", service=self._service, match=dict(page.match))
                match, vain, seen_at = page.match, 0, page.until
                samples = self._samples(match)
            await self._emit(samples, page, since, sink)
            if page.rows or self._config.match:
                seen_at = page.until
            elif page.until - seen_at > LOST_AFTER_S:
                match = None

    def _samples(self, match: Mapping[str, str] | None) -> Samples:
        config = self._config
        return Samples(
            self._service,
            config.meanings(),
            config.metrics.gauge_rows(),
            match or {},
            config.interval,
            max_series=config.max_series,
            replica_labels=config.replica_labels,
        )

    async def _emit(self, samples: Samples, page: Page, since: float, sink: Sink) -> None:
        for events in samples.steps(page.rows, page.until):
            for event in events:
                if event.t > since:
                    self._told_until = max(self._told_until, event.t)
                    await sink.emit(event)
            await asyncio.sleep(0)  # an hour of the past is much work, and emitting waits for a full queue alone
        for reason, count in samples.dropped.items():
            sink.dropped(reason, count)
        samples.dropped.clear()

    async def _wait(self, vain: int) -> None:
        """No series is there yet: nothing to be told, and no reason to ask at each tick for ever."""
        if vain == 1:
            cure = f"set `match`: no request metric has `{self._service}` as its {', '.join(NAMING_LABELS)}"
            log.warning("no_series", service=self._service, cure=cure)
        if vain > 3:
            await self._clock.sleep(min(self._config.interval * 2.0 ** min(vain - 3, 10), LONGEST_WAIT_S))


def build(config: PrometheusConfig, context: SourceContext) -> Source:
    """Make the source; nothing is asked before it runs."""
    return Prometheus(config, context)


ADAPTER = Adapter(config=PrometheusConfig, build=build, shorthand="url")
