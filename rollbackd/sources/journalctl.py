"""The program journalctl as a child process: asked once, or followed. It is ended and waited for whatever happens.

Its options: https://www.freedesktop.org/software/systemd/man/252/journalctl.html
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from rollbackd.errors import Temporary

CHUNK_BYTES = 64 * 1024
MAX_ENTRY = 1024 * 1024
"""Bytes of one entry in JSON, which may need six for one byte of a message; a longer one is left out and counted."""

ANSWER_WITHIN_S = 15.0
"""How long a question may take, in seconds; a follower may be silent for as long as nothing is logged."""

_GRACE_S = 2.0
_WORDS_BYTES = 2048

_CURE = "add the user that rollbackd runs as to the group systemd-journal"
_HINT = "not seeing messages from other users"
_NO_ENTRIES = b"-- No entries --"
_CURSOR = re.compile(rb"^-- cursor: (\S+)\s*\Z", re.MULTILINE)

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources")


class Unreadable(Temporary):
    """The journal cannot be read now."""


class NoJournal(Unreadable):
    """There is no file of a journal, or none yet."""


class NoSuchPlace(Unreadable):
    """The cursor is none that this journalctl knows."""


class Entries:
    """Cuts what journalctl prints into entries of bounded length."""

    def __init__(self) -> None:
        self.left_out = 0
        """How many entries were too long."""
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The entries that are complete now."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
            self._rest = b""
            if self._skipping or len(lines[0]) > MAX_ENTRY:
                self.left_out += 1
                self._skipping = False
                del lines[0]
        if not self._skipping:
            self._rest += rest
        if len(self._rest) > MAX_ENTRY:
            self._rest, self._skipping = b"", True
        return lines


class Run:
    """One run of journalctl."""

    def __init__(self, process: asyncio.subprocess.Process, output: asyncio.StreamReader, words: asyncio.Task[bytes]):
        self._process, self._output, self._words = process, output, words

    async def read(self) -> bytes:
        """What it printed next; empty at its end. What is not asked for keeps it waiting."""
        return await self._output.read(CHUNK_BYTES)

    def kill(self) -> None:
        """End it; what it has printed can still be read."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def fault(self, *, hint: bool = False, empty: bool = False) -> Unreadable | None:
        """Once it has ended: what was wrong, if anything was.

        `hint` says whether its hint that it shows not everything is a fault, `empty` that it found no entry, which is
        none.
        """
        code = await self._process.wait()
        said = _presentable(await self._words)
        if "insufficient permissions" in said or "Permission denied" in said or (hint and _HINT in said):
            return Unreadable(f"the journal may not be read: {_CURE}")
        if "No journal files were found" in said:
            return NoJournal("there is no journal: its folder holds no file of one, or does not let it be seen")
        if "seek to cursor" in said:
            return NoSuchPlace("the place kept in the journal is none")
        if code == 0 or (empty and code > 0 and not said):
            return None
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return Unreadable(f"journalctl {how}{': ' if said else ''}{said}")


@asynccontextmanager
async def started(program: str, arguments: Sequence[str]) -> AsyncIterator[Run]:
    """Start it; leaving the block ends it. Raises Unreadable where it cannot be started."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=CHUNK_BYTES,
        )
    except FileNotFoundError:
        raise Unreadable(f"there is no program {program}: install systemd, or name it with `program`") from None
    except OSError as error:
        raise Unreadable(f"cannot start {program}: {error.strerror}") from None
    output, errors = process.stdout, process.stderr
    if output is None or errors is None:
        raise RuntimeError("both were asked for as pipes")
    words = asyncio.create_task(_tail(errors))
    try:
        yield Run(process, output, words)
    finally:
        await _end(process, output, words)


async def cursor(program: str, options: Sequence[str], *, own_alone: bool) -> str | None:
    """The cursor of the one entry that these options show; None where they show none. Raises Unreadable.

    Asked in a form for people: only then journalctl says what it may not show. `own_alone` says that it need not show
    more than the entries of the user who asks.
    """
    output = b""
    form = ("--output=short", "--show-cursor", "--no-pager", "--lines=1")
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S), started(program, [*form, *options]) as run:
            while data := await run.read():
                output = (output + data)[-_WORDS_BYTES:]
            fault = await run.fault(hint=not own_alone, empty=_NO_ENTRIES in output)
    except TimeoutError:
        raise Unreadable(f"journalctl did not answer within {ANSWER_WITHIN_S:g} s and was ended") from None
    if fault is not None:
        raise fault
    found = _CURSOR.search(output)  # what it shows of the entry comes before
    return found[1].decode(errors="replace") if found is not None else None


async def _tail(errors: asyncio.StreamReader) -> bytes:
    tail = b""
    while data := await errors.read(CHUNK_BYTES):
        tail = (tail + data)[-_WORDS_BYTES:]
    return tail


async def _end(process: asyncio.subprocess.Process, output: asyncio.StreamReader, words: asyncio.Task[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.kill()  # it only reads: there is nothing that it would have to finish
    try:
        async with asyncio.timeout(_GRACE_S):
            while await output.read(CHUNK_BYTES):
                pass  # the pipe is closed once it was read to its end
            await words
            await process.wait()
    except TimeoutError:
        log.error("command_does_not_end", pid=process.pid)
    finally:
        words.cancel()


def _presentable(raw: bytes) -> str:
    """The last three lines, on one line, without control characters."""
    text = raw.decode(errors="replace")
    lines = ["".join(sign if sign.isprintable() else " " for sign in line).strip() for line in text.splitlines()]
    return " | ".join([line for line in lines if line][-3:])[-300:]
