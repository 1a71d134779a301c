"""Source `log_file`: the lines that a service appends to a file."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import msgspec
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Duration, Size
from rollbackd.logs.formats import Line
from rollbackd.logs.settings import LineSettings
from rollbackd.logs.sieve import Sieve
from rollbackd.model import Log
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.follow import Follower, Piece, Place, Unreadable
from rollbackd.sources.kept import Kept
from rollbackd.sources.schedule import Schedule

MISSING_S = 2.0
"""A file that was read may be missing for so long, as it is for a moment when it is rotated."""

UNFINISHED_S = 2.0
"""A line without its end is taken as it is after so long without more of it."""

SILENT_S = 10.0
"""A file system that takes longer to answer makes the source down."""


KEPT_S = 600.0
"""A place that was kept for longer is of no use: what was logged since is no news about a release."""


class LogFileConfig(LineSettings):
    """A log file, followed from its end on."""

    path: Path
    """The file; it need not exist yet."""
    max_line: Annotated[Size, Field(ge=256)] = 64 * 1024
    """Longer lines are cut, and counted as `line_too_long`."""
    poll: Annotated[Duration, Field(ge=0.05, le=60)] = 0.5
    """How often the file is looked at."""


KEEP_EVERY_S = 5.0
"""How often the place is written at most."""


class Reached(msgspec.Struct, frozen=True):
    """The place reached in a file, and when, to the minute, since what does not change is not written again."""

    path: str
    place: Place
    at: float


class Following:
    """One run of the source: the file, and what was read of it but is not over yet."""

    def __init__(self, config: LogFileConfig, context: SourceContext, follower: Follower, sink: Sink) -> None:
        self._service, self._clock, self._sink = context.service, context.clock, sink
        self._follower, self._path = follower, config.path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-file")  # a file system that hangs takes no other's
        self._sieve = Sieve(config.reader(), config.max_line)
        self.reached: Reached | None = None
        """The place before which all has been emitted."""
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
                await self._emit(self._sieve.flush())
            await self._emit(self._sieve.feed(piece.data))
            self._grew_at, grew = self._clock.monotonic(), True
        if not grew:
            waited = self._clock.monotonic() - self._grew_at >= UNFINISHED_S
            await self._emit(self._sieve.flush(unfinished=waited))
        if (place := self._follower.place(self._sieve.unfinished)) is not None:
            self.reached = Reached(str(self._path), place, self._clock.now() // 60 * 60)

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

    async def _emit(self, lines: list[Line]) -> None:
        if self._sieve.cut:
            self._sink.dropped("line_too_long", self._sieve.cut)
            self._sieve.cut = 0
        now = self._clock.now()
        for line in lines:
            await self._sink.emit(
                Log(
                    t=now,
                    service=self._service,
                    version=line.version,
                    level=line.level,
                    message=line.message,
                    count=line.count,
                )
            )


class LogFile:
    """Looks at the file on a fixed rhythm, emits the errors that were appended, and counts the other lines."""

    def __init__(self, config: LogFileConfig, context: SourceContext) -> None:
        self._config, self._context = config, context
        self._follower: Follower | None = None  # the place in the file outlasts a run that crashed

    async def run(self, sink: Sink) -> None:
        kept = Kept(self._context.state_dir, "place.json")
        if self._follower is None:
            self._follower = Follower(self._config.path, self._usable(await kept.load()))
        following = Following(self._config, self._context, self._follower, sink)
        schedule = Schedule(self._context.clock, self._config.poll)
        saved, saved_at = None, self._context.clock.monotonic()
        try:
            while True:
                await schedule.tick()
                await following.catch_up()
                due = self._context.clock.monotonic() - saved_at >= KEEP_EVERY_S
                if due and following.reached != saved:
                    saved, saved_at = following.reached, self._context.clock.monotonic()
                    await kept.save(msgspec.json.encode(saved))
        finally:
            if following.reached is not None and following.reached != saved:
                await kept.save(msgspec.json.encode(following.reached))
            kept.close()
            await following.close()

    def _usable(self, kept: bytes | None) -> Place | None:
        """The place, if it is of this file and not too old."""
        try:
            reached = msgspec.json.decode(kept, type=Reached) if kept else None
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
        if reached is None or reached.path != str(self._config.path):
            return None
        return reached.place if self._context.clock.now() - reached.at <= KEPT_S else None


def build(config: LogFileConfig, context: SourceContext) -> Source:
    """Make the source; the file is not touched before it runs."""
    return LogFile(config, context)


ADAPTER = Adapter(config=LogFileConfig, build=build, shorthand="path")
