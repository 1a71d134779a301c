"""Source `statsd`: counters, timers and gauges that programs send as StatsD or DogStatsD, over UDP or a unix socket."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from rollbackd.adapter import Adapter
from rollbackd.aiokit import Clock
from rollbackd.fields import Duration, Model, Ratio
from rollbackd.metrics.statsd import (
    GAUGES,
    PRESET_NAMES,
    PRESETS,
    Belonging,
    Malformed,
    Meaning,
    Selection,
    named,
    parts,
)
from rollbackd.metrics.statsd_tally import Role, Tally
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.listening import Address, Datagrams, ListenAddress, Unlistenable, address
from rollbackd.sources.schedule import Schedule

REMEMBERED = 20_000
MAX_REMEMBERED_BYTES = 500
"""What so many names with their tags stand for is remembered, a port; longer ones are worked out each time.

With that, changing tags cost at most about 20 MB a port, and are forgotten all at once when there are too many.
"""


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


def _datagrams(value: str) -> str:
    if address(value).scheme == "tcp":
        raise ValueError("StatsD comes in datagrams: write udp://127.0.0.1:PORT or unix:///PATH")
    return value


def _named(value: object) -> object:
    return {"metric": value} if isinstance(value, str) else value


class StatsdMetric(Model):
    """Metrics of one name; a bare string is the name."""

    metric: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """The name without the service's prefix; `*` stands for any text without a dot."""
    where: dict[str, Annotated[str, AfterValidator(_pattern)]] = Field(default_factory=dict)
    """Tags to regular expressions that must match the whole value; a tag that is absent reads as empty."""

    def selection(self) -> Selection:
        return Selection.of(self.metric, self.where)


class StatsdTimer(StatsdMetric):
    """Timers, histograms or distributions of one name; a bare string is the name."""

    unit: Literal["ms", "s"] = "ms"
    """The unit of their values."""


MetricField = Annotated[StatsdMetric, BeforeValidator(_named, json_schema_input_type=str | StatsdMetric)]
TimerField = Annotated[StatsdTimer, BeforeValidator(_named, json_schema_input_type=str | StatsdTimer)]


class StatsdNames(Model):
    """Your own names, in place of a preset's. Gauges come on top of the usual ones."""

    requests: MetricField | None = None
    """Counter of all requests; a timer counts, too, once for each of its values."""
    errors: MetricField | None = None
    """Counter of the failed ones among them: another metric, or the same one narrowed by `where`."""
    latency: TimerField | None = None
    """How long requests took."""
    gauges: dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], MetricField] = Field(
        default_factory=dict
    )
    """Levels to report, by the name they shall have; of several series the largest is taken."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.requests is None) != (self.errors is None):
            raise ValueError("`requests` and `errors` need each other: a count without its failures says nothing")
        return self


class StatsdConfig(Model):
    """Metrics that come by StatsD."""

    listen: Annotated[ListenAddress, AfterValidator(_datagrams)] = "udp://127.0.0.1:8125"
    """Where they are sent to: `udp://IP:PORT` or `unix:///PATH`. Services may share it."""
    prefix: str | None = None
    """What this service's names begin with, as in `shop.checkout`; it is left out of them. Empty: all names are its."""
    match: dict[str, str] = Field(default_factory=dict)
    """Tags and their values that tell this service's metrics from others'."""
    version_tag: str | None = None
    """The tag that tells versions apart; left out, `version`."""
    interval: Annotated[Duration, Field(ge=0.05)] = 10.0
    """How often what came is added up."""
    preset: Annotated[str, AfterValidator(_preset)] = "auto"
    """Whose names the metrics have; `auto` takes the first preset of which requests come."""
    metrics: StatsdNames | None = None
    """Your own names, in place of a preset's."""
    max_loss: Ratio = 0.01
    """If the kernel had to drop a larger share of the datagrams, the counts of that interval are not used."""

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        own = self.metrics is not None and (self.metrics.requests is not None or self.metrics.latency is not None)
        if own and self.preset != "auto":
            raise ValueError("`preset` and `metrics` exclude each other: keep one")
        return self

    def meanings(self) -> list[Meaning]:
        """What the metrics may stand for, in order of preference."""
        own = self.metrics
        if own is None or (own.requests is None and own.latency is None):
            return [row for row in PRESETS if self.preset in ("auto", row.preset)]
        return [
            Meaning(
                "metrics",
                own.requests.selection() if own.requests is not None else None,
                own.errors.selection() if own.errors is not None else None,
                own.latency.selection() if own.latency is not None else None,
                seconds=own.latency is not None and own.latency.unit == "s",
            )
        ]


class Port:
    """One address, read for all services that name it; each line goes to whose it is at once, or to nobody."""

    def __init__(self, at: Address, clock: Clock) -> None:
        self._clock = clock
        self._tallies: list[Tally] = []
        self._roles: dict[tuple[bytes, bytes], list[tuple[Tally, Role]]] = {}
        self.datagrams = Datagrams(at, self._receive)

    def join(self, tally: Tally) -> None:
        self._tallies.append(tally)
        self._roles.clear()

    def leave(self, tally: Tally) -> bool:
        """Whether it was the last one, with which the port is closed."""
        self._tallies = [one for one in self._tallies if one is not tally]
        self._roles.clear()
        if not self._tallies:
            self.datagrams.close()
        return not self._tallies

    def _receive(self, data: bytes, _sender: str | None) -> None:
        now = self._clock.now()
        for line in data.split(b"\n"):
            if line:
                try:
                    self._take(line.rstrip(b"\r"), now)
                except Malformed:
                    self._drop("malformed")

    def _take(self, line: bytes, now: float) -> None:
        taken = parts(line)
        if taken is None:
            return
        key = (taken.name, taken.tags)
        roles = self._roles.get(key)
        if roles is None:
            roles = self._work_out(*key)
        for tally, role in roles:
            tally.take(role, taken, now)
        if not roles:
            self._drop("other_sender")

    def _work_out(self, name: bytes, tags: bytes) -> list[tuple[Tally, Role]]:
        known = named(name, tags)
        roles = [(tally, role) for tally in self._tallies if (role := tally.role(*known)) is not None]
        if len(name) + len(tags) <= MAX_REMEMBERED_BYTES:
            if len(self._roles) >= REMEMBERED:
                self._roles.clear()
            self._roles[name, tags] = roles
        return roles

    def _drop(self, reason: str) -> None:
        """Count what cannot be said to be anybody's: for each of the services, since it may have been its own."""
        for tally in self._tallies:
            tally.dropped[reason] += 1


class Statsd:
    """Adds up what comes, and tells of it on a fixed rhythm."""

    def __init__(self, config: StatsdConfig, context: SourceContext) -> None:
        self._config, self._service, self._clock = config, context.service, context.clock
        self._commons, self._at = context.commons, address(config.listen)

    async def run(self, sink: Sink) -> None:
        tally = self._tally()
        key = ("statsd", self._at)
        port = self._commons.get(key, Port, lambda: Port(self._at, self._clock))
        port.join(tally)
        seen = (port.datagrams.received, port.datagrams.lost)
        schedule = Schedule(self._clock, self._config.interval)
        try:
            while True:
                await schedule.tick()
                fault = _opened(port.datagrams)
                now = (port.datagrams.received, port.datagrams.lost)
                received, lost = now[0] - seen[0], now[1] - seen[1]
                seen = now
                if lost:
                    sink.dropped("receive_buffer_full", lost)
                if fault is None and lost > self._config.max_loss * (received + lost):
                    fault = f"the kernel dropped {lost} of {received + lost} datagrams, raise `net.core.rmem_max`"
                    tally.forget()
                await self._tell(tally, sink, fault)
        finally:
            if port.leave(tally):
                self._commons.forget(key)

    def _tally(self) -> Tally:
        config = self._config
        own = {name: metric.selection() for name, metric in config.metrics.gauges.items()} if config.metrics else {}
        return Tally(
            Belonging(self._service, config.prefix, config.match),
            config.meanings(),
            {**GAUGES, **own},
            (config.version_tag or "version",),
        )

    async def _tell(self, tally: Tally, sink: Sink, fault: str | None) -> None:
        if fault is None:
            sink.up()
        else:
            sink.down(fault)
        events = tally.events(self._clock.now())
        dropped, tally.dropped = tally.dropped, Counter()
        for reason, count in dropped.items():
            sink.dropped(reason, count)
        for event in events:
            await sink.emit(event)


def _opened(datagrams: Datagrams) -> str | None:
    try:
        datagrams.open()
    except Unlistenable as error:
        return str(error)
    return None


def build(config: StatsdConfig, context: SourceContext) -> Source:
    """Make the source; nothing is opened before it runs."""
    return Statsd(config, context)


ADAPTER = Adapter(config=StatsdConfig, build=build, shorthand="listen")
