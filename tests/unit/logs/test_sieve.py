"""The fast road tells what the slow one tells: errors with their traces, and how many warnings there were."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.logs.formats import Folder, Format, Line, LineReader
from rollbackd.logs.harmless import TRY_AGAIN, Searcher
from rollbackd.logs.levels import SERIOUS
from rollbackd.logs.rules import LineRule, Rules
from rollbackd.logs.sieve import Sieve

MAX = 4096
FORMATS: list[Format] = ["auto", "plain", "json", "logfmt"]

WORDS = (
    "INFO", "DEBUG", "WARN", "ERROR", "Error:", "error", "[error]", "(warn)", "<3>", "<6>", "level=info", "level=error",
    "level=e", 'level="warn"', "lvl=crit", "severity: error", '"level":"info"', "E1124 13:00:00", "I1124 13:00:00",
    "fail: ", "info: ", "2026-11-24T13:00:00.123Z", "2026-11-24 13:00:00,123", "-", "[main]", "[worker-7]",
    "shop.cart:",
    "request 17 done", "0 errors", "/panic", "=", "x=1", "Traceback (most recent call last):", "KeyError: 'socks'",
    "java.lang.FooException: no", "\tat a.b.C(D.java:1)", "Caused by: x", "goroutine 1 [running]:", "main.main()",
    "panic: boom", "thread 'main' panicked at a.rs:1:2:", "#0 x", "}", " ", "T", "é", "WARNINGS", "XERROR", "_INFO",
    "\x1b[31mERROR\x1b[0m", "\x1b[32mINFO\x1b[0m", "(node:1) Unhandled", "PHP Fatal error:", "x" * 115,
)  # fmt: skip
PLAIN = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).flatmap(
    lambda words: st.sampled_from([" ", "", ": "]).map(lambda joint: joint.join(words))
)
LEVELS = ("info", "INFO", "debug", "error", "WARN", "fatal", "3", "x")
KEYS = ("level", "severity", "lvl", "msg", "ts", "log.level", "a")
VALUES = (
    *(f'"{level}"' for level in LEVELS), "30", "50", "6", "3", "3.5", "null", '"ERROR: x"', '"level"',
    '{"level":"info"}', "[1]",
)  # fmt: skip


def as_json(pairs: dict[str, str], colon: str) -> str:
    return "{" + ",".join(f'"{key}"{colon}{value}' for key, value in pairs.items()) + "}"


OBJECTS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), min_size=1, max_size=4)
JSON = st.builds(as_json, OBJECTS, st.sampled_from([":", ": "]))
LOGFMT = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(LEVELS)), min_size=1, max_size=4).map(
    lambda pairs: " ".join(f"{key}={value}" for key, value in pairs)
)
LINES = st.lists(st.one_of(PLAIN, JSON, LOGFMT), min_size=1, max_size=12)


def told(lines: list[Line]) -> tuple[list[tuple[str, str]], int]:
    """The errors, and how many warnings there were."""
    errors: list[tuple[str, str]] = [(line.level, line.message) for line in lines if line.level in SERIOUS]
    return errors, sum(line.count for line in lines if line.level == "warning")


def slowly(text: str, form: Format) -> tuple[list[tuple[str, str]], int]:
    folder = Folder(LineReader(form), MAX)
    read = [folder.take(line) for line in text.split("\n")]
    return told([line for line in (*read, folder.flush()) if line is not None])


def searched(searcher: Searcher, block: bytes) -> list[int]:
    """The places of suspects but for the end of the block, which may be one."""
    return [place for place in searcher.suspects(b"\n" + block, block.count(b"\n")) if place < len(block)]


def sifted(data: bytes, form: Format = "auto", *, every: int = 1 << 20, rules: Rules | None = None) -> list[Line]:
    sieve = Sieve(LineReader(form, rules=rules), MAX)
    found = [line for at in range(0, len(data), every) for line in sieve.feed(data[at : at + every])]
    return found + sieve.flush()


@given(LINES, st.sampled_from(FORMATS), st.sampled_from([7, 64, 1 << 20]))
def test_both_roads_tell_the_same(lines: list[str], form: Format, every: int) -> None:
    text = "\n".join(["INFO begin", *lines]) + "\n"  # what begins within a trace belongs to nothing that was seen
    assert told(sifted(text.encode(), form, every=every)) == slowly(text, form)


@given(LINES, st.sampled_from(FORMATS))
def test_both_roads_tell_the_same_of_a_log_whose_lines_have_no_level(lines: list[str], form: Format) -> None:
    """Then it is searched for words."""
    text = "\n".join(["GET / 200", *lines, *["GET / 200"] * 40]) + "\n"
    assert told(sifted(text.encode(), form)) == slowly(text, form)


STAMPS = st.sampled_from(["2026-11-24T13:00:00.123Z ", "2026-11-24 13:00:00,123 ", "13:00:00 - ", "1732453200 ", "0T "])
NAMES = ("INFO", "DEBUG", "TRACE", "WARN", "WARNING", "ERROR", "FATAL", "WARNED", "WARN=", "xWARN")
ORDINARY = st.one_of(
    st.builds("{}{} {}".format, STAMPS, st.sampled_from(NAMES), st.sampled_from(WORDS)),
    st.builds('{{"ts":"2026","level":"{}","msg":"ERROR {}"}}'.format, st.sampled_from(LEVELS), st.integers(0, 99)),
    st.builds('{{"time":1732453200000,"level":{}}}'.format, st.sampled_from([4, 40, 41, 6, 30, 50, 400])),
    st.builds('ts=1 level={} msg="request {}"'.format, st.sampled_from(LEVELS), st.integers(0, 99)),
    st.sampled_from(
        ["\tat a.b.C(D.java:1)", "  WARN padded", "Traceback (most recent call last):", "KeyError: 'x'", ""]
    ),
)


@given(st.lists(ORDINARY, max_size=30), st.sampled_from(FORMATS), st.lists(st.integers(1, 200), min_size=1))
def test_both_roads_tell_the_same_of_ordinary_logs_in_any_pieces(
    lines: list[str], form: Format, sizes: list[int]
) -> None:
    text = "\n".join(["INFO begin", *lines]) + "\n"
    left, sieve, found = text.encode(), Sieve(LineReader(form), MAX), list[Line]()
    for size in itertools.cycle(sizes):
        found += sieve.feed(left[:size])
        left = left[size:]
        if not left:
            break
    found += sieve.flush()
    assert told(found) == slowly(text, form)
    assert (
        sum(1 + line.message.count("\n") if line.level in SERIOUS else line.count for line in found) <= len(lines) + 1
    )


@given(st.binary(max_size=300), st.sampled_from(FORMATS))
def test_no_bytes_break_it(data: bytes, form: Format) -> None:
    sifted(data, form, every=16)


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-24T13:00:00.123Z INFO  [worker-12] shop.cart: GET /api/v1/cart 200 in 31 ms",
        "2026-11-24 13:00:00,123 - shop.cart - INFO - request done",
        "13:00:00.123 [main] DEBUG c.s.Cart - request done",
        "INFO:root:request done",
        "[2026-11-24 13:00:00] [info] request done",
        "I1124 13:00:00.123456       1 main.go:10] request done",
        '{"ts":"2026-11-24T13:00:00Z","level":"info","msg":"request done"}',
        '{"level":30,"time":1732453200000,"msg":"request done"}',
        'ts=2026-11-24T13:00:00Z level=info msg="request done"',
        "info: Microsoft.Hosting.Lifetime[14]",
    ],
)
def test_the_usual_harmless_line_is_passed_over_at_first_sight(line: str) -> None:
    assert searched(Searcher("auto"), f"{line}\n".encode() * 3) == []


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-24T13:00:00.123Z WARN  [worker-12] shop.cart: slow query",
        'ts=2026-11-24T13:00:00Z level=warn msg="slow query"',
    ],
)
def test_the_usual_warning_is_told_at_first_sight(line: str) -> None:
    assert Searcher("auto").warns(line.encode(), 0, MAX)


def test_an_error_in_broken_json_that_calls_itself_a_warning_is_told() -> None:
    line = '{"a":o,"level":"warn","msg":"ERROR x"}'
    assert told(sifted(f"{line}\n".encode())) == ([("error", line)], 0)


def test_a_rule_finds_its_lines_among_the_warnings() -> None:
    rules = Rules([LineRule(match="disk full", level="error")])
    data = b"2026-11-24 WARN disk full\n2026-11-24 WARN slow\n"
    assert told(sifted(data, rules=rules)) == ([("error", "2026-11-24 WARN disk full")], 1)


def test_what_is_below_an_error_is_counted_once_a_block() -> None:
    data = b"INFO a\n\nDEBUG b\nERROR c\n  at d\n\nINFO e\nWARN f\n"
    assert sifted(data) == [
        Line("error", "ERROR c\n  at d"),
        Line("warning", "", count=1),
        Line("info", "", count=3),
    ]


def test_a_log_whose_lines_have_no_level_is_looked_at_anew_now_and_then() -> None:
    searcher = Searcher("auto")
    assert searched(searcher, b"GET / 200\n" * 50 + b"12:00 error: x\n") == [500]
    for _ in range(TRY_AGAIN - 1):
        assert searched(searcher, b"GET /error 200\n") == [0]
    assert searched(searcher, b"INFO error\n" * 50) == []


def test_a_line_in_pieces_is_one_line() -> None:
    sieve = Sieve(LineReader(), MAX)
    assert sieve.feed(b"ERR") == []
    assert sieve.unfinished == 3
    assert sieve.feed(b"OR a\nINFO") == []
    assert sieve.unfinished == 12
    assert sieve.feed(b" b\n") == [Line("error", "ERROR a"), Line("info", "", count=1)]
    assert sieve.unfinished == 0


def test_a_line_that_is_too_long_is_cut_and_counted() -> None:
    sieve = Sieve(LineReader(), 10)
    found = sieve.feed(b"ERROR " + b"x" * 50)
    found += sieve.feed(b"x" * 50)
    found += sieve.feed(b"x\nERROR b\n") + sieve.flush()
    assert [line.message for line in found] == ["ERROR xxxx", "ERROR b"]
    assert sieve.cut == 1


def test_a_rule_finds_its_lines_among_the_harmless() -> None:
    rules = Rules([LineRule(match=r"status=5\d\d", level="error"), LineRule(match="^ERROR.*retry", level="info")])
    data = b"INFO a status=200\nINFO b status=503\nERROR c retry\nERROR d\n"
    assert told(sifted(data, rules=rules))[0] == [("error", "INFO b status=503"), ("error", "ERROR d")]


def test_a_rule_does_not_match_across_lines() -> None:
    rules = Rules([LineRule(match=r"a[^x]*b", level="error")])
    assert told(sifted(b"INFO a\nINFO b\nINFO ab\n", rules=rules))[0] == [("error", "INFO ab")]


@pytest.mark.parametrize(
    "piece",
    [b"[", b"T", b"a ", b"level", b'"level":', b"a=b ", b'{"l', b"INFO", b"(((", b"x.x(", b"Error", b"}]", b"\xff"],
)
def test_a_line_made_to_be_slow_is_not(piece: bytes) -> None:
    began = time.process_time()
    data = piece * (60_000 // len(piece)) + b"\n"
    Sieve(LineReader(), 64 * 1024).feed(b"ERROR x\n" + data + b"ERROR " + data)
    assert time.process_time() - began < 2
