"""Reading what is pushed to Loki, from senders and from anybody."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rollbackd.logs.loki_push import (
    MAX_LABELS_CHARS,
    Malformed,
    Pushed,
    parse_labels,
    read_json,
    read_protobuf,
)
from tests.support.loki_push import entry, number, part, push, varint


def test_a_protobuf_push_gives_its_streams_and_lines() -> None:
    body = push(
        ('{app="shop", env="prod"}', [entry(1_700_000_000_123_456_789, "one", trace_id="t"), entry(5, "two")]),
        ("{}", []),
    )
    one, other = read_protobuf(body)
    assert (one.labels, one.count) == ({"app": "shop", "env": "prod"}, 2)
    assert list(one.entries()) == [
        Pushed(1_700_000_000_123_456_789, "one", {"trace_id": "t"}),
        Pushed(5, "two", {}),
    ]
    assert (other.labels, other.count, list(other.entries())) == ({}, 0, [])


def test_a_json_push_gives_the_same() -> None:
    values = [["1700000000123456789", "one", {"trace_id": "t"}], ["5", "two"], ["soon", "three"]]
    body = json.dumps({"streams": [{"stream": {"app": "shop"}, "values": values}]}).encode()
    [stream] = read_json(body)
    assert (stream.labels, stream.count) == ({"app": "shop"}, 3)
    assert list(stream.entries()) == [
        Pushed(1_700_000_000_123_456_789, "one", {"trace_id": "t"}),
        Pushed(5, "two", {}),
        Pushed(None, "three", {}),
    ]


def test_unknown_fields_are_passed_over() -> None:
    """Such as a stream's hash, a push's format, and what is yet to come."""
    strange = number(9, 1) + part(10, b"x") + varint(11 << 3 | 1) + b"8 bytes." + varint(12 << 3 | 5) + b"4 by"
    stream = part(1, b'{a="b"}') + number(3, 12345) + strange + entry(1, "x")
    [found] = read_protobuf(part(1, stream) + part(2, b"loki") + strange)
    assert list(found.entries()) == [Pushed(1, "x", {})]


@pytest.mark.parametrize(
    ("seconds", "nanoseconds", "moment"),
    [(0, 0, 0), (1, 999_999_999, 1_999_999_999), (1, 10**9, None), (-1, 0, None), (1 << 62, 0, None), (0, -1, None)],
)
def test_a_time_that_is_none_costs_no_line(seconds: int, nanoseconds: int, moment: int | None) -> None:
    made = part(2, part(1, number(1, seconds) + number(2, nanoseconds)) + part(2, b"x"))
    [stream] = read_protobuf(push(("{}", [made])))
    assert list(stream.entries()) == [Pushed(moment, "x", {})]


def test_bytes_that_are_no_text_are_replaced() -> None:
    [stream] = read_protobuf(push(("{}", [entry(1, b"a\xff")])))
    assert [one.line for one in stream.entries()] == ["a\ufffd"]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("{}", {}),
        (" { } ", {}),
        ('{a="b"}', {"a": "b"}),
        ('{a="b",}', {"a": "b"}),
        ('{ a = "b" , _c9="" }', {"a": "b", "_c9": ""}),
        ('{a="}{,=\\"x\\""}', {"a": '}{,="x"'}),
        (r'{a="\\\n\t\u00e9\U0001f600\xc3\xa9\101"}', {"a": "\\\n\té😀éA"}),
        (r"{a=`\n`}", {"a": r"\n"}),
        ('{a="é"}', {"a": "é"}),
        (r'{a="\xff"}', {"a": "\ufffd"}),
    ],
)
def test_labels_are_read_as_loki_writes_them(text: str, labels: dict[str, str]) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "}",
        "a",
        "{,}",
        "{a=b}",
        '{a="b"',
        '{a="b"}}',
        '{a="b"} x',
        '{a="b" c="d"}',
        '{a="b",,c="d"}',
        '{a!="b"}',
        '{9a="b"}',
        '{a="b\\"}',
        '{a="b\\q"}',
        '{a="\\U00110000"}',
        "{" + 'a="b",' * MAX_LABELS_CHARS + "}",
    ],
)
def test_other_labels_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_labels(text)


@given(st.dictionaries(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True), st.text(max_size=20), max_size=5))
def test_labels_that_were_written_are_read(labels: dict[str, str]) -> None:
    quoted = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())
    assert parse_labels("{" + quoted + "}") == labels


@given(st.text(max_size=200) | st.text('{}=,"`\\aux0', max_size=60))
def test_hostile_labels_raise_nothing_else(text: str) -> None:
    try:
        parse_labels(text)
    except Malformed:
        return


def test_hostile_labels_take_no_long() -> None:
    for text in ('{a="' + "\\" * 60_000, "{" + " " * 60_000, '{a="b"' + " " * 60_000 + "x", "{" + "a" * 60_000):
        with pytest.raises(Malformed):
            parse_labels(text)


def drained(body: bytes) -> None:
    for read in (read_protobuf, read_json):
        try:
            for stream in read(body):
                assert len(list(stream.entries())) == stream.count
        except Malformed:
            continue


@given(st.binary(max_size=200))
@example(b"\x0a\x00")
@example(b"\xff" * 30)
@example(b"[" * 50_000)
@example(b'{"streams":[{"stream":{},"values":[["1","\\ud800"]]}]}')
def test_hostile_bytes_raise_nothing_else(body: bytes) -> None:
    drained(body)


@given(st.data())
def test_damaged_pushes_raise_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(push(('{app="shop"}', [entry(1, "one", a="b"), entry(2, "two")]), ("{}", [entry(3, "x")])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    drained(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\x0a\x05ab",
        b"\x08\x01",
        b"\x0f",
        b"\x02\x00",
        b"\x0a\x02\x08\x01",
        b"\x80" * 11,
        push(("{}", [part(2, part(1, part(1, b"x")))])),
    ],
)
def test_what_is_no_push_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        sum(len(list(stream.entries())) for stream in read_protobuf(body))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"streams":{}}', b'{"streams":[{"stream":{"a":1},"values":[]}]}', b"\xff"]
)
def test_what_is_no_json_push_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_json(body)


def test_lines_are_read_only_when_they_are_asked_for() -> None:
    """A stream that is nobody's costs little, and lines are not all in memory at once."""
    body = push(("{}", [entry(number, "x" * 1000) for number in range(2000)]))
    tracemalloc.start()
    try:
        [stream] = read_protobuf(body)
        counted = sum(1 for _ in stream.entries())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counted == 2000
    assert peak < len(body) / 4
