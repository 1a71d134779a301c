"""Source `scrape`: counts, latencies and gauges from a Prometheus or OpenMetrics text endpoint."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from rollbackd.adapter import Adapter
from rollbackd.errors import ConfigError
from rollbackd.fields import Duration, Size
from rollbackd.metrics.exposition import Exposition
from rollbackd.metrics.presets import Meaning
from rollbackd.metrics.settings import Metrics, PresetName, meanings
from rollbackd.metrics.tally import Tally
from rollbackd.model import AnyEvent
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.http import BadAnswer, HttpClient, HttpOptions, HttpUrl, Unreachable
from rollbackd.sources.schedule import Schedule

ACCEPT = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1"
"""Plain text first: asked for OpenMetrics, some client libraries give counters other names."""


class ScrapeConfig(HttpOptions):
    """A Prometheus or OpenMetrics text endpoint."""

    url: HttpUrl = Field(repr=False)
    """Where it is, as in `http://127.0.0.1:8080/metrics`."""
    interval: Annotated[Duration, Field(ge=0.05)] = 10.0
    """How often it is read."""
    timeout: Annotated[Duration, Field(gt=0)] | None = None
    """How long one reading may take; left out, the interval, but at most 10s."""
    max_bytes: Annotated[Size, Field(gt=0)] = 32 * 1024 * 1024
    """The largest answer that is read, counted after decompression."""
    max_series: Annotated[int, Field(gt=0)] = 20_000
    """How many series are followed at a time; more are counted as dropped."""
    version_label: str | None = None
    """The label that tells versions apart; left out, the preset's own (`version`), where the series have it."""
    match: dict[str, str] = Field(default_factory=dict)
    """Labels and their values that tell this service's series from others' on a shared endpoint."""
    preset: PresetName = "auto"
    """Whose metric names are expected; `auto` takes the first preset that is present."""
    metrics: Metrics = Metrics()
    """Your own metric names."""

    @model_validator(mode="after")
    def _one_mapping(self) -> Self:
        if self.preset != "auto" and (self.metrics.requests or self.metrics.latency):
            raise ValueError("`preset` and your own `metrics` exclude each other: keep one")
        return self

    def meanings(self) -> list[Meaning]:
        """What the endpoint's series may stand for, in order of preference."""
        return meanings(self.preset, self.metrics, self.version_label)


class Scrape:
    """Reads the endpoint on a fixed rhythm and emits what changed."""

    def __init__(self, config: ScrapeConfig, context: SourceContext) -> None:
        self._config, self._service, self._clock = config, context.service, context.clock
        self._commons = context.commons

    async def run(self, sink: Sink) -> None:
        config = self._config
        tally = Tally(self._service, self._meanings(), config.metrics.gauge_rows(), config.match, config.max_series)
        schedule = Schedule(self._clock, config.interval, self._commons)
        timeout = config.timeout or min(config.interval, 10.0)
        async with HttpClient(config.url, config, timeout) as http:
            while True:
                await schedule.tick()
                try:
                    events = await self._look(http, tally)
                except (Unreachable, BadAnswer, ConfigError) as error:
                    sink.down(http.scrubbed(str(error)))
                    continue
                sink.up()
                for reason, count in tally.dropped.items():
                    sink.dropped(reason, count)
                tally.dropped.clear()
                for event in events:
                    await sink.emit(event)

    def _meanings(self) -> list[Meaning]:
        """Those of a preset are the same objects for every source: a thousand sources would hold 25 MB of them."""
        config = self._config
        if config.metrics.requests or config.metrics.latency:
            return config.meanings()
        return self._commons.get(("meanings", config.preset, config.version_label), list, config.meanings)

    async def _look(self, http: HttpClient, tally: Tally) -> list[AnyEvent]:
        exposition = Exposition(tally.reader)
        async with http.ask("GET", ACCEPT, follow=True) as answer:
            if answer.status != 200:
                raise BadAnswer(f"{http.shown} answered {answer.status} {answer.reason:.60}".rstrip())
            async for chunk in answer.chunks():
                exposition.feed(chunk)
                if exposition.size > self._config.max_bytes:
                    raise BadAnswer(
                        f"{http.shown} answered with more than {self._config.max_bytes} bytes: raise `max_bytes`, "
                        f"or expose less"
                    )
                if exposition.hopeless:
                    raise _foreign(http, exposition)
            openmetrics = answer.content_type.startswith("application/openmetrics-text")
        exposition.end()
        if not exposition.size:
            raise BadAnswer(f"{http.shown} answered with an empty body")
        if not exposition.sound:
            raise _foreign(http, exposition)
        if openmetrics and not exposition.complete:
            raise BadAnswer(f"{http.shown}: the answer broke off before its `# EOF`")
        return tally.take(exposition, self._clock.now(), self._clock.monotonic())


def _foreign(http: HttpClient, exposition: Exposition) -> BadAnswer:
    return BadAnswer(f"{http.shown} is not Prometheus text: it begins with {exposition.opening}")


def build(config: ScrapeConfig, context: SourceContext) -> Source:
    """Make the source; nothing is asked before it runs."""
    return Scrape(config, context)


ADAPTER = Adapter(config=ScrapeConfig, build=build, shorthand="url")
