"""The two messages of Prometheus' remote write, as far as they are wanted.

Formats: https://prometheus.io/docs/specs/prw/remote_write_spec/ and
https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/. Most of what comes is not wanted. So nothing is decoded
that need not be: a series is told by the bytes of its labels, and passed over by the name of its metric where nobody
asked for that.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from rollbackd.intake.write_histogram import Histogram, read_histogram
from rollbackd.wire import LENGTH, VARINT, Malformed, check, double, fields, signed, text, varint, varints

Sample: TypeAlias = tuple[bytes, float, float, float, Histogram | None]
"""The key of a series, the moment in Unix seconds, the value, since when it counts (0 where unknown), and the histogram
that stands in the place of a value, if one does."""

MAX_HEADS = 10_000
"""Names of metrics of no use that are remembered; those of one Prometheus are some thousand."""

MAX_SYMBOLS = 500_000
"""Texts of one request of version 2; those of Prometheus have a few thousand."""

MAX_LABELS = 1000
"""Labels of one series."""

_NAME = b"__name__"
_NAMED = b"\n\x08__name__\x12"
_VALUE = struct.Struct("<d")
_APART = b"\xff"
"""Stands in no text that is UTF-8."""


@dataclass
class Tally:
    """How much a request held, with what was passed over, whose series are `unwanted`."""

    samples: int = 0
    histograms: int = 0
    exemplars: int = 0
    unwanted: int = 0

    def refuse(self, histogram: Histogram | None) -> None:
        """A sample, or the histogram in its place, was not taken in."""
        if histogram is None:
            self.samples -= 1
        else:
            self.histograms -= 1


# -- version 1


class Heads:
    """How the series of metrics begin on the wire: of those that are wanted, and of those that were found not to be."""

    def __init__(self, wanted: Collection[bytes]) -> None:
        self.useless: set[bytes] = set()
        self._wanted = frozenset(_NAMED + bytes([len(name)]) + name for name in wanted if len(name) < 0x80)

    def is_useless(self, head: bytes) -> bool:
        """Whether nobody wants a series that begins so, as far as that can be told: names of 128 bytes cannot."""
        if head in self._wanted or not head.startswith(_NAMED) or head[len(_NAMED)] >= 0x80:
            return False
        if len(self.useless) >= MAX_HEADS:
            self.useless.clear()
        self.useless.add(head)
        return True


def read_v1(body: bytes, heads: Heads, known: Container[bytes], tally: Tally) -> Iterator[Sample]:
    """The samples of a `prometheus.WriteRequest`. Series that begin in a useless way are passed over, and with them
    what they hold and whether that is sound. `known` are keys that `labels_v1` has read.

    Raises Malformed on the way.
    """
    try:
        yield from _read_v1(body, heads, known, tally)
    except IndexError:
        raise Malformed("the message is cut off") from None


def _read_v1(body: bytes, heads: Heads, known: Container[bytes], tally: Tally) -> Iterator[Sample]:
    at, size, unwanted = 0, len(body), 0
    stamp, t, value = b"", 0.0, 0.0
    useless, unpack = heads.useless, _VALUE.unpack_from
    while at < size:
        if body[at] != 0x0A:
            at = _passed(body, at, size)
            continue
        length = body[at + 1]
        at += 2
        if length >= 0x80:
            more = body[at]
            if more < 0x80:
                length += (more << 7) - 0x80
                at += 1
            else:
                length, at = varint(body, at - 1, size)
        end = at + length
        if length > 25:
            head = body[at + 2 : at + 14 + body[at + 13]]
            if head in useless or heads.is_useless(head):
                unwanted += 1
                at = end
                continue
            # With one sample it ends like this, the value left out where that is 0. So may something else, but only
            # labels that were read whole are known.
            key = None
            if body[end - 7] == 0x10:
                if body[end - 16] == 0x09 and body[end - 17] == 0x10 and body[end - 18] == 0x12:
                    key, value = body[at : end - 18], unpack(body, end - 15)[0]
                elif body[end - 8] == 0x07 and body[end - 9] == 0x12:
                    key, value = body[at : end - 9], 0.0
            if key is not None and key in known:
                if body[end - 6 : end] != stamp:
                    stamp = body[end - 6 : end]
                    number, stop = varint(stamp, 0, 6)
                    if stop != 6:
                        raise Malformed("a sample does not end where it should")
                    t = number / 1000
                tally.samples += 1
                yield key, t, value, 0.0, None
                at = end
                continue
        if end > size:
            break
        yield from _series_v1(body, at, end, tally)
        at = end
    if at != size:
        raise Malformed("a series reaches beyond the end")
    tally.unwanted += unwanted


def _passed(body: bytes, at: int, size: int) -> int:
    """Where the field that begins here ends."""
    return next(fields(body, at, size)).end


def _series_v1(body: bytes, begin: int, end: int, tally: Tally) -> Iterator[Sample]:
    labels: list[bytes] = []
    found: list[tuple[float, float, float, Histogram | None]] = []
    for one in fields(body, begin, end):
        if one.number == 1:
            check(one, LENGTH)
            labels.append(body[begin : one.end])
            if len(labels) > MAX_LABELS:
                raise Malformed(f"a series has more than {MAX_LABELS} labels")
        elif one.number == 2:
            found.append((*_sample(body, check(one, LENGTH).begin, one.end), None))
            tally.samples += 1
        elif one.number == 4:
            histogram = read_histogram(body, check(one, LENGTH).begin, one.end)
            found.append((histogram.t, 0.0, histogram.start, histogram))
            tally.histograms += 1
        elif one.number == 3:
            tally.exemplars += 1
        begin = one.end
    key = b"".join(labels)
    for t, value, start, whole in found:
        yield key, t, value, start, whole


def _sample(body: bytes, begin: int, end: int) -> tuple[float, float, float]:
    t = value = start = 0.0
    for one in fields(body, begin, end):
        if one.number == 1:
            value = double(body, one)
        elif one.number == 2:
            t = signed(check(one, VARINT).value) / 1000
        elif one.number == 3:
            start = signed(check(one, VARINT).value) / 1000
    return t, value, start


def labels_v1(key: bytes) -> dict[str, str]:
    """The labels that a key of `read_v1` stands for. Raises Malformed."""
    labels: dict[str, str] = {}
    at, size = 0, len(key)
    try:
        while at < size:
            # Of short texts, a label is four bytes and the two texts.
            begin, length = at + 4, key[at + 1]
            middle = begin + key[at + 3]
            end = at + 2 + length
            plain = length < 0x80 and key[at] == key[at + 2] == 0x0A and key[middle] == 0x12
            if plain and middle + 2 + key[middle + 1] == end <= size:
                labels[key[begin:middle].decode()] = key[middle + 2 : end].decode()
                at = end
                continue
            one = check(next(fields(key, at, size)), LENGTH)
            name = value = ""
            for part in fields(key, one.begin, one.end):
                if part.number == 1:
                    name = text(key, part)
                elif part.number == 2:
                    value = text(key, part)
            labels[name] = value
            at = one.end
    except (IndexError, UnicodeDecodeError):
        raise Malformed("a label is cut off, or not UTF-8") from None
    return labels


# -- version 2


def read_v2(body: bytes, wanted: Collection[bytes], tally: Tally) -> Iterator[Sample]:
    """The samples of an `io.prometheus.write.v2.Request`, in the same way. Raises Malformed on the way."""
    symbols = [body[one.begin : check(one, LENGTH).end] for one in fields(body, 0, len(body)) if one.number == 4]
    if len(symbols) > MAX_SYMBOLS:
        raise Malformed(f"there are more than {MAX_SYMBOLS} symbols")
    if not symbols or symbols[0]:
        raise Malformed("the first symbol is not the empty text")
    names = {place for place, symbol in enumerate(symbols) if symbol == _NAME}
    useful = {place for place, symbol in enumerate(symbols) if symbol in wanted}
    for one in fields(body, 0, len(body)):
        if one.number == 5:
            yield from _series_v2(body, check(one, LENGTH).begin, one.end, symbols, names, useful, tally)


def _series_v2(
    body: bytes, begin: int, end: int, symbols: list[bytes], names: set[int], useful: set[int], tally: Tally
) -> Iterator[Sample]:
    refs: list[int] = []
    found: list[tuple[float, float, float, Histogram | None]] = []
    created, is_useful = 0.0, True
    for one in fields(body, begin, end):
        match one.number:
            case 1:
                refs += varints(body, one, 2 * MAX_LABELS)
                is_useful = not (len(refs) > 1 and refs[0] in names and refs[1] not in useful)
            case 2:
                tally.samples += 1
                if is_useful:
                    found.append((*_sample(body, check(one, LENGTH).begin, one.end), None))
            case 3:
                tally.histograms += 1
                if is_useful:
                    histogram = read_histogram(body, check(one, LENGTH).begin, one.end)
                    found.append((histogram.t, 0.0, histogram.start, histogram))
            case 4:
                tally.exemplars += 1
            case 6:
                created = signed(check(one, VARINT).value) / 1000
            case _:
                pass
    if not is_useful:
        tally.unwanted += 1
        return
    if len(refs) % 2 or len(refs) > 2 * MAX_LABELS or max(refs, default=0) >= len(symbols):
        raise Malformed("the labels of a series are no pairs of symbols")
    key = _APART + _APART.join([symbols[ref] for ref in refs])
    for t, value, start, whole in found:
        yield key, t, value, start or created, whole


def labels_v2(key: bytes) -> dict[str, str]:
    """The labels that a key of `read_v2` stands for. Raises Malformed."""
    try:
        texts = [part.decode() for part in key[1:].split(_APART)] if len(key) > 1 else []
        return dict(zip(texts[::2], texts[1::2], strict=True))
    except ValueError:
        raise Malformed("a label is not UTF-8") from None
