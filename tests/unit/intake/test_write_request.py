"""Remote write's messages as bytes: what is read of them, and that no bytes do harm."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Container, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollbackd.intake.write_histogram import MAX_BUCKETS, Histogram, read_histogram
from rollbackd.intake.write_request import (
    MAX_HEADS,
    MAX_SYMBOLS,
    Heads,
    Sample,
    Tally,
    labels_v1,
    labels_v2,
    read_v1,
    read_v2,
)
from rollbackd.wire import Malformed, fields, signed, varint, zigzag
from tests.support import remote_write as write
from tests.support.remote_write import Native, Pushed, request_v1, request_v2, series

T = 1_700_000_000.123
WANTED = frozenset({b"up", b"http_requests_total", b"latency", "größe".encode()})
fuzzed = settings(max_examples=400, deadline=None)

Read = tuple[dict[str, str], float, float, float, Histogram | None]


def v1(body: bytes, known: Container[bytes] = (), tally: Tally | None = None) -> list[Read]:
    found = read_v1(body, Heads(WANTED), known, tally or Tally())
    return [(labels_v1(key), t, value, start, histogram) for key, t, value, start, histogram in found]


def v2(body: bytes, tally: Tally | None = None) -> list[Read]:
    found = read_v2(body, WANTED, tally or Tally())
    return [(labels_v2(key), t, value, start, histogram) for key, t, value, start, histogram in found]


SOME = [
    series("up", T, 1.5, job="shop", instance="a:80"),
    series("up", T, 0.0, job="shop", instance="b:80"),
    Pushed({"__name__": "up", "job": "x" * 200, "Zone": 'ä\n"\x00'}, [(T, 1.0), (T + 15, 2.0), (-1.0, -7.25)]),
    Pushed({"__name__": "up"}, [(T, 3.0)], exemplars=2),
    Pushed({"__name__": "up", "le": "+Inf"}, []),
    series("node_load1", T, 1.0, job="node"),
    series("größe", T, 1e300, job="shop"),
]
READ = [
    (dict(one.labels), t, value, 0.0, None)
    for one in SOME
    for t, value in one.samples
    if one.labels["__name__"] != "node_load1"
]


def test_version_1_says_what_was_sent() -> None:
    tally = Tally()
    assert v1(request_v1(SOME, metadata=True), tally=tally) == READ
    assert tally == Tally(samples=7, exemplars=2, unwanted=1)


def test_version_2_says_what_was_sent() -> None:
    tally = Tally()
    assert v2(request_v2(SOME), tally) == READ
    assert tally == Tally(samples=8, exemplars=2, unwanted=1)


def test_what_is_known_is_read_the_same_way() -> None:
    body, heads = request_v1(SOME), Heads(WANTED)
    known = {key for key, *_ in read_v1(body, heads, (), Tally())} | {b""}
    for _ in range(2):
        tally = Tally()
        found = [(labels_v1(key), *rest) for key, *rest in read_v1(body, heads, known, tally)]
        assert found == READ
        assert tally == Tally(samples=7, exemplars=2, unwanted=1)


def test_names_of_no_use_are_remembered_within_bounds() -> None:
    heads = Heads(WANTED)
    for n in range(MAX_HEADS + 5):
        assert list(read_v1(request_v1([series(f"of_no_use_{n}", T, 1.0, job="shop")]), heads, (), Tally())) == []
    assert len(heads.useless) == 5


def test_a_name_is_found_wherever_it_stands_and_however_long_it_is() -> None:
    long = "long_" * 40
    sent = [series(long, T, 1.0), series(long, T, 2.0, Zone="a"), series("up", T, 3.0, AAAAAAAA="b")]
    assert [(labels["__name__"], value) for labels, _, value, _, _ in v1(request_v1(sent))] == [
        (long, 1.0),
        (long, 2.0),
        ("up", 3.0),
    ]


@pytest.mark.parametrize(
    "ending", [b"\x12\x10\x09" + b"\x12" * 8 + b"\x10" + "\u20ac\u00e9\x01".encode(), b"\x12\x07" * 9]
)
def test_a_label_that_looks_like_a_sample_is_a_label(ending: bytes) -> None:
    """Though the labels before it are known: a value may hold anything."""
    plain = write.message(1, b"\n\x08__name__\x12\x02up")
    label = write.message(1, b"\n\x01z" + write.message(2, ending))
    begun = label[: -len(ending)]
    assert list(read_v1(write.message(1, plain + label), Heads(WANTED), {plain, begun}, Tally())) == []
    sampled = plain + label + write.message(2, write.double(1, 1.0) + write.number(2, 5))
    found = list(read_v1(write.message(1, sampled), Heads(WANTED), {plain, begun}, Tally()))
    assert [(key, value) for key, _, value, _, _ in found] == [(plain + label, 1.0)]


def test_a_start_comes_with_version_2() -> None:
    one = Pushed({"__name__": "up"}, [(T, 1.0), (T + 1, Native({1: 1.0}, start=T - 5))], start=T - 9)
    assert [start for _, _, _, start, _ in v2(request_v2([one]))] == [T - 9, T - 5]


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("read", [lambda one: v1(request_v1(one)), lambda one: v2(request_v2(one))])
def test_native_histograms_are_read_as_counts_up_to_bounds(read: object, floats: bool) -> None:
    assert callable(read)
    native = Native({-2: 3.0, 0: 4.0, 8: 5.0}, schema=3, zero=2.0, floats=floats)
    ((_, t, _, _, histogram),) = read([series("latency", T, native)])
    assert isinstance(histogram, Histogram)
    assert t == T
    buckets = histogram.buckets(1.0)
    picked = {bound: buckets[bound] for bound in ("0.0009765625", "0.707106781187", "1", "1.41421356237", "2", "+Inf")}
    assert picked == {
        "0.0009765625": 2, "0.707106781187": 2, "1": 9, "1.41421356237": 9, "2": 14, "+Inf": 14,
    }  # fmt: skip


def test_native_histograms_with_bounds_of_their_own() -> None:
    native = Native({0: 3.0, 2: 4.0}, schema=-53, bounds=[5.0, 25.0])
    ((_, _, _, _, histogram),) = v1(request_v1([series("latency", T, native)]))
    assert histogram is not None
    assert histogram.buckets(0.001) == {"0.005": 3, "0.025": 3, "+Inf": 7}


@pytest.mark.parametrize(
    "native",
    [Native({1: 1.0}, gauge=True), Native({1: 1.0}, schema=9), Native({1: 1.0}, schema=-53, bounds=[2.0, 1.0])],
)
def test_histograms_that_are_no_such_counts_say_nothing(native: Native) -> None:
    ((_, _, _, _, histogram),) = v1(request_v1([series("latency", T, native)]))
    assert histogram is not None
    assert histogram.buckets(1.0) == {}


def test_spans_that_promise_more_than_there_is_cost_nothing() -> None:
    span = write.message(11, write.number(1, 2) + write.number(2, (1 << 32) - 1))
    found = read_histogram(body := span * 5 + write.message(12, b"\x02\x00"), 0, len(body))
    assert found.buckets(1.0)["+Inf"] == 2
    for body in (
        write.message(12, b"\x02" * (MAX_BUCKETS + 1)),
        span * (MAX_BUCKETS + 1),
        b"\x68\x02" * MAX_BUCKETS * 2,
    ):
        with pytest.raises(Malformed):
            read_histogram(body, 0, len(body))


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x0b\x0c",
        b"\x00",
        write.message(1, b"\x0a\x02\x0a\x05\x12\x00"),
        write.message(1, write.message(1, b"\n\x02\xff\xff") + b"\x12\x00"),
        write.message(1, write.number(2, 7)),
        write.message(1, write.message(2, b"\x09\x00")),
        request_v1(SOME)[:-1],
    ],
)
def test_what_is_no_version_1_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        v1(body)


@pytest.mark.parametrize(
    "body",
    [
        b"\x2a\x00",
        write.message(4, b"up"),
        write.message(4, b"") + write.message(5, write.message(1, b"\x01\x02")),
        write.message(4, b"") + write.message(5, write.message(1, b"\x00")),
        write.message(4, b"")
        + write.message(4, b"\xfe")
        + write.message(5, write.message(1, b"\x01\x01") + b"\x12\x00"),
        write.message(4, b"") * (MAX_SYMBOLS + 1),
        request_v2(SOME)[:-1],
    ],
    ids=range(7),
)
def test_what_is_no_version_2_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        v2(body)


def test_one_version_read_as_the_other_is_empty_or_malformed() -> None:
    assert v1(request_v2(SOME)) == []
    with pytest.raises(Malformed):
        v2(request_v1(SOME))


@given(value=st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_read_as_they_were_written(value: int) -> None:
    for written, read in ((write.varint(value), signed), (write.zigzag(value), zigzag)):
        number, end = varint(written, 0, len(written))
        assert (read(number), end) == (value, len(written))


def read_everything(body: bytes) -> None:
    """Whatever the bytes are, they are read or Malformed, and what is read is of the right types."""
    keys: set[bytes] = set()
    for _ in range(2):  # the second time, the series are known
        try:
            for found in read_v1(body, Heads(WANTED), keys, Tally()):
                sound(found)
                labels_v1(found[0])
                keys.add(found[0])
        except Malformed:
            pass
    try:
        for found in read_v2(body, WANTED, Tally()):
            sound(found)
            labels_v2(found[0])
    except Malformed:
        pass
    try:
        for _ in fields(body, 0, len(body)):
            pass
        read_histogram(body, 0, len(body)).buckets(1.0)
    except Malformed:
        pass


def sound(found: Sample) -> None:
    key, t, value, start, histogram = found
    assert isinstance(key, bytes)
    assert math.isfinite(t)
    assert math.isfinite(start)
    assert isinstance(value, float)
    if histogram is not None:
        counts = list(histogram.buckets(1.0).values())
        assert len(counts) < 100


NATIVES = [series("latency", T, Native({1: 2.0, 5: 1.0}, floats=floats)) for floats in (False, True)]
VALID: Sequence[bytes] = [request_v1([*SOME, *NATIVES], metadata=True), request_v2([*SOME, *NATIVES])]


@fuzzed
@given(body=st.binary(max_size=400))
def test_no_bytes_crash_a_reader(body: bytes) -> None:
    read_everything(body)


@fuzzed
@given(data=st.data())
def test_no_damage_crashes_a_reader(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    read_everything(bytes(body))


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x00" * 100_000,
        b"\x22\x00" * 80_000 + b"\x2a\x00" * 20_000,
        write.message(1, write.message(12, b"\x00" * 200_000)),
        write.message(1, b"\x0a\x00" * 100_000),
    ],
    ids=["series", "symbols", "deltas", "labels"],
)
def test_hostile_bytes_take_little_more_room_than_they_are(body: bytes) -> None:
    tracemalloc.start()
    try:
        read_everything(body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * len(body)
