"""One container's output while it is followed: from the engine's stream to records, and where to read on."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from rollbackd.docker.containers import Container
from rollbackd.docker.output import Frames, Piece, Stream, Terminal
from rollbackd.logs.formats import LineReader
from rollbackd.sources.base import Sink
from rollbackd.sources.records import Folding, Record, Teller

ALL = 1_000_000_000
"""As a count in a place: every piece with that stamp."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The last piece that was read: its stamp in Unix nanoseconds, and how many pieces with that very stamp there were.

    All pieces of a long line carry one stamp, so the stamp alone would not do. 0 stands before everything.
    """

    stamp: int = 0
    count: int = 0

    @property
    def since(self) -> dict[str, str]:
        """The parameter that asks the engine for this piece and everything after it."""
        return {"since": f"{self.stamp // 10**9}.{self.stamp % 10**9:09d}"} if self.stamp else {}

    def after(self, stamp: int) -> Place:
        """The place once another piece was read."""
        return Place(stamp, self.count + 1 if stamp == self.stamp else 1)


def parts_of(container: Container) -> Frames | Terminal:
    """What takes the container's output apart."""
    return Terminal() if container.settings.tty else Frames()


@dataclass
class _Begun:
    """A line of which only the beginning has come."""

    stamp: int
    text: bytearray = field(default_factory=bytearray)
    cut: bool = False


class ContainerOutput:
    """Reads what one container says. `place` is safe to read on from at any time: nothing untold lies before it."""

    def __init__(
        self,
        container: Container,
        version: str | None,
        place: Place,
        reader: LineReader,
        max_line: int,
        sink: Sink,
        teller: Teller,
    ) -> None:
        self.container, self.version, self.place = container, version, place
        self._reader, self._max_line, self._sink, self._teller = reader, max_line, sink, teller
        self.begin()

    def begin(self) -> None:
        """A new connection: what was not over comes again from `place` on."""
        self._parts = parts_of(self.container)
        self._folding = Folding(self._reader, self._max_line, self.place)
        self._begun: dict[Stream, _Begun] = {}
        self._reached = self.place
        self._known = self.place.count
        self._resuming = self.place.stamp > 0

    async def take(self, data: bytes) -> None:
        """Read what came, telling what is over by it. Raises NotFramed."""
        for piece in self._parts.feed(data):
            if piece.stamp is None:
                self._sink.dropped("no_timestamp")
            elif self._is_new(piece.stamp):
                await self._tell(self._line(piece, piece.stamp))

    async def settle(self) -> None:
        """Tell what nothing was added to lately."""
        await self._tell(self._folding.settle())

    async def finish(self) -> None:
        """The container has stopped: what it began is over."""
        for stream, begun in list(self._begun.items()):
            await self._tell(self._line(Piece(stream, begun.stamp, b"", ends=True), begun.stamp))
        await self._tell(self._folding.flush())

    def _is_new(self, stamp: int) -> bool:
        """Whether a piece was not read over an earlier connection; the first one that was not ends the doubt.

        A log driver may know no nanoseconds and begin earlier than asked.
        """
        if not self._resuming:
            return True
        if stamp == self.place.stamp and self._known > 0:
            self._known -= 1
            return False
        self._resuming = stamp < self.place.stamp
        return not self._resuming

    def _line(self, piece: Piece, stamp: int) -> list[Record]:
        """The records that are over by this piece."""
        self._reached = self._reached.after(stamp)
        begun = self._begun.setdefault(piece.stream, _Begun(stamp))
        begun.cut = begun.cut or len(begun.text) + len(piece.text) > self._max_line
        begun.text += piece.text[: self._max_line - len(begun.text)]
        if not piece.ends:
            return []
        del self._begun[piece.stream]
        if begun.cut:
            self._sink.dropped("line_too_long")
        text = begun.text.decode(errors="replace")
        return self._folding.take(piece.stream, text, begun.stamp / 1e9, self._reached)

    async def _tell(self, records: list[Record]) -> None:
        for record in records:
            await self._teller.tell(record, self.version)
        if not self._resuming and not self._begun:
            self.place = self._folding.place
