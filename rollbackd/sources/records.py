"""Log lines of several streams that come mixed: put together into records, told in order, and where to read on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rollbackd.logs.formats import Folder, Line, LineReader
from rollbackd.model import MAX_BACKWARDS_S, Log
from rollbackd.sources.base import Sink, SourceContext

MOST_OPEN = 200
"""Streams with a record that is not over, at one time; beyond that the record that was begun first is taken as over."""

STALE_S = 0.9 * MAX_BACKWARDS_S
"""Lines older than this, in seconds, are no evidence any more, and events may not lie further back than others."""

PlaceT = TypeVar("PlaceT")


@dataclass(frozen=True)
class Record:
    """What a service said at one time, in Unix seconds: a line, or a stack trace with its line."""

    line: Line
    at: float


@dataclass
class _Open(Generic[PlaceT]):
    folder: Folder
    at: float
    before: PlaceT
    rests: bool = False


class Folding(Generic[PlaceT]):
    """Folds each stream's lines for itself, where lines of many come through one far side.

    `place` is always one that everything after it is to be read again from, if it is not told by then. So no line is
    lost that waits for the rest of its stack trace.
    """

    def __init__(self, reader: LineReader, max_chars: int, place: PlaceT) -> None:
        self._reader, self._max_chars = reader, max_chars
        self._reached = place
        self._open: OrderedDict[Hashable, _Open[PlaceT]] = OrderedDict()  # in the order in which records began

    @property
    def place(self) -> PlaceT:
        """The newest place that nothing open lies before."""
        return next(iter(self._open.values())).before if self._open else self._reached

    def take(self, stream: Hashable, text: str, at: float, place: PlaceT) -> list[Record]:
        """Read one line, which ends at `place`; the records that are over by it."""
        over: list[Record] = []
        found = self._open.get(stream)
        if found is None:
            if text.strip():
                over = self._room()
                found = self._open[stream] = _Open(Folder(self._reader, self._max_chars), at, self._reached)
                found.folder.take(text)
        elif (line := found.folder.take(text)) is not None:
            over = [Record(line, found.at)]
            found.at, found.before = at, self._reached
            self._open.move_to_end(stream)
        if found is not None:
            found.rests = False
        self._reached = place
        return over

    def put(self, stream: Hashable, line: Line, at: float, place: PlaceT) -> list[Record]:
        """Take a line that is a record by itself; with it, the one that its stream had open."""
        over = self._end(stream)
        self._reached = place
        return [*over, Record(line, at)]

    def pass_by(self, place: PlaceT) -> None:
        """What ends at `place` holds no line."""
        self._reached = place

    def settle(self) -> list[Record]:
        """The records to which nothing was added since this was last asked."""
        over = [record for stream, found in list(self._open.items()) if found.rests for record in self._end(stream)]
        for found in self._open.values():
            found.rests = True
        return over

    def flush(self) -> list[Record]:
        """All records that were open."""
        return [record for stream in list(self._open) for record in self._end(stream)]

    def _room(self) -> list[Record]:
        return self._end(next(iter(self._open))) if len(self._open) >= MOST_OPEN else []

    def _end(self, stream: Hashable) -> list[Record]:
        found = self._open.pop(stream, None)
        line = found.folder.flush() if found is not None else None
        return [Record(line, found.at)] if found is not None and line is not None else []


class Teller:
    """Makes events of records, never going back in time: one a source, whatever it reads side by side."""

    def __init__(self, context: SourceContext, sink: Sink) -> None:
        self._service, self._clock, self._sink = context.service, context.clock, sink
        self._last = 0.0

    async def tell(self, record: Record, version: str | None = None) -> None:
        """Hand over one record; `version` is its release where the line names none.

        Its time is the far side's, but neither in the future nor before the one told last. What is too old to be
        evidence is counted.
        """
        now = self._clock.now()
        if now - record.at > STALE_S:
            self._sink.dropped("too_old")
            return
        self._last = max(self._last, min(record.at, now))
        line = record.line
        await self._sink.emit(
            Log(
                t=self._last,
                service=self._service,
                version=line.version or version,
                level=line.level,
                message=line.message,
            )
        )
