"""The fast road for lines that come as a stream of bytes: what is below an error is counted, mostly without being read.

No rule wants the words of such lines, only their number, so they make no events of their own: one record counts the
warnings of a whole block, one what is below. Each error is read, with the stack trace that belongs to it, as `formats`
would read it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rollbackd.logs.formats import Folder, Line, LineReader
from rollbackd.logs.harmless import Searcher
from rollbackd.logs.levels import SERIOUS
from rollbackd.logs.traces import continues


class Sieve:
    """Makes records of a stream of bytes: one of each error, and two that count warnings and all others.

    A record is certain to be over only when the next line is there, or when `flush` is called. Lines of more than
    `max_bytes` are cut; `cut` counts those of them that were read.
    """

    def __init__(self, reader: LineReader, max_bytes: int) -> None:
        self.cut = 0
        self._folder = Folder(reader, max_bytes)
        self._reader, self._max_bytes = reader, max_bytes
        self._searcher = Searcher(reader.form)
        self._rest = b""
        self._skipping = False
        self._since_open = 0
        self._warnings = 0

    @property
    def unfinished(self) -> int:
        """How many of the bytes that were fed belong to what is not over: to be fed again by who begins anew."""
        return (self._since_open if self._folder.open is not None else 0) + len(self._rest)

    def feed(self, data: bytes) -> list[Line]:
        """The records that are over now."""
        end = data.rfind(b"\n") + 1
        if not end:
            return self._unfinished(data)
        begin = 0
        if self._skipping:
            begin, self._skipping = data.index(b"\n") + 1, False
        block = b"".join((b"\n", self._rest, memoryview(data)[begin:end]))
        self._rest = b""
        return self._sift(block) + self._unfinished(data[end:])

    def _unfinished(self, data: bytes) -> list[Line]:
        if self._skipping:
            return []
        self._rest += data
        if len(self._rest) <= self._max_bytes:
            return []
        line, self._rest, self._skipping = self._rest, b"", True
        return self._sift(b"\n" + line + b"\n")

    def flush(self, *, unfinished: bool = True) -> list[Line]:
        """What is still open, as it is; with `unfinished`, also the line of which the end has not come yet."""
        told = list[Line]()
        if unfinished:
            rest, self._rest, self._skipping = self._rest, b"", False
            told = self._sift(b"\n" + rest + b"\n") if rest else []
        if (line := self._folder.flush()) is not None:
            told.append(line)
        return told

    # -- a block of whole lines, with a newline in front: places are those of the newline before a line

    def _sift(self, block: bytes) -> list[Line]:
        told = list[Line]()
        at = kept = 0
        last, lines = len(block) - 1, block.count(b"\n") - 1
        self._since_open += last
        for place in self._suspects(block, lines):
            if place < at:
                continue
            at, added = self._complete(block, at, place, told)
            kept += added
            if at <= place < last:
                at, opened = self._read(block, place, told)
                kept += opened
        if self._warnings:
            told.append(Line("warning", "", count=self._warnings))
        if b"\n\n" in block:
            lines -= sum(not line for line in block[1:-1].split(b"\n"))
        if passed := lines - kept - self._warnings:
            told.append(Line("info", "", count=passed))
        self._warnings = 0
        return told

    def _complete(self, block: bytes, at: int, until: int, told: list[Line]) -> tuple[int, int]:
        """Add the lines to the open record that belong to it: the place of the first one that does not, and how many
        they are."""
        added = 0
        while self._folder.open is not None and at < until:
            text, after = self._line(block, at)
            if not text.strip():
                at = after
            elif self._folder.add(text):
                at, added = after, added + 1
            elif (over := self._folder.flush()) is not None:
                told.append(over)
        return at, added

    def _read(self, block: bytes, place: int, told: list[Line]) -> tuple[int, int]:
        """Read the line there: the place of the next one, and whether this one is kept (1) or only counts (0)."""
        folder = self._folder
        if folder.open is None and self._warns(block, place):
            self._warnings += 1
            return block.index(b"\n", place + 1), 0
        text, after = self._line(block, place)
        if folder.open is not None:
            if folder.add(text):
                return after, 1
            if (over := folder.flush()) is not None:
                told.append(over)
        elif continues(text):
            return after, 0  # of a record that nobody wants
        line = self._reader.read(text)
        if line.level in SERIOUS:
            folder.begin(text, line)
            self._since_open = len(block) - 1 - place
            return after, 1
        self._warnings += line.level == "warning"
        return after, 0

    def _warns(self, block: bytes, place: int) -> bool:
        begin = place + 1
        return self._reader.rules is None and self._searcher.warns(block, begin, begin + self._max_bytes)

    def _line(self, block: bytes, place: int) -> tuple[str, int]:
        after = block.index(b"\n", place + 1)
        line = block[place + 1 : after]
        if len(line) > self._max_bytes:
            self.cut += 1
            line = line[: self._max_bytes]
        return line.decode(errors="replace").rstrip("\r"), after

    def _suspects(self, block: bytes, lines: int) -> Iterator[int]:
        """The places of the lines that have to be read, in order, and at last that of the block's end."""
        found = self._searcher.suspects(block, lines)
        if self._reader.rules is not None:
            named = {block.rfind(b"\n", 0, at + 1) for at in self._reader.rules.places(block)}
            found = sorted(named.union(found))
        yield from found
        yield len(block) - 1
