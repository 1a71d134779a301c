"""Source `loki`: the lines that Grafana Loki keeps of a service, by query or in its live tail."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from yarl import URL

from rollbackd.adapter import Adapter
from rollbackd.errors import ConfigError
from rollbackd.fields import Duration, Size
from rollbackd.logs.loki import ENCODING_HEADERS, Entries, Foreign, NotLines, read_answer, selector
from rollbackd.logs.settings import LineSettings
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.http import Answer, BadAnswer, HttpClient, HttpOptions, HttpUrl, Unreachable
from rollbackd.sources.kept import Kept
from rollbackd.sources.loki_place import MAX_UNCHECKED, Place
from rollbackd.sources.loki_records import MAX_BEHIND_S, Records
from rollbackd.sources.loki_tail import listen
from rollbackd.sources.schedule import Schedule
from rollbackd.sources.websocket import websocket

QUERY_PATH = "/loki/api/v1/query_range"
TAIL_PATH = "/loki/api/v1/tail"

SAVE_S = 10.0
"""How often the place is put on disk while lines are read; a killed daemon tells of so much again."""

LONGEST_WAIT_S = 300.0
"""A Retry-After of more than this is not believed."""

SAID_BYTES = 2048
SAID_CHARS = 200
"""How much of what the server says about an error is read, and how much is told."""

Header = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\r\n\x00]+$")]
LabelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class LokiConfig(HttpOptions, LineSettings):
    """Grafana Loki, or what speaks its HTTP API."""

    url: HttpUrl = Field(repr=False)
    """Where it is, as in `http://loki:3100`, without `/loki/api/v1`."""
    match: dict[LabelName, str] = Field(default_factory=dict)
    """Labels and their values that tell this service's streams; left out, `service_name` with the service's name."""
    query: Annotated[str, StringConstraints(min_length=1, max_length=5000)] | None = None
    """A LogQL log query in place of `match`, as in `{app="checkout"} |= "payment"`."""
    mode: Literal["query", "tail"] = "query"
    """`query` asks for new lines at each `interval`, `tail` is sent them as they come."""
    tenant: Header | None = None
    """The tenant, sent as `X-Scope-OrgID`, where Loki keeps several."""
    interval: Annotated[Duration, Field(ge=0.5)] = 10.0
    """How often new lines are asked for. So often is a tail completed, and taken up again where it ended."""
    delay: Annotated[Duration, Field(ge=5, le=300)] = 15.0
    """How late a line may reach Loki: so much is asked for again each time, and what was there before is left out."""
    limit: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many lines are asked for at a time; Loki itself refuses more than 5000 unless told otherwise."""
    timeout: Annotated[Duration, Field(gt=0)] = 30.0
    """How long one answer may take."""
    max_bytes: Annotated[Size, Field(ge=64 * 1024)] = 8 * 1024 * 1024
    """The largest answer that is read, counted after decompression; where it is larger, fewer lines are asked for."""
    version_label: str | None = None
    """The label or structured metadata that names the release; left out, `version`, else `service_version`, else
    `app_kubernetes_io_version`."""
    max_line: Annotated[Size, Field(ge=256)] = 64 * 1024
    """Longer lines are cut, and counted as `line_too_long`."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.query is not None and self.match:
            raise ValueError("`query` and `match` exclude each other: keep one")
        if self.tenant is not None and "x-scope-orgid" in {name.lower() for name in self.headers}:
            raise ValueError("`tenant` and a header `X-Scope-OrgID` exclude each other: keep one")
        return self

    def for_service(self, service: str) -> str:
        """The log query for a service."""
        return self.query or selector(self.match or {"service_name": service})

    def endpoint(self, path: str, timeout: float) -> HttpClient:
        """A client for one of Loki's endpoints, carrying the tenant beside the credentials."""
        url = URL(self.url)
        url = url.with_path(url.path.rstrip("/") + path).with_query(url.query)
        tenant = {"X-Scope-OrgID": self.tenant} if self.tenant is not None else {}
        options = self.model_copy(update={"headers": {**self.headers, **ENCODING_HEADERS, **tenant}})
        return HttpClient(str(url), options, timeout)


class Reading:
    """One run of the source: what is read from a place on, and told as records."""

    def __init__(
        self, config: LokiConfig, context: SourceContext, place: Place, kept: Kept, http: HttpClient, sink: Sink
    ) -> None:
        self._config, self._clock, self._sink, self._http = config, context.clock, sink, http
        self._place, self._kept = place, kept
        self._query = config.for_service(context.service)
        reader = config.reader()
        self._records = Records(context.service, context.clock, sink, reader, config.max_line, config.version_label)
        self._saved_at = self._asked_at = context.clock.monotonic()

    def begin(self) -> dict[str, str]:
        """What to ask for, from the place on."""
        return {"query": self._query, "start": str(self._place.start), "limit": str(self._config.limit)}

    async def catch_up(self) -> None:
        """Read all that Loki has by now. Raises what HttpClient raises, and BadAnswer."""
        self._asked_at = self._clock.monotonic()
        end = max(self._now(), self._place.start + 1)  # to ask is to find out whether one can
        earliest = end - int(MAX_BEHIND_S * 1e9)
        if self._place.until < earliest:
            self._sink.dropped("gap_too_long")
            self._place.skip(earliest)
        start, limit = self._place.start, self._config.limit
        while start < end:
            try:
                page = await self._page(start, end, limit)
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(limit // 4, 1)
                continue
            await self.take(page)
            if page.count < limit or not page.entries:
                break
            last = page.entries[-1].moment
            if last == start:
                self._sink.dropped("crowded_moment")
                last += 1
            start = last
            self._place.reach(min(start, end))
        self._place.reach(end)
        await self._records.flush(end)
        if self._clock.monotonic() - self._saved_at >= SAVE_S:
            self._saved_at = self._clock.monotonic()
            await self._kept.save(self._place.packed(but=self._records.pending()))

    async def take(self, page: Entries) -> None:
        """Tell of the lines that were not there before. Those from before the place were, or come too late."""
        if page.unreadable:
            self._sink.dropped("no_time", page.unreadable)
        for entry in page.entries:
            if entry.moment >= self._place.start and not self._place.knows(entry.key):
                await self._records.take(entry)
                self._place.add(entry.key)

    async def attend(self) -> None:
        """What is to be done while a tail stands: it is sent with the best effort and no more, so all that it may have
        left out is asked for as often as without one."""
        if self._clock.monotonic() - self._asked_at >= self._config.interval or self._place.unchecked >= MAX_UNCHECKED:
            await self.catch_up()
        else:
            await self._records.flush(self._now())
        self._sink.up()

    async def end(self) -> None:
        """Remember the place, with what was not told of yet to be read again."""
        self._place.forget(self._records.pending())
        await self._kept.save(self._place.packed())

    async def _page(self, start: int, end: int, limit: int) -> Entries:
        params = {
            "query": self._query,
            "start": str(start),
            "end": str(end),
            "limit": str(limit),
            "direction": "forward",
        }
        http = self._http
        async with http.ask("GET", "application/json", follow=True, params=params) as answer:
            if answer.status != 200:
                said = await _said(answer)
                words = f"{http.shown} answered {answer.status} {answer.reason:.60}".rstrip()
                raise BadAnswer(f"{words}: {said}" if said else words, retry_after=answer.retry_after)
            body = bytearray()
            async for chunk in answer.chunks():
                body += chunk
                if len(body) > self._config.max_bytes:
                    raise TooLarge(
                        f"{http.shown} answered with more than {self._config.max_bytes} bytes for {limit} lines: "
                        f"raise `max_bytes`"
                    )
        try:
            return read_answer(body)
        except (Foreign, NotLines) as error:
            raise BadAnswer(f"{http.shown}: {error}") from None

    def _now(self) -> int:
        return int(self._clock.now() * 1e9)


class TooLarge(BadAnswer):
    """The answer is larger than what is read of one."""


async def _said(answer: Answer) -> str:
    """The server's own words about an error, on one line; nothing where it sent a page for people."""
    said = bytearray()
    async for chunk in answer.chunks():
        said += chunk
        if len(said) >= SAID_BYTES:
            break
    text = " ".join(
        "".join(one if one.isprintable() else " " for one in said[:SAID_BYTES].decode(errors="replace")).split()
    )
    if text.startswith("<"):
        return ""
    return text if len(text) <= SAID_CHARS else f"{text[:SAID_CHARS]}..."


class Loki:
    """Looks on a fixed rhythm, or listens to the tail, and emits one Log for each record that is new."""

    def __init__(self, config: LokiConfig, context: SourceContext) -> None:
        self._config, self._context, self._clock = config, context, context.clock
        self._place: Place | None = None  # outlasts a run that crashed

    async def run(self, sink: Sink) -> None:
        config = self._config
        schedule = Schedule(self._clock, config.interval)
        kept = Kept(self._context.state_dir, "place.json")
        try:
            place = await self._begin(kept)
            async with (
                config.endpoint(QUERY_PATH, config.timeout) as http,
                config.endpoint(TAIL_PATH, config.timeout) as tail,
            ):
                reading = Reading(config, self._context, place, kept, http, sink)
                try:
                    while True:
                        await schedule.tick()
                        await self._look(reading, http, tail, sink)
                finally:
                    await reading.end()
        finally:
            kept.close()

    async def _begin(self, kept: Kept) -> Place:
        """Where this source was when it ended, or else the present."""
        if self._place is None:
            now, delay = int(self._clock.now() * 1e9), int(self._config.delay * 1e9)
            data = await kept.load()
            self._place = (Place.unpacked(data, now, delay) if data is not None else None) or Place(now, delay)
        return self._place

    async def _look(self, reading: Reading, http: HttpClient, tail: HttpClient, sink: Sink) -> None:
        try:
            await reading.catch_up()
            if self._config.mode == "tail":
                await self._listen(reading, tail)
            else:
                sink.up()
        except (Unreachable, BadAnswer, ConfigError) as error:
            sink.down(tail.scrubbed(http.scrubbed(str(error))))
            if isinstance(error, BadAnswer) and error.retry_after is not None:
                await self._clock.sleep(min(error.retry_after, LONGEST_WAIT_S))

    async def _listen(self, reading: Reading, tail: HttpClient) -> None:
        """Take up the tail, and what it sends until it ends."""
        config = self._config
        async with websocket(tail, reading.begin(), config.timeout, config.max_bytes) as socket:
            await listen(socket, reading, self._clock, tail.shown)


def build(config: LokiConfig, context: SourceContext) -> Source:
    """Make the source; nothing is asked before it runs."""
    return Loki(config, context)


ADAPTER = Adapter(config=LokiConfig, build=build, shorthand="url")
