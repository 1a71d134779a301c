"""Protobuf as it is on the wire, read without its run time: a walk over bytes costs less than objects nobody looks at.

Format: https://protobuf.dev/programming-guides/encoding/. Nothing here trusts a length or a number that it reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

_DOUBLE = struct.Struct("<d")
_MASK64 = (1 << 64) - 1


class Malformed(ValueError):
    """Bytes that are no message."""


class Field(NamedTuple):
    """One field of a message: its value where it is a varint, else where in the body it stands."""

    number: int
    kind: int
    value: int
    begin: int
    end: int


def varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """An unsigned number of 64 bits at most, and where the next byte is. Raises Malformed."""
    value = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, at
        shift += 7
    raise Malformed("a number is cut off, or too long")


def fields(body: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of the message in `body[at:end]`, known or not. Raises Malformed on the way."""
    while at < end:
        tag, at = varint(body, at, end)
        number, kind = tag >> 3, tag & 7
        value, begin = 0, at
        if kind == VARINT:
            value, at = varint(body, at, end)
        elif kind == LENGTH:
            length, begin = varint(body, at, end)
            at = begin + length
        elif kind == FIXED64:
            at += 8
        elif kind == FIXED32:
            at += 4
        else:
            raise Malformed("a field is of a type that there is not")
        if not number or number >= 1 << 29:
            raise Malformed("a field has a number that there is not")
        if at > end:
            raise Malformed("a field reaches beyond the end")
        yield Field(number, kind, value, begin, at)


def check(field: Field, kind: int) -> Field:
    """The same field. Raises Malformed where it is not of this type."""
    if field.kind != kind:
        raise Malformed(f"field {field.number} is not of the type it should be")
    return field


def text(body: bytes, field: Field) -> str:
    """A string. Raises Malformed."""
    check(field, LENGTH)
    try:
        return body[field.begin : field.end].decode()
    except UnicodeDecodeError:
        raise Malformed("a text is not UTF-8") from None


def double(body: bytes, field: Field) -> float:
    """A double. Raises Malformed."""
    check(field, FIXED64)
    value: float = _DOUBLE.unpack_from(body, field.begin)[0]
    return value


def doubles(body: bytes, field: Field, most: int) -> list[float]:
    """Repeated doubles, as one packed field, or one of several. Raises Malformed, also for more than `most`."""
    if field.kind == FIXED64:
        return [double(body, field)]
    check(field, LENGTH)
    count, rest = divmod(field.end - field.begin, 8)
    if rest or count > most:
        raise Malformed("packed numbers are cut off, or more than can be meant")
    return list(struct.unpack_from(f"<{count}d", body, field.begin))


def varints(body: bytes, field: Field, most: int) -> list[int]:
    """Repeated varints, as one packed field, or one of several. Raises Malformed, also for more than `most`."""
    if field.kind == VARINT:
        return [field.value]
    check(field, LENGTH)
    found: list[int] = []
    at = field.begin
    while at < field.end:
        value, at = varint(body, at, field.end)
        found.append(value)
        if len(found) > most:
            raise Malformed("packed numbers are more than can be meant")
    return found


def signed(value: int) -> int:
    """A varint as int64 or int32."""
    return value - (1 << 64) if value >= 1 << 63 else value


def zigzag(value: int) -> int:
    """A varint as sint64 or sint32."""
    return (value >> 1) ^ -(value & 1)
