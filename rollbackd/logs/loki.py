"""What Loki answers: log lines with the labels of their streams, to a query and in the live tail.

The formats are those of Loki's HTTP API, `/loki/api/v1/query_range` and `/loki/api/v1/tail`
(https://grafana.com/docs/loki/latest/reference/loki-http-api/). Asked for with ENCODING_HEADERS, Loki 3 keeps what was
attached to a line (structured metadata) and what the query parsed from it apart from the stream's own labels; without
them, and before 3.0, every line with other metadata is a stream of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from rollbackd.errors import Temporary

ENCODING_HEADERS: Mapping[str, str] = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}

KEY_TIME_BYTES = 8
"""An entry's key begins with its moment, so that keys are in order of time."""

_LOKIS_OWN = frozenset({"__stream_shard__"})
"""Labels by which Loki divides a busy stream: neighbouring lines have different ones."""

LAST_MOMENT = (1 << 63) - 1


class Foreign(Temporary):
    """These bytes are not what Loki sends."""


class NotLines(Temporary):
    """The query gives numbers, where lines are wanted."""


class _Extra(msgspec.Struct, rename="camel"):
    structured_metadata: dict[str, str] = {}
    parsed: dict[str, str] = {}


class _Value(msgspec.Struct, array_like=True):
    moment: str
    line: str
    extra: _Extra | None = None


class _Stream(msgspec.Struct):
    stream: dict[str, str]
    values: list[_Value]


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: msgspec.Raw


class _Answer(msgspec.Struct):
    data: _Data


class _Frame(msgspec.Struct):
    streams: list[_Stream] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_STREAMS = msgspec.json.Decoder(list[_Stream])
_FRAME = msgspec.json.Decoder(_Frame)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `moment` is in nanoseconds since 1970; `stream` tells the lines of one stream from another's."""

    moment: int
    stream: str
    line: str
    key: bytes
    """The same for the same line of the same stream at the same moment, in every process."""
    labels: Mapping[str, str]
    extra: Mapping[str, str]

    def label(self, name: str) -> str | None:
        """The value under a name: what belongs to the line itself comes before its stream's labels."""
        return self.extra.get(name) or self.labels.get(name)


@dataclass(frozen=True, slots=True)
class Entries:
    """Some lines in order of time; `unreadable` more had a time that is none."""

    entries: list[Entry]
    unreadable: int = 0

    @property
    def count(self) -> int:
        """How many lines were sent, the unreadable ones included."""
        return len(self.entries) + self.unreadable


def read_answer(body: bytes | bytearray) -> Entries:
    """The lines of an answer to a query. Raises Foreign, and NotLines for the answer to a metric query."""
    try:
        data = _ANSWER.decode(body).data
        if data.result_type != "streams":
            raise NotLines(f"the query gives a {data.result_type:.40}, not log lines: write a log query")
        return _entries(_STREAMS.decode(data.result))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise Foreign("the answer is not Loki's") from None


def read_frame(body: str | bytes) -> Entries:
    """The lines of one message of the live tail. Raises Foreign.

    Its `dropped_entries` are passed over: they come with the next line, which may be hours, and are a thousand at most.
    """
    try:
        frame = _FRAME.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise Foreign("a message of the tail is not Loki's") from None
    return _entries(frame.streams or [])


def _entries(streams: list[_Stream]) -> Entries:
    found: list[Entry] = []
    unreadable = 0
    for stream in streams:
        read = list(_of_stream(stream))
        unreadable += len(stream.values) - len(read)
        found += read
    found.sort(key=lambda entry: entry.moment)
    return Entries(found, unreadable)


def _of_stream(stream: _Stream) -> Iterator[Entry]:
    own = {name: value for name, value in stream.stream.items() if name not in _LOKIS_OWN}
    identity = msgspec.json.encode(own, order="deterministic")
    text = identity.decode()
    begun = blake2b(identity + b"\0", digest_size=8)
    for value in stream.values:
        moment = moment_of(value.moment)
        if moment is None:
            continue
        digest = begun.copy()
        digest.update(value.line.encode())
        key = moment.to_bytes(KEY_TIME_BYTES) + digest.digest()
        extra = value.extra
        # as in LogQL, what the query parsed from a line comes after what was attached to it
        merged = {**extra.parsed, **extra.structured_metadata} if extra is not None else {}
        yield Entry(moment, text, value.line, key, stream.stream, merged)


def moment_of(text: str) -> int | None:
    """Nanoseconds since 1970 from their decimal digits; None where that is no moment."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    moment = int(text)
    return moment if moment <= LAST_MOMENT else None


def selector(labels: Mapping[str, str]) -> str:
    """The LogQL stream selector for exactly these label values."""
    return "{" + ", ".join(f"{name}={_quoted(value)}" for name, value in labels.items()) + "}"


def _quoted(value: str) -> str:
    """A Go string literal: JSON's escapes are Go's, for all that JSON escapes."""
    return msgspec.json.encode(value).decode()
