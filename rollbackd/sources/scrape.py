"""Source `scrape`: counts, latencies and gauges from a Prometheus or OpenMetrics text endpoint."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from rollbackd.adapter import Adapter
from rollbackd.errors import ConfigError
from rollbackd.fields import Duration, Model, Size
from rollbackd.metrics.exposition import Exposition
from rollbackd.metrics.presets import GAUGES, PRESET_NAMES, PRESETS, GaugeRow, Meaning, Selection
from rollbackd.metrics.tally import Tally
from rollbackd.model import AnyEvent
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.http import BadAnswer, HttpClient, HttpOptions, HttpUrl, Unreachable
from rollbackd.sources.schedule import Schedule

ACCEPT = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1"
"""Plain text first: asked for OpenMetrics, some client libraries give counters other names."""


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from None
    return value


def _preset(value: str) -> str:
    if value != "auto" and value not in PRESET_NAMES:
        raise ValueError(f"there is no preset `{value}`; known: auto, {', '.join(PRESET_NAMES)}")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]


class Series(Model):
    """Series of one metric; a bare string is the metric's name."""

    metric: Annotated[str, Field(min_length=1)]
    """The metric's name as the endpoint spells it; a histogram's without `_bucket`."""
    where: dict[str, Pattern] = Field(default_factory=dict)
    """Labels to regular expressions that must match the whole value; a label that is absent reads as empty."""

    def selection(self) -> Selection:
        return Selection.of(self.metric, self.where)


class Histogram(Series):
    """A histogram of durations; a bare string is the metric's name."""

    unit: Literal["s", "ms"] = "s"
    """The unit of its bounds."""


def _named(value: object) -> object:
    return {"metric": value} if isinstance(value, str) else value


SeriesField = Annotated[Series, BeforeValidator(_named, json_schema_input_type=str | Series)]
HistogramField = Annotated[Histogram, BeforeValidator(_named, json_schema_input_type=str | Histogram)]
GaugeName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Metrics(Model):
    """Your own names, in place of a preset's. Gauges come on top of the usual ones."""

    requests: SeriesField | None = None
    """Counter of all requests."""
    errors: SeriesField | None = None
    """Counter of the failed ones among them: another metric, or the same one narrowed by `where`."""
    latency: HistogramField | None = None
    """Histogram of how long requests took."""
    gauges: dict[GaugeName, SeriesField] = Field(default_factory=dict)
    """Levels to report, by the name they shall have; the series of each are added up."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.requests is None) != (self.errors is None):
            raise ValueError("`requests` and `errors` need each other: a count without its failures says nothing")
        return self


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
    preset: Annotated[str, AfterValidator(_preset)] = "auto"
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
        return meanings(self)


def meanings(config: ScrapeConfig) -> list[Meaning]:
    """What the endpoint's series may stand for, in order of preference."""
    own = config.metrics
    if own.requests is not None or own.latency is not None:
        found = [
            Meaning(
                preset="own",
                requests=own.requests.selection() if own.requests else None,
                errors=(own.errors.selection(),) if own.errors else (),
                latency=(own.latency.selection(),) if own.latency else (),
                scale=0.001 if own.latency and own.latency.unit == "ms" else 1.0,
            )
        ]
    else:
        rows = [row for row in PRESETS if config.preset in ("auto", row.name)]
        found = [meaning for row in rows for meaning in row.meanings()]
    if config.version_label is None:
        return found
    return [meaning.with_version(config.version_label) for meaning in found]


class Scrape:
    """Reads the endpoint on a fixed rhythm and emits what changed."""

    def __init__(self, config: ScrapeConfig, context: SourceContext) -> None:
        self._config, self._service, self._clock = config, context.service, context.clock

    async def run(self, sink: Sink) -> None:
        config = self._config
        own_gauges = [GaugeRow(name, series.selection()) for name, series in config.metrics.gauges.items()]
        tally = Tally(self._service, meanings(config), [*own_gauges, *GAUGES], config.match, config.max_series)
        schedule = Schedule(self._clock, config.interval)
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
