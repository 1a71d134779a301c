"""A container's output as `GET /containers/ID/logs` streams it: frames, time stamps, and long lines in pieces.

The format: https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

Stream: TypeAlias = Literal["stdout", "stderr"]

ENGINE_PIECE = 16 * 1024
"""The engine cuts longer lines into pieces of so many bytes."""

MAX_PIECE = 256 * 1024
"""Bytes of one piece that are read; what is beyond is skipped."""

_HEADER = 8
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_LONGEST_STAMP = 35


class NotFramed(ValueError):
    """The bytes are no stream of frames."""


@dataclass(frozen=True)
class Piece:
    """A line, or a part of one unless it `ends`. `stamp` is the engine's, in Unix nanoseconds; None without one."""

    stream: Stream
    stamp: int | None
    text: bytes
    ends: bool = True


class Frames:
    """Takes apart the output of a container without a terminal: each piece in a frame that says its stream and size."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that are complete now. Raises NotFramed."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._rest += data[skipped:]
        pieces, at = [], 0
        while len(self._rest) - at >= _HEADER:
            if self._rest[at] > 2 or self._rest[at + 1 : at + 4] != b"\0\0\0":
                raise NotFramed("the output is not in frames")
            size = int.from_bytes(self._rest[at + 4 : at + 8])
            end = at + _HEADER + min(size, MAX_PIECE)
            if end > len(self._rest):
                break
            pieces.append(piece("stderr" if self._rest[at] == 2 else "stdout", bytes(self._rest[at + _HEADER : end])))
            over = at + _HEADER + size - len(self._rest)
            self._skip, at = max(over, 0), min(at + _HEADER + size, len(self._rest))
        del self._rest[:at]
        return pieces


class Terminal:
    """Takes apart the output of a container with a terminal: lines as they are, and one stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Piece]:
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
        if len(self._rest) > MAX_PIECE:
            lines.append(self._rest)
            self._rest, self._skipping = b"", True
        return [piece("stdout", line + b"\n") for line in lines]


def piece(stream: Stream, raw: bytes) -> Piece:
    """One piece, its stamp taken off; in a line from a terminal, each further piece within carries the same stamp."""
    stamp, space, text = raw.partition(b" ")
    moment = nanoseconds(stamp.decode(errors="replace")) if space and len(stamp) <= _LONGEST_STAMP else None
    if moment is None:
        text = raw
    ends = text.endswith(b"\n")
    if moment is not None and len(text) > ENGINE_PIECE:
        text = text.replace(stamp + b" ", b"")
    return Piece(stream, moment, text.rstrip(b"\r\n"), ends)


def nanoseconds(text: str) -> int | None:
    """A moment as engines write it (RFC 3339, down to nanoseconds), in Unix nanoseconds; None where it is none."""
    found = _STAMP.fullmatch(text)
    if found is None:
        return None
    try:
        seconds = datetime.fromisoformat(found[1] + ("+00:00" if found[3] == "Z" else found[3])).timestamp()
    except ValueError:
        return None
    return int(seconds) * 10**9 + int((found[2] or "0").ljust(9, "0"))
