"""What a parser of foreign bytes is to the fuzzer, and what the tables of parsers share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeAlias, TypeVar

import msgspec

from rollbackd.model import AnyEvent

T = TypeVar("T")

KEPT = 10
"""Events of one input that are written and read again."""

Read: TypeAlias = Callable[[bytes], object]
"""Reads one input. What it gives back tells outcomes apart: an input with a new one is worth mutating further."""

Shape: TypeAlias = Literal["text", "json", "protobuf"]


@dataclass(frozen=True)
class Parser:
    """One row. `fresh` makes a reader that remembers nothing; `seeds` are inputs that are read well.

    `covers` names the modules of the package that it takes through their paces, `may_raise` what is foreseen. `shape`
    says how an input is mutated beside byte by byte, `words` what is put into it. An input of 64 KiB may take `limit_s`
    seconds of processor time: the default is what the event loop can bear at the worst.
    """

    name: str
    covers: Sequence[str]
    fresh: Callable[[], Read]
    seeds: Sequence[bytes]
    may_raise: tuple[type[Exception], ...] = ()
    shape: Shape = "text"
    words: Sequence[bytes] = ()
    limit_s: float = 0.25


def pure(read: Read) -> Callable[[], Read]:
    """The `fresh` of a reader that never remembers anything."""
    return lambda: read


def keepable(events: Iterable[AnyEvent]) -> int:
    """How many events there are, as `few`. Each must be as it was once written and strictly read again, or no ledger
    could hold it."""
    found = list(events)
    for event in islice(found, KEPT):
        assert msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) == event
    return few(found)


def few(found: Sized) -> int:
    """How many there are, where more than a few are all one: or every length would seem to be an outcome of its own."""
    return min(len(found), 4)


def run(coroutine: Coroutine[object, None, T]) -> T:
    """The result of a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as over:
        result: T = over.value
        return result
    coroutine.close()
    raise AssertionError("it waited")


def halves(data: bytes) -> tuple[bytes, bytes]:
    """The input as two pieces, as a stream may bring it."""
    middle = len(data) // 2
    return data[:middle], data[middle:]
