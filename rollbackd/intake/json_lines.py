"""Log lines as anybody can post them: one JSON object a line, or lines of text with their labels in the query."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated

import msgspec

from rollbackd.adapter import Adapter
from rollbackd.intake.base import Delivery, Intake, IntakeContext, Reading, Rejected, ServiceNames
from rollbackd.intake.pushed_lines import Batch, PushedLines, PushedLineSettings, Stream
from rollbackd.intake.reading import unix
from rollbackd.logs.levels import level_of

TEXT = "text/plain"
JSON_TYPES = frozenset({"application/x-ndjson", "application/jsonl", "application/json"})


class Entry(msgspec.Struct, frozen=True):
    """One line. `time` is Unix seconds or RFC 3339 with an offset, and now where it is left out; `labels` are what a
    collector knows of it beside the service and the version.
    """

    message: str
    service: str = ""
    version: str = ""
    level: str | int | None = None
    time: float | Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    labels: dict[str, str] = {}


class Config(PushedLineSettings):
    """How lines find their service, and how they are read."""


class JsonLines(Intake):
    """`POST /api/v1/lines`."""

    path = "/api/v1/lines"
    content_types = JSON_TYPES | {TEXT}
    bodies: Mapping[str, object] = {"application/json": Entry}
    bulk = True
    busy = 429

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._lines = PushedLines(config, services)
        self._decoder = msgspec.json.Decoder(Entry)

    def read(self, delivery: Delivery) -> Reading:
        """The lines. Dropped: `malformed` and what PushedLines drops. Raises Rejected where not one can be read."""
        plain = delivery.headers.get("content-type", "").partition(";")[0].strip().lower() == TEXT
        return self._lines.read(delivery, partial(_plain if plain else self._entries, delivery))

    def _entries(self, delivery: Delivery, batch: Batch) -> None:
        lines = [line for line in delivery.body.split(b"\n") if line.strip()]
        streams: dict[tuple[object, ...], Stream | None] = {}
        fault = "the body is empty: send one JSON object a line"
        taken = 0
        for number, line in enumerate(lines, 1):
            try:
                entry = self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                fault = f"line {number} is no entry: {error}"
                continue
            taken += 1
            _add(entry, batch, streams)
        if not taken:
            raise Rejected(f"not one line can be read; the last fault: {fault[:500]}")
        if taken < len(lines):
            batch.dropped["malformed"] += len(lines) - taken


def _add(entry: Entry, batch: Batch, streams: dict[tuple[object, ...], Stream | None]) -> None:
    key = (entry.service, entry.version, *sorted(entry.labels.items()))
    if key not in streams:
        labels = {**entry.labels, "service": entry.service} if entry.service else entry.labels
        streams[key] = batch.stream({**labels, "version": entry.version} if entry.version else labels)
    stream = streams[key]
    if stream is None:
        batch.refuse(1)
        return
    at = unix(entry.time) if isinstance(entry.time, datetime) else entry.time
    if entry.level is None:
        batch.line(stream, entry.message, at)
    else:
        batch.record(stream, level_of(entry.level), entry.message, at)


def _plain(delivery: Delivery, batch: Batch) -> None:
    if b"\0" in delivery.body:
        raise Rejected("the body is no text: it holds NUL bytes")
    lines = delivery.body.decode(errors="replace").splitlines()
    if not lines:
        raise Rejected("the body is empty: send lines of text")
    stream = batch.stream(delivery.query)
    if stream is None:
        batch.refuse(len(lines))
        return
    for line in lines:
        batch.line(stream, line)


def build(config: Config, context: IntakeContext) -> JsonLines:
    """The intake as configured."""
    return JsonLines(config, context.services)


ADAPTER = Adapter(Config, build)
