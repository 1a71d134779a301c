"""Puts the lines of many Loki streams together to records, and tells of them as log events."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from rollbackd.aiokit import Clock
from rollbackd.logs.formats import MAX_VERSION, Folder, Line, LineReader
from rollbackd.logs.levels import Level, level_of
from rollbackd.logs.loki import Entry
from rollbackd.model import Log
from rollbackd.sources.base import Sink

MAX_STREAMS = 256
"""Streams with an open record; more end the one that was silent for longest."""

MAX_KEYS = 1000
"""Lines of an open record that would be read again after a restart."""

QUIET_NS = 2_000_000_000
"""A record to which nothing was added for so long is over."""

MAX_BEHIND_S = 540.0
"""Events are told as at most so old: the engine takes what lies up to ten minutes behind."""

LEVEL_LABELS = ("level", "severity", "detected_level")
"""Where a line's level is looked for, before the line itself. Loki 3 finds `detected_level` by itself."""

VERSION_LABELS = ("version", "service_version", "app_kubernetes_io_version")
"""Where a line's release is looked for. OpenTelemetry's `service.version` becomes `service_version` in Loki."""


@dataclass
class _Stream:
    folder: Folder
    head: Entry | None = None
    last: int = 0
    keys: list[bytes] = field(default_factory=list)


class Records:
    """The open records of one run of the source. A record is emitted when a line begins another one, or by `flush`."""

    def __init__(
        self, service: str, clock: Clock, sink: Sink, reader: LineReader, max_line: int, version_label: str | None
    ) -> None:
        self._service, self._clock, self._sink = service, clock, sink
        self._reader, self._max_line = reader, max_line
        self._version_labels = (version_label,) if version_label is not None else VERSION_LABELS
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._told = 0.0

    def pending(self) -> Iterator[bytes]:
        """The keys of the lines that were taken and have not been told of yet."""
        for stream in self._streams.values():
            yield from stream.keys

    async def take(self, entry: Entry) -> None:
        """Add one line to its stream's record, or begin another with it."""
        text = entry.line.rstrip("\r\n")
        if not text.strip():
            return
        if len(text) > self._max_line:
            self._sink.dropped("line_too_long")
            text = text[: self._max_line]
        stream = await self._stream(entry.stream)
        if len(stream.keys) < MAX_KEYS:
            stream.keys.append(entry.key)
        stream.last = min(entry.moment, int(self._clock.now() * 1e9))
        over = stream.folder.take(text)
        if over is not None and stream.head is not None:
            await self._emit(over, stream.head)
            stream.keys = [entry.key]
            stream.head = entry
        elif stream.head is None:
            stream.head = entry

    async def flush(self, until: int) -> None:
        """Emit the records that have been quiet at this moment, in nanoseconds, for long enough."""
        for name in [name for name, stream in self._streams.items() if stream.last <= until - QUIET_NS]:
            await self._end(name)

    async def _stream(self, name: str) -> _Stream:
        stream = self._streams.get(name)
        if stream is None:
            while len(self._streams) >= MAX_STREAMS:
                await self._end(next(iter(self._streams)))
            stream = self._streams[name] = _Stream(Folder(self._reader, self._max_line))
        self._streams.move_to_end(name)
        return stream

    async def _end(self, name: str) -> None:
        stream = self._streams[name]
        over = stream.folder.flush()
        if over is not None and stream.head is not None:
            await self._emit(over, stream.head)
        del self._streams[name]

    async def _emit(self, line: Line, head: Entry) -> None:
        now = self._clock.now()
        self._told = max(self._told, min(max(head.moment / 1e9, now - MAX_BEHIND_S), now))
        await self._sink.emit(
            Log(
                t=self._told,
                service=self._service,
                version=self._version(head) or line.version,
                level=_level(head) or line.level,
                message=line.message,
            )
        )

    def _version(self, head: Entry) -> str | None:
        named = (head.label(name) for name in self._version_labels)
        return next((one.strip()[:MAX_VERSION] for one in named if one and _is_version(one)), None)


def _is_version(text: str) -> bool:
    return text.strip().lower() not in ("", "unknown")


def _level(head: Entry) -> Level | None:
    found = (level_of(head.label(name)) for name in LEVEL_LABELS)
    return next((level for level in found if level is not None), None)
