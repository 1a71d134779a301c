"""What JSON intakes share: strict decoding with an error that names the place, moments, and keys of facts."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar, get_args, get_origin

import msgspec

from rollbackd.intake.base import Accepted, Reading, Rejected
from rollbackd.model import LAST_MOMENT, MAX_BACKWARDS_S, AnyEvent

T = TypeVar("T")

REACH_S = MAX_BACKWARDS_S - 30.0
"""How far back, in seconds, the moment of a pushed event may lie: the recording's bound, less the time that a delivery
may wait between its receipt and the engine."""

RETRY_WINDOW_S = 10.0
"""A fact without an id and a time that is told again within one such window of our clock is the same fact."""

NOTHING: Mapping[str, int] = {}

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
    """A short key that the same parts always give, and other parts do not, whatever bytes stood in a header."""
    sound = [_sound(part) if isinstance(part, str) else part for part in parts]
    return f"{intake}:{hashlib.blake2b(msgspec.json.encode(sound), digest_size=16).hexdigest()}"


def _sound(text: str) -> str:
    """The text; what was no UTF-8 in a header is written out."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def moment(value: object, place: str) -> float:
    """Unix seconds of what foreign JSON writes as a moment: seconds or milliseconds since 1970, as a number or as text,
    or ISO 8601 with an offset. Raises Rejected, naming the place, for anything else."""
    if isinstance(value, str):
        value = _of_text(value.strip())
    if isinstance(value, datetime) and value.tzinfo is not None:
        return unix(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LAST_MOMENT * 1000:
        return float(value) if value <= LAST_MOMENT else value / 1000
    raise Rejected(f"`{place}` is no moment: it wants Unix seconds, milliseconds, or ISO 8601 with an offset")


def _of_text(text: str) -> object:
    try:
        return float(text) if text[:1].isdigit() and "-" not in text else datetime.fromisoformat(text)
    except ValueError:
        return None


def each(
    items: Sequence[T], read: Callable[[T], Accepted | str], what: str, dropped: Mapping[str, int] = NOTHING
) -> Reading:
    """What comes of the items of a delivery; one that cannot be understood spoils no other. `what` they are called,
    empty where the delivery is its only item.

    `read` gives an item's event, or the label of the reason why it is left out. Raises Rejected where not one of them
    can be understood, with the last one's status.
    """
    accepted: list[Accepted] = []
    counted, broken, last = Counter(dropped), 0, None
    for item in items:
        try:
            one = read(item)
        except Rejected as error:
            broken, last, one = broken + 1, error, error.code
        if isinstance(one, str):
            counted[one] += 1
        else:
            accepted.append(one)
    if last is not None and broken == len(items):
        several = f"not one {what} of the delivery can be read; the last: " if what else ""
        raise Rejected(f"{several}{last}", status=last.status, code=last.code)
    accepted.sort(key=lambda item: item.event.t)
    return Reading(accepted=tuple(accepted), dropped=dict(counted))
