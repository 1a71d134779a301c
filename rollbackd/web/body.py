"""Reads request bodies within limits: on the wire, after decompression, in time, and in number at once."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from aiohttp import web

from rollbackd.errors import Temporary
from rollbackd.intake.base import Decoder
from rollbackd.intake.reading import decode
from rollbackd.web.errors import HttpError

T = TypeVar("T")

JSON = frozenset({"application/json"})


@dataclass(frozen=True)
class Limits:
    """How much a client may ask of us; sizes in bytes, times in seconds."""

    command_bytes: int = 64 * 1024
    """The largest body of an operator's command; each intake states its own."""
    body_timeout_s: float = 30.0
    """How long a whole body may take to arrive."""
    bodies_at_once: int = 64
    """How many bodies may be on their way at once; the next one is told to come back."""
    bulk_at_once: int = 16
    """The same for telemetry, counted apart: a flood of it must not take the turn of a deployment or an alert."""
    bulk_bytes: int = 64 * 1024 * 1024
    """How much telemetry may be held at once, decompressed, before it is understood."""


INLINE_BYTES = 256 * 1024
"""So much is decompressed on the event loop, in well under a millisecond; what is more goes to a thread, whose round
trip takes a quarter of one."""

NO_DECODERS: Mapping[str, Decoder] = {}


class Bodies:
    """Reads bodies, none beyond its limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._now = 0

    async def read(
        self,
        request: web.Request,
        max_bytes: int,
        content_types: Collection[str],
        decoders: Mapping[str, Decoder] = NO_DECODERS,
    ) -> bytes:
        """The whole body, decompressed. `decoders` undo further encodings of a body that is there as a whole.

        Raises HttpError 415 for what is not one of the media types or encodings, 413 for what is too large before or
        after decompression, 408 for what comes too slowly, 400 for what breaks off, and Temporary when too many come.
        """
        _check_type(request, content_types)
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        whole = decoders.get(encoding)
        decoder = _Decoder() if whole is not None else _decoder(encoding, decoders)
        if request.content_length is not None and request.content_length > max_bytes:
            raise _too_large(max_bytes)
        if self._now >= self._limits.bodies_at_once:
            raise Temporary("too many requests are being received already", retry_after=1)
        self._now += 1
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                body = await _receive(request, decoder, max_bytes)
        except TimeoutError:
            message = f"the body did not arrive within {self._limits.body_timeout_s:g} s"
            raise HttpError(408, "too_slow", message) from None
        finally:
            self._now -= 1
        if whole is None:
            return body
        if len(body) > INLINE_BYTES:
            return await asyncio.to_thread(_decoded, whole, body, max_bytes)
        return _decoded(whole, body, max_bytes)

    async def read_json(self, request: web.Request, wanted: type[T]) -> T:
        """An operator's command. Raises as `read`, and Rejected for what does not fit."""
        return decode(await self.read(request, self._limits.command_bytes, JSON), wanted)


class BulkBodies(Bodies):
    """The same for telemetry. A body counts as held from before it is read until its delivery was understood."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(replace(limits, bodies_at_once=limits.bulk_at_once))
        self._room = limits.bulk_bytes

    @contextmanager
    def held(self, request: web.Request, max_bytes: int) -> Iterator[Callable[[bytes], None]]:
        """Take the room that the body may need: what it says of itself, tenfold where it is compressed, at most
        `max_bytes`. What is given takes the room of the body that came of it instead. Both raise Temporary where there
        is not so much room."""
        stated = request.content_length if request.content_length is not None else max_bytes
        compressed = request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size - taken > self._room:
                raise Temporary("too much telemetry waits to be understood already", retry_after=1)
            self._room -= size - taken
            taken = size

        take(min(stated * 10 if compressed else stated, max_bytes))
        try:
            yield lambda body: take(len(body))
        finally:
            self._room += taken


def _check_type(request: web.Request, content_types: Collection[str]) -> None:
    # A body without a type is refused too: a web page can make a browser send one to us unasked.
    found = request.content_type
    charset = (request.charset or "utf-8").lower()
    if found not in content_types or charset not in ("utf-8", "utf8"):
        wanted = " or ".join(sorted(content_types))
        raise HttpError(415, "wrong_content_type", f"the body must come with `Content-Type: {wanted}`, in UTF-8")


async def _receive(request: web.Request, decoder: _Decoder, max_bytes: int) -> bytes:
    arrived, body = 0, bytearray()
    try:
        async for chunk in request.content.iter_any():
            arrived += len(chunk)
            if arrived > max_bytes:
                raise _too_large(max_bytes)
            body += decoder.feed(chunk, max_bytes - len(body))
            if decoder.more and len(body) <= max_bytes:
                body += await asyncio.to_thread(decoder.rest, max_bytes - len(body))
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except (web.RequestPayloadError, ConnectionError):
        raise HttpError(400, "broken_off", "the body broke off before its end") from None
    except zlib.error:
        raise HttpError(400, "malformed", "the body is not compressed as its Content-Encoding says") from None
    if not decoder.complete:
        raise HttpError(400, "malformed", "the compressed body ends too early")
    return bytes(body)


def _decoded(whole: Decoder, body: bytes, max_bytes: int) -> bytes:
    decoded = whole(body, max_bytes)
    if len(decoded) > max_bytes:
        raise _too_large(max_bytes)
    return decoded


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(413, "too_large", f"the body may have {max_bytes} bytes at most, also after decompression")


class _Decoder:
    """Undoes no encoding. `feed` raises zlib.error for what is not encoded as promised."""

    @property
    def complete(self) -> bool:
        return True

    more = False
    """Whether the last chunk may hold more than was given of it: `rest` gives that, and takes its time."""

    def feed(self, chunk: bytes, room: int) -> bytes:
        """What the chunk holds, or more than `room` bytes of it where it holds more."""
        return chunk[: room + 1]

    def rest(self, room: int) -> bytes:
        """The same for the rest of the last chunk."""
        del room
        return b""


class _Inflater(_Decoder):
    """Undoes gzip and deflate."""

    def __init__(self, encoding: str) -> None:
        self._inflate = None if encoding == "deflate" else zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._tail = b""

    @property
    def complete(self) -> bool:
        return self._inflate is not None and self._inflate.eof

    def feed(self, chunk: bytes, room: int) -> bytes:
        if not chunk:
            return b""
        if self._inflate is None:
            # RFC 9110 means the zlib format; some senders leave its header out, which its first byte shows.
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if chunk[0] & 0x0F == 8 else -zlib.MAX_WBITS)
        if self._inflate.eof:
            raise zlib.error("data after the end")
        return self._inflated(chunk, min(room, INLINE_BYTES))

    def rest(self, room: int) -> bytes:
        return self._inflated(self._tail, room)

    def _inflated(self, chunk: bytes, room: int) -> bytes:
        assert self._inflate is not None  # noqa: S101  it was made for the first chunk
        out = self._inflate.decompress(chunk, room + 1)
        if self._inflate.unused_data:
            raise zlib.error("data after the end")
        self._tail, self.more = self._inflate.unconsumed_tail, len(out) > room and not self._inflate.eof
        return out


def _decoder(encoding: str, others: Collection[str]) -> _Decoder:
    if encoding in ("", "identity"):
        return _Decoder()
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Inflater(encoding)
    known = ["gzip", "deflate", *sorted(others)]
    message = f"Content-Encoding `{encoding[:40]}` is not understood: send {', '.join(known)} or none"
    raise HttpError(415, "wrong_encoding", message, [("Accept-Encoding", ", ".join(known))])
