"""Makes hostile inputs of good ones, the same for the same seed: byte by byte, and along the shape of the format."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

LONGEST = 64 * 1024
"""Bytes of an input. What is worse than linear shows at this length."""
POOL = 2000
POOLED = 4096
"""How many inputs are kept to be mutated further, and how long they may be: long ones take most of the time."""

WORDS = (
    b"\0", b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\u0000",
    b"\\ud800", b"-1", b"1e400", b"-1e400", b"NaN", b"Infinity", b"9223372036854775808", b"18446744073709551616",
    b"1" * 5000, b"[" * 1500, b'{"a":' * 1000, b'"', b"{", b"}", b"]", b",", b":", b"\n", b" ",
)  # fmt: skip
"""What makes trouble anywhere: broken and overlong UTF-8, lone surrogates, numbers beyond any type, depth."""

VALUES: tuple[object, ...] = (
    None, True, False, 0, -1, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**400, 0.0, -0.0, 1e308, -1e308, 5e-324,
    float("inf"), float("nan"), "", "\0", "\ud800", "\U0010ffff", "\n", "x" * 600, "9" * 400, "NaN", "-Inf", "1e400",
    [], {}, [[]], {"": None}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999999-12:00",
    "2023-11-14T22:13:20Z",
)  # fmt: skip

_EDGES = (0, 1, 0x0A, 0x20, 0x22, 0x2C, 0x30, 0x39, 0x3A, 0x5C, 0x7F, 0x80, 0xC0, 0xFF)
_VARINTS = (0, 1, 127, 128, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 1_700_000_000_000_000_000)

Mutation: TypeAlias = Callable[[bytes], bytes]
Container: TypeAlias = "dict[str, object] | list[object]"


class Mutator:
    """An endless supply of inputs. `keep` the ones that were read in a new way, and they are mutated further."""

    def __init__(self, seeds: Sequence[bytes], shape: str, words: Sequence[bytes], seed: str) -> None:
        self._chance = random.Random(seed)
        self._pool = [seed[:LONGEST] for seed in seeds] or [b""]
        self._words = (*words, *words, *WORDS)
        self._pairs = list(dict.fromkeys(one + other for one in words for other in words))
        self._anywhere: list[Mutation] = [
            self._flip, self._edge, self._delete, self._double, self._word, self._word, self._splice, self._number
        ]  # fmt: skip
        self._shaped: Mutation | None = {"json": self._json, "protobuf": self._protobuf}.get(shape)
        self._spans: dict[bytes, list[Span]] = {}

    def keep(self, data: bytes) -> None:
        """Mutate this one, too."""
        if len(data) > POOLED:
            return
        if len(self._pool) < POOL:
            self._pool.append(data)
        else:
            self._pool[self._chance.randrange(POOL)] = data

    def one(self) -> bytes:
        """The next input."""
        return self.changed(self._chance.choice(self._pool))

    def changed(self, data: bytes) -> bytes:
        """The input, changed in a few places: along its shape first, which byte by byte would not survive."""
        chance = self._chance
        changes = 1 + int(chance.expovariate(0.7))
        if self._shaped is not None and chance.random() < 0.7:
            data = self._shaped(data)
            changes = 0 if chance.random() < 0.6 else 1
        for _ in range(changes):
            data = chance.choice(self._anywhere)(data)
        if chance.random() < 0.0002:
            data = self._swollen(data)
        return data[:LONGEST]

    def swollen(self) -> Iterator[bytes]:
        """Long inputs: the first ones, each with one part of it repeated at its place, and pairs of the words."""
        for data in list(self._pool):
            for length in (1, 2, 3, 5, 8, 13, 34, 89):
                for _ in range(3):
                    at = self._chance.randrange(len(data) + 1)
                    yield self._repeated(data, at, at + length)
            for pair in self._pairs:
                at = self._chance.randrange(len(data) + 1)
                yield self._repeated(data[:at] + pair + data[at:], at, at + len(pair))

    # -- byte by byte

    def _span(self, data: bytes) -> tuple[int, int]:
        at = self._chance.randrange(len(data) + 1)
        return at, at + min(int(self._chance.expovariate(0.1)) + 1, 200)

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._chance.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << self._chance.randrange(8))]) + data[at + 1 :]

    def _edge(self, data: bytes) -> bytes:
        at = self._chance.randrange(len(data) + 1)
        return data[:at] + bytes([self._chance.choice(_EDGES)]) + data[at + self._chance.randrange(2) :]

    def _delete(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return data[:begin] + data[end:]

    def _double(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return data[:end] + data[begin:end] * self._chance.choice((1, 1, 2, 10)) + data[end:]

    def _word(self, data: bytes) -> bytes:
        at = self._chance.randrange(len(data) + 1)
        word = self._chance.choice(self._words)
        return data[:at] + word + data[at + (len(word) if self._chance.random() < 0.5 else 0) :]

    def _splice(self, data: bytes) -> bytes:
        other = self._chance.choice(self._pool)
        return data[: self._chance.randrange(len(data) + 1)] + other[self._chance.randrange(len(other) + 1) :]

    def _number(self, data: bytes) -> bytes:
        """Another number in place of the first run of digits behind some place."""
        begin = self._chance.randrange(len(data) + 1)
        while begin < len(data) and not 0x30 <= data[begin] <= 0x39:
            begin += 1
        end = begin
        while end < len(data) and 0x30 <= data[end] <= 0x39:
            end += 1
        return data[:begin] + str(self._chance.choice(_VARINTS)).encode() + data[end:]

    def _swollen(self, data: bytes) -> bytes:
        begin, end = self._span(data)
        return self._repeated(data, begin, end)

    def _repeated(self, data: bytes, begin: int, end: int) -> bytes:
        part = data[begin:end] or b"a"
        times = max(0, LONGEST - len(data)) // len(part)
        return data[:end] + part * times + data[end:]

    # -- along the shape

    def _json(self, data: bytes) -> bytes:
        try:
            tree = json.loads(data)
        except (ValueError, RecursionError):
            return self._flip(data)
        places = _containers(tree)
        if not places:
            return json.dumps(self._chance.choice(VALUES)).encode()
        for _ in range(self._chance.choice((1, 1, 2, 3))):
            self._change(self._chance.choice(places))
        return json.dumps(tree, ensure_ascii=self._chance.random() < 0.5).encode(errors="surrogatepass")

    def _change(self, place: Container) -> None:
        value, what = self._chance.choice(VALUES), self._chance.random()
        if isinstance(place, dict):
            key = self._chance.choice(list(place) or [""])
            if what < 0.6:
                place[key] = value
            elif what < 0.8:
                place.pop(key, None)
            else:
                place[self._chance.choice(("", "\0", "x" * 600, key.upper(), key + "\u2028"))] = place.get(key, value)
        elif what < 0.4 or not place:
            place.append(value)
        elif what < 0.7:
            place[self._chance.randrange(len(place))] = value
        elif what < 0.85:
            place.append(self._chance.choice(place))
        else:
            del place[self._chance.randrange(len(place))]

    def _protobuf(self, data: bytes) -> bytes:
        spans = self._spans.get(data)
        if spans is None:
            if len(self._spans) > POOL:
                self._spans.clear()
            spans = self._spans[data] = _fields(data, 0, len(data), -1, []) or []
        if not spans:
            return self._flip(data)
        place = self._chance.randrange(len(spans))
        field = spans[place]
        whole, what = data[field.begin : field.end], self._chance.random()
        if what < 0.15:
            return _replaced(data, spans, place, b"")
        if what < 0.3:
            return _replaced(data, spans, place, whole * self._chance.choice((2, 2, 2, 10)))
        number = self._chance.randrange(1, 20) if what < 0.4 else field.number
        return _replaced(data, spans, place, _tag(number, field.kind) + self._value(data, field))

    def _value(self, data: bytes, field: Span) -> bytes:
        if field.kind == 0:
            return _as_varint(self._chance.choice(_VARINTS))
        value = data[field.value : field.end]
        changed = self._chance.choice((self._flip, self._edge, self._word, self._delete))(value)
        if field.kind == 2:
            return _as_varint(len(changed)) + changed
        return changed[: len(value)].ljust(len(value), b"\xff")


def _containers(tree: object) -> list[Container]:
    found: list[Container] = []
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found.append(part)
            waiting += part.values()
        elif isinstance(part, list):
            found.append(part)
            waiting += part
    return found


class Span(NamedTuple):
    """Where a field of a protobuf message is: its tag, its value behind tag and length, and its end."""

    begin: int
    value: int
    end: int
    number: int
    kind: int
    parent: int
    """The place of the field that it is within; -1 for none."""


def _fields(data: bytes, at: int, end: int, parent: int, found: list[Span]) -> list[Span] | None:
    """Adds the fields of a message to those found, and whatever is a message again within; None where it is none."""
    before = len(found)
    while at < end:
        begin = at
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        value = at
        if kind == 0:
            _, at = _varint(data, at, end)
        elif kind == 2:
            length, value = _varint(data, at, end)
            at = value + length
        else:
            at += {1: 8, 5: 4}.get(kind, end + 1)
        if number == 0 or at > end:
            del found[before:]
            return None
        found.append(Span(begin, value, at, number, kind, parent))
        if kind == 2 and at > value:
            _fields(data, value, at, len(found) - 1, found)
    return found


def _replaced(data: bytes, spans: Sequence[Span], place: int, by: bytes) -> bytes:
    """The message with another field in that place, and the lengths around it right again."""
    begin, end, place = spans[place].begin, spans[place].end, spans[place].parent
    while place >= 0:
        around = spans[place]
        inside = data[around.value : begin] + by + data[end : around.end]
        by = _tag(around.number, 2) + _as_varint(len(inside)) + inside
        begin, end, place = around.begin, around.end, around.parent
    return data[:begin] + by + data[end:]


def _tag(number: int, kind: int) -> bytes:
    return _as_varint(number << 3 | kind)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends: beyond the end where they break off."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    return value, end + 1


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
