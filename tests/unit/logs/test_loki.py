"""Reading what Loki answers. The files in `loki/` are answers of Loki 3.7.8, without their statistics."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rollbackd.logs.loki import Entries, Entry, Foreign, NotLines, moment_of, read_answer, read_frame, selector

RECORDED = Path(__file__).parent / "loki"


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.json").read_bytes()


def shown(entries: list[Entry]) -> list[tuple[str, str | None, str | None]]:
    return [(entry.line, entry.label("detected_level"), entry.label("version")) for entry in entries]


def frame(*values: object, **labels: str) -> str:
    return json.dumps({"streams": [{"stream": labels or {"app": "x"}, "values": values}]})


def test_an_answer_gives_the_lines_of_all_streams_in_order_of_time() -> None:
    page = read_answer(recorded("answer"))
    assert shown(page.entries) == [
        ('level=error msg="card declined" version=v2', "error", None),
        ("Traceback (most recent call last):", "unknown", None),
        ('  File "a.py", line 1 <b>&', "unknown", "v2"),
        ('{"level":"warn","msg":"x"}', "warn", None),
        ("plain text é \x00 \u2028 \U0001f600", "unknown", None),
    ]
    assert len({entry.stream for entry in page.entries}) == 2
    assert len({entry.key for entry in page.entries}) == page.count == 5


def test_lines_of_one_stream_belong_together_only_where_metadata_is_kept_apart() -> None:
    """Without being asked to, Loki makes a stream of each line with other metadata."""
    merged = read_answer(recorded("answer-merged"))
    assert len({entry.stream for entry in merged.entries}) == 4
    assert sorted(shown(merged.entries), key=str) == sorted(shown(read_answer(recorded("answer")).entries), key=str)


def test_what_the_query_parsed_counts_like_labels() -> None:
    first = read_answer(recorded("answer-parsed")).entries[0]
    assert (first.label("level"), first.label("version"), first.label("msg")) == ("error", "v2", "card declined")


def test_a_metric_query_is_refused() -> None:
    with pytest.raises(NotLines, match="the query gives a matrix, not log lines: write a log query"):
        read_answer(recorded("answer-matrix"))


def test_the_tail_gives_the_lines_the_keys_that_the_query_gives_them() -> None:
    """Or a line would be told twice, when it is both sent and asked for."""
    assert {entry.line for entry in read_frame(recorded("tail")).entries} == {
        entry.line for entry in read_answer(recorded("answer")).entries
    }
    sent = json.loads(recorded("tail"))
    answer = json.dumps({"data": {"resultType": "streams", "result": sent["streams"]}}).encode()
    assert read_answer(answer).entries == read_frame(recorded("tail")).entries


def test_a_message_that_tells_what_was_left_out_is_read() -> None:
    assert [entry.line for entry in read_frame(recorded("tail-dropped")).entries] == ["more"]


def test_the_shards_of_a_busy_stream_are_one_stream() -> None:
    one, other = (read_frame(frame(["1", "a"], app="x", __stream_shard__=number)) for number in "12")
    assert one.entries[0].stream == other.entries[0].stream
    assert one.entries[0].key == other.entries[0].key


def test_keys_tell_lines_apart_and_are_in_order_of_time() -> None:
    page = read_frame(frame(["10", "a"], ["9", "a"], ["9", "b"]))
    keys = [entry.key for entry in page.entries]
    assert len(set(keys)) == 3
    assert max(keys[:2]) < keys[2]
    other = read_frame(frame(["9", "a"], app="y"))
    assert other.entries[0].key not in keys


@pytest.mark.parametrize("moment", ["", "-1", "1.5", "x", "١", "9" * 19, "1" * 20, " 1", "1e9"])
def test_a_line_without_a_readable_time_is_counted(moment: str) -> None:
    assert read_frame(frame([moment, "a"], ["5", "b"])).unreadable == 1
    assert moment_of(moment) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"data":{}}',
        b'{"data":{"resultType":"streams","result":{}}}',
        b'{"data":{"resultType":"streams","result":[{"stream":{"a":1},"values":[]}]}}',
        b'{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1"]]}]}}',
        b'{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1","\\ud800"]]}]}}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"<!doctype html>",
    ],
)
def test_what_is_not_lokis_is_refused(body: bytes) -> None:
    with pytest.raises(Foreign):
        read_answer(body)


@given(st.binary() | st.text().map(str.encode))
@example(b'{"streams":null,"dropped_entries":null}')
def test_hostile_bytes_raise_nothing_else(body: bytes) -> None:
    for read in (read_answer, read_frame):
        try:
            assert isinstance(read(body), Entries)
        except (Foreign, NotLines):
            continue


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.fixed_dictionaries({"stream": JSON, "values": st.lists(st.lists(JSON, max_size=4), max_size=3)})))
def test_hostile_values_raise_nothing_else(streams: list[object]) -> None:
    try:
        read_frame(msgspec.json.encode({"streams": streams}))
    except Foreign:
        return


def test_a_selector_quotes_what_it_holds() -> None:
    assert selector({"app": 'a"b\\c\n', "env": "prod"}) == r'{app="a\"b\\c\n", env="prod"}'
