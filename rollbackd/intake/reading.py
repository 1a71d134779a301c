"""What JSON intakes share: strict decoding with an error that names the place, moments, and keys of facts."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar, get_args, get_origin

import msgspec

from rollbackd.intake.base import Rejected
from rollbackd.model import MAX_BACKWARDS_S, AnyEvent

T = TypeVar("T")

REACH_S = MAX_BACKWARDS_S - 30.0
"""How far back, in seconds, the moment of a pushed event may lie: the recording's bound, less the time that a delivery
may wait between its receipt and the engine."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WRONG_WORD = re.compile(r"Invalid enum value .* at `\$(?:\S*\.)?(\w+)`$", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")


def decode(body: bytes, wanted: type[T]) -> T:
    """The body as `wanted`. Raises Rejected, naming the place and, for a misspelt field, the likely right one."""
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        raise Rejected(f"the body does not fit: {error}{_cure(str(error), wanted)}") from None
    except RecursionError:
        raise Rejected("the body is nested too deeply to be meant") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Rejected(f"the body is not JSON: {error}") from None


def check(event: AnyEvent) -> None:
    """Raises Rejected for an event that the inbox would not give back: building one does not look at its bounds."""
    try:
        msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Rejected(f"this makes no event: {error}") from None


def _cure(message: str, wanted: object) -> str:
    if (wrong := _WRONG_WORD.search(message)) is not None:
        words = [
            word for field in _fields_within(wanted) if field.encode_name == wrong[1] for word in _words(field.type)
        ]
        return f"; it is one of {', '.join(f'`{word}`' for word in dict.fromkeys(words))}" if words else ""
    found = _UNKNOWN_FIELD.search(message)
    if found is None:
        return ""
    fields = sorted(_fields(wanted))
    return did_you_mean(found[1], fields) or f"; known fields: {', '.join(fields)}"


def _fields(wanted: object) -> set[str]:
    """The names of the fields of the structs that a type such as `A | list[A]` is made of."""
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return {field.encode_name for field in msgspec.structs.fields(wanted)}
    inner: Iterable[object] = getattr(wanted, "__args__", ())
    return {name for part in inner for name in _fields(part)}


def _fields_within(wanted: object) -> Iterator[msgspec.structs.FieldInfo]:
    """The fields of the structs that a type is made of, and of those that these fields are made of."""
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        for field in msgspec.structs.fields(wanted):
            yield field
            yield from _fields_within(field.type)
    else:
        for part in get_args(wanted):
            yield from _fields_within(part)


def _words(kind: object) -> list[object]:
    """What may be written for a type such as `Literal["a", "b"] | None`."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [word for part in get_args(kind) for word in _words(part)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where something known is near, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def unix(moment: datetime) -> float:
    """Unix seconds of a moment that carries its UTC offset, whatever its year."""
    return (moment - _EPOCH) / timedelta(seconds=1)


def fact_key(intake: str, *parts: str | float | None) -> str:
    """A short key that the same parts always give, and other parts do not."""
    digest = hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()
    return f"{intake}:{digest}"
