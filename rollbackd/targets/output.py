"""What a command prints: its pipes, how much of it is kept, and what of it may stand in a message."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from io import FileIO

OUTPUT_LIMIT = 1024 * 1024
"""How much of a command's standard output is usually kept, in bytes; what is beyond is read and thrown away."""

_TAIL_BYTES = 16 * 1024
"""How much of the end of all that a command printed is looked at for a message."""
_TAIL_LINES = 5
_TAIL_CHARACTERS = 500
_NOT_TOLD = f"it printed more than {_TAIL_BYTES // 1024} KiB, which may hold secrets and is not told"
_LEFT_OPEN = 0.2
"""How long to read on, in seconds, after the command has ended but a child of it still holds its output open."""


def presentable(raw: bytes, secrets: list[str], fit: Callable[[str], str] | None = None) -> str:
    """The last few lines on one line, without secrets and control characters.

    `fit` makes all of it fit for a message. It sees the lines together, as one may say what the next ones are; for the
    same reason nothing is told, then, where the beginning is gone.
    """
    if fit is not None and len(raw) >= _TAIL_BYTES:
        return _NOT_TOLD
    text = raw.decode("utf-8", errors="replace")
    hidden = {part for secret in secrets for part in (secret, *secret.splitlines()) if part.strip()}
    for part in sorted(hidden, key=len, reverse=True):
        text = text.replace(part, "***")
    whole = text if fit is None else fit(text)
    lines = ["".join(sign if sign.isprintable() else " " for sign in line).strip() for line in whole.splitlines()]
    return " | ".join([line for line in lines if line][-_TAIL_LINES:])[-_TAIL_CHARACTERS:]


class Output:
    """What the command printed: the beginning of its standard output, the end of everything."""

    def __init__(self, limit: int = OUTPUT_LIMIT) -> None:
        """`limit` is how many bytes of the standard output are kept."""
        self._limit = limit
        self.kept = bytearray()
        self.tail = bytearray()
        self.overflowed = False

    def add(self, data: bytes, *, keep: bool) -> None:
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        if keep:
            room = self._limit - len(self.kept)
            self.kept += data[:room]
            self.overflowed = self.overflowed or len(data) > room


class Pipe(asyncio.Protocol):
    """One output of the command.

    A pipe of our own, because asyncio's own may keep `wait()` from returning while a grandchild holds it open.
    """

    def __init__(self, collected: Output, *, keep: bool) -> None:
        self._collected = collected
        self._keep = keep
        self._file: FileIO | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._lost = asyncio.Event()
        self.writer = -1

    async def open(self) -> None:
        reader, self.writer = os.pipe2(os.O_CLOEXEC)
        self._file = FileIO(reader, "rb")
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, self._file)

    def data_received(self, data: bytes) -> None:
        self._collected.add(data, keep=self._keep)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the protocol's own signature
        self._lost.set()

    async def drained(self) -> None:
        """Wait until everything is read, but not for a child that outlives the command."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEFT_OPEN):
                await self._lost.wait()

    def close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        self.close_writer()
        if self._transport is not None:
            self._transport.close()
        elif self._file is not None:
            self._file.close()
