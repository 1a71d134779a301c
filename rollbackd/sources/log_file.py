"""Source `log_file`: the lines that a service appends to a file."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Duration, Model, Size
from rollbackd.logs.formats import Folder, Format, Line, LineReader
from rollbackd.model import Log
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.follow import Follower, Piece, Unreadable
from rollbackd.sources.schedule import Schedule

MISSING_S = 2.0
"""A file that was read may be missing for so long, as it is for a moment when it is rotated."""

UNFINISHED_S = 2.0
"""A line without its end is taken as it is after so long without more of it."""

SILENT_S = 10.0
"""A file system that takes longer to answer makes the source down."""


class LogFileConfig(Model):
    """A log file, followed from its end on."""

    path: Path
    """The file; it need not exist yet."""
    format: Format = "auto"
    """What its lines are; `auto` tells each line for itself."""
    version_field: str | None = None
    """The field of JSON or logfmt lines that names the release, with dots for fields within fields."""
    max_line: Annotated[Size, Field(ge=256)] = 64 * 1024
    """Longer lines are cut, and counted as `line_too_long`."""
    poll: Annotated[Duration, Field(ge=0.05, le=60)] = 0.5
    """How often the file is looked at."""


class Lines:
    """Cuts a stream of bytes into lines of bounded length."""

    def __init__(self, max_bytes: int) -> None:
        self.cut = 0
        """How many lines were too long."""
        self._max_bytes = max_bytes
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
            self._rest = b""
            if self._skipping:
                del lines[0]
            self._skipping = False
        if not self._skipping:
            self._rest += rest
        if len(self._rest) > self._max_bytes:
            lines.append(self._rest)
            self._rest, self._skipping = b"", True
        return [self._text(line) for line in lines]

    def flush(self) -> list[str]:
        """The line that was begun, as it is."""
        rest, self._rest, self._skipping = self._rest, b"", False
        return [self._text(rest)] if rest else []

    def _text(self, line: bytes) -> str:
        if len(line) > self._max_bytes:
            self.cut += 1
            line = line[: self._max_bytes]
        return line.decode(errors="replace").rstrip("\r")


class Following:
    """One run of the source: the file, and what was read of it but is not over yet."""

    def __init__(self, config: LogFileConfig, context: SourceContext, follower: Follower, sink: Sink) -> None:
        self._service, self._clock, self._sink = context.service, context.clock, sink
        self._follower, self._path = follower, config.path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-file")  # a file system that hangs takes no other's
        self._lines = Lines(config.max_line)
        self._folder = Folder(LineReader(config.format, config.version_field), config.max_line)
        self._grew_at = 0.0
        self._unreadable_since: float | None = None
        self._was_readable = False

    async def close(self) -> None:
        """Let go of the file, after the read that may be under way: the thread does one thing at a time."""
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._follower.close)
        self._thread.shutdown(wait=False)
        await asyncio.wait({closing}, timeout=SILENT_S)

    async def catch_up(self) -> None:
        """Read all there is; where there is nothing, see whether what is open has waited long enough."""
        grew = False
        while (piece := await self._look()) is not None and (piece.data or piece.fresh):
            if piece.fresh:
                await self._take(self._lines.flush())
                await self._emit(self._folder.flush())
            await self._take(self._lines.feed(piece.data))
            self._grew_at, grew = self._clock.monotonic(), True
        if not grew:
            if self._clock.monotonic() - self._grew_at >= UNFINISHED_S:
                await self._take(self._lines.flush())
            await self._emit(self._folder.flush())

    async def _look(self) -> Piece | None:
        try:
            piece = await self._read()
        except Unreadable as error:
            now = self._clock.monotonic()
            if self._unreadable_since is None:
                self._unreadable_since = now
            if not self._was_readable or now - self._unreadable_since >= MISSING_S:
                self._sink.down(str(error))
            return None
        self._unreadable_since, self._was_readable = None, True
        self._sink.up()
        return piece

    async def _read(self) -> Piece:
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._follower.read)
        try:
            if not (await asyncio.wait({reading}, timeout=SILENT_S))[0]:
                self._sink.down(f"cannot read {self._path}: its file system does not answer")
            return await reading
        finally:
            reading.cancel()

    async def _take(self, lines: list[str]) -> None:
        if self._lines.cut:
            self._sink.dropped("line_too_long", self._lines.cut)
            self._lines.cut = 0
        for line in lines:
            await self._emit(self._folder.take(line))

    async def _emit(self, line: Line | None) -> None:
        if line is not None:
            await self._sink.emit(
                Log(
                    t=self._clock.now(),
                    service=self._service,
                    version=line.version,
                    level=line.level,
                    message=line.message,
                )
            )


class LogFile:
    """Looks at the file on a fixed rhythm and emits one Log for each record that was appended."""

    def __init__(self, config: LogFileConfig, context: SourceContext) -> None:
        self._config, self._context = config, context
        self._follower = Follower(config.path)  # the place in the file outlasts a run that crashed

    async def run(self, sink: Sink) -> None:
        following = Following(self._config, self._context, self._follower, sink)
        schedule = Schedule(self._context.clock, self._config.poll)
        try:
            while True:
                await schedule.tick()
                await following.catch_up()
        finally:
            await following.close()


def build(config: LogFileConfig, context: SourceContext) -> Source:
    """Make the source; the file is not touched before it runs."""
    return LogFile(config, context)


ADAPTER = Adapter(config=LogFileConfig, build=build, shorthand="path")
