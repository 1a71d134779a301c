"""What is pushed to Loki's `/loki/api/v1/push`: streams of lines in protobuf or JSON, from bytes nobody vouches for.

Formats: the push endpoint in https://grafana.com/docs/loki/latest/reference/loki-http-api/, and `PushRequest` in
https://github.com/grafana/loki/blob/main/pkg/push/push.proto, read as it is on the wire. A protobuf body comes in
Snappy's block format, whether a Content-Encoding says so or not; whoever calls this has unpacked it.

Streams are told one by one, and their entries read only when they are asked for: what is nobody's costs a step over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from rollbackd import wire
from rollbackd.errors import Permanent
from rollbackd.logs.loki import LAST_MOMENT, moment_of

MAX_LABELS_CHARS = 64 * 1024
"""Longer label sets are refused."""

_NONE: Mapping[str, str] = {}
_SECOND = 1_000_000_000


class Malformed(Permanent):
    """These bytes are no push to Loki. The message is one sentence for whoever sent them."""


class Pushed(NamedTuple):
    """One line. `moment` is in nanoseconds since 1970, None where it is none; `metadata` belongs to the line alone."""

    moment: int | None
    line: str
    metadata: Mapping[str, str]


class PushedStream(Protocol):
    """Lines with the same labels."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What tells the stream from others."""

    @property
    def count(self) -> int:
        """How many lines there are."""

    def entries(self) -> Iterator[Pushed]:
        """The lines in the order in which they were sent. Raises Malformed on the way."""


# -- JSON


class _JsonValue(msgspec.Struct, array_like=True):
    moment: str
    line: str
    metadata: dict[str, str] | None = None


class _JsonStream(msgspec.Struct):
    stream: dict[str, str]
    values: list[_JsonValue]


class _JsonPush(msgspec.Struct):
    streams: list[_JsonStream]


_JSON = msgspec.json.Decoder(_JsonPush)


@dataclass(frozen=True, slots=True)
class _OfJson:
    labels: Mapping[str, str]
    values: list[_JsonValue]

    @property
    def count(self) -> int:
        return len(self.values)

    def entries(self) -> Iterator[Pushed]:
        for value in self.values:
            yield Pushed(moment_of(value.moment), value.line, value.metadata or _NONE)


def read_json(body: bytes) -> Iterator[PushedStream]:
    """The streams of a JSON push. Raises Malformed before the first one. In memory it is a few times its own size."""
    try:
        push = _JSON.decode(body)
    except msgspec.ValidationError as error:
        raise Malformed(f"the body is no push to Loki: {error}") from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise Malformed("the body is not JSON") from None
    return (_OfJson(stream.stream, stream.values) for stream in push.streams)


# -- protobuf


@dataclass(frozen=True, slots=True)
class _OfProtobuf:
    labels: Mapping[str, str]
    body: bytes
    spans: list[tuple[int, int]]

    @property
    def count(self) -> int:
        return len(self.spans)

    def entries(self) -> Iterator[Pushed]:
        try:
            for begin, end in self.spans:
                yield _entry(self.body, begin, end)
        except wire.Malformed as error:
            raise Malformed(f"the body is no push to Loki: {error}") from None


def read_protobuf(body: bytes) -> Iterator[PushedStream]:
    """The streams of an unpacked protobuf push, with their labels. Raises Malformed on the way."""
    try:
        for number, begin, end in _parts(body, 0, len(body)):
            if number == 1:
                yield _stream(body, begin, end)
    except wire.Malformed as error:
        raise Malformed(f"the body is no push to Loki: {error}") from None


def _stream(body: bytes, begin: int, end: int) -> _OfProtobuf:
    labels = "{}"
    spans: list[tuple[int, int]] = []
    for number, at, after in _parts(body, begin, end):
        if number == 1:
            if after - at > MAX_LABELS_CHARS:
                raise Malformed(f"the labels of a stream have more than {MAX_LABELS_CHARS} bytes")
            labels = _text(body, at, after)
        elif number == 2:
            spans.append((at, after))
    return _OfProtobuf(parse_labels(labels), body, spans)


def _entry(body: bytes, begin: int, end: int) -> Pushed:
    moment: int | None = 0
    line = ""
    metadata: dict[str, str] = {}
    for number, at, after in _parts(body, begin, end):
        if number == 1:
            moment = _moment(body, at, after)
        elif number == 2:
            line = _text(body, at, after)
        elif number == 3:
            name, value = _pair(body, at, after)
            metadata[name] = value
    return Pushed(moment, line, metadata or _NONE)


def _moment(body: bytes, begin: int, end: int) -> int | None:
    """A google.protobuf.Timestamp."""
    seconds = nanoseconds = 0
    for one in wire.fields(body, begin, end):
        if one.number == 1:
            seconds = wire.check(one, wire.VARINT).value
        elif one.number == 2:
            nanoseconds = wire.check(one, wire.VARINT).value
    moment = seconds * _SECOND + nanoseconds  # a negative number reads as one that is far too large
    return moment if nanoseconds < _SECOND and moment <= LAST_MOMENT else None


def _pair(body: bytes, begin: int, end: int) -> tuple[str, str]:
    name = value = ""
    for number, at, after in _parts(body, begin, end):
        if number == 1:
            name = _text(body, at, after)
        elif number == 2:
            value = _text(body, at, after)
    return name, value


def _text(body: bytes, begin: int, end: int) -> str:
    """A string; not every sender sees to it that lines are UTF-8."""
    return body[begin:end].decode(errors="replace")


def _parts(body: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number and place of the strings and messages within a message. Raises wire.Malformed on the way.

    In all that we read, fields 1 and 2 are such.
    """
    for one in wire.fields(body, at, end):
        if one.kind == wire.LENGTH:
            yield one.number, one.begin, one.end
        elif one.number in (1, 2):
            raise wire.Malformed(f"field {one.number} is not of its type")


# -- label sets as text

_LABEL = re.compile(
    r"""\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?:"((?:[^"\\\n]|\\.)*)"|`([^`]*)`)\s*(,|\})""",
)
_ESCAPE = re.compile(
    rb"""\\(?:([abfnrtv\\'"])|x([0-9A-Fa-f]{2})|([0-3][0-7]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.|$))""", re.DOTALL
)
_SHORT = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def parse_labels(text: str) -> dict[str, str]:
    """A label set as Prometheus and Loki write it, `{a="b", c="d"}`, values quoted as in Go. Raises Malformed."""
    text = text.strip()
    labels: dict[str, str] = {}
    at, more = 1, text.startswith("{") and len(text) <= MAX_LABELS_CHARS
    while more and (found := _LABEL.match(text, at)) is not None:
        name, quoted, raw, after = found.groups()
        labels[name] = raw if quoted is None else _unquoted(quoted)
        at, more = found.end(), after == ","
    closed = text[at:].strip() == "}" if more else labels and at == len(text)
    if not closed:
        raise Malformed('the labels of a stream are not written as {name="value"}')
    return labels


def _unquoted(text: str) -> str:
    """Go's escapes (https://go.dev/ref/spec#Rune_literals); bytes that they give and that are no UTF-8 are replaced."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_unescaped, text.encode(errors="replace")).decode(errors="replace")


def _unescaped(found: re.Match[bytes]) -> bytes:
    short, byte, octal, four, eight, _ = found.groups()
    if short is not None:
        return _SHORT.get(short, short)
    if byte is not None:
        return bytes([int(byte, 16)])
    if octal is not None:
        return bytes([int(octal, 8)])
    if (digits := four or eight) is not None and int(digits, 16) <= 0x10FFFF:
        return chr(int(digits, 16)).encode(errors="replace")
    raise Malformed("the labels of a stream hold an escape that Go does not know")
