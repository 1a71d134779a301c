"""Where one syslog message ends and the next begins in a TCP stream (RFC 6587). No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_COUNT = re.compile(rb"[\r\n\0]*([1-9]\d{0,8}) ")
_COUNT_BEGUN = re.compile(rb"[\r\n\0]*(?:[1-9]\d{0,8})?")
_BETWEEN = b"\r\n\0"


class Unframed(ValueError):
    """The stream cannot be cut into messages any more: what follows could be anything."""


class Frame(NamedTuple):
    """One message. `cut` says that it was longer than the bound, and only its beginning is kept."""

    data: bytes
    cut: bool = False


class Frames:
    """Cuts one connection's bytes into messages of at most `max_bytes`, and holds no more than one unfinished message.

    The first byte tells how the sender marks the ends, and holds for the connection: a digit begins a message's length
    ("octet counting"); anything else means that each message ends with a line break ("non-transparent framing").
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = b""
        self._counted: bool | None = None
        self._length: int | None = None
        self._skip = 0
        """Bytes of a message that was cut which are still to come; in a stream of lines, 1 until its line break."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The messages that are complete now. Raises Unframed where a length was due and something else came."""
        if self._counted is None:
            data = data.lstrip(_BETWEEN)
            if not data:
                return iter(())
            self._counted = data[:1].isdigit()
        return self._by_count(self._rest + data) if self._counted else self._by_line(data)

    def flush(self) -> Iterator[Frame]:
        """The message that was begun when the connection ended. One of a known length is whole or nothing."""
        rest, self._rest = self._rest, b""
        if rest and not self._counted:
            yield Frame(rest)

    def _by_line(self, data: bytes) -> Iterator[Frame]:
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole, self._rest = self._rest + line, b""
            if not self._skip and whole:
                yield Frame(whole[: self._max_bytes], len(whole) > self._max_bytes)
            self._skip = 0
        if not self._skip:
            self._rest += rest
            if len(self._rest) > self._max_bytes:
                begun, self._rest, self._skip = self._rest[: self._max_bytes], b"", 1
                yield Frame(begun, cut=True)

    def _by_count(self, data: bytes) -> Iterator[Frame]:
        at = 0
        self._rest = b""
        while at < len(data):
            skipped = min(self._skip, len(data) - at)
            self._skip -= skipped
            at += skipped
            if self._length is None:
                found = _COUNT.match(data, at)
                if found is None:
                    if not _COUNT_BEGUN.fullmatch(data, at):
                        raise Unframed
                    break
                self._length, at = int(found[1]), found.end()
            kept = min(self._length, self._max_bytes)
            if len(data) - at < kept:
                break
            yield Frame(data[at : at + kept], cut=self._length > kept)
            self._skip, self._length = self._length - kept, None
            at += kept
        self._rest = data[at:]
