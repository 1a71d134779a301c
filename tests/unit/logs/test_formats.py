"""Levels, messages and stack traces in plain, JSON and logfmt lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.logs.formats import Folder, Format, Line, LineReader
from rollbackd.logs.levels import level_of


def read(text: str, form: Format = "auto", version_field: str | None = None) -> Line:
    return LineReader(form, version_field).read(text)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("listening on port 80", "info"),
        ("2026-01-01 12:00:00,123 ERROR shop.cart: it broke", "error"),
        ("2026-01-01 12:00:00 [warn] low on disk", "warning"),
        ("[Error] it broke", "error"),
        ("12:00 | CRITICAL | gone", "critical"),
        ("<error> it broke", "error"),
        ("ERROR: it broke", "error"),
        ("WARNING:root:careful", "warning"),
        ("Error: it broke", "error"),
        ("error: it broke", "error"),
        ("E0102 12:34:56.789012       1 main.go:10] it broke", "error"),
        ("W0102 12:34:56.789012       1 main.go:10] careful", "warning"),
        ("I0102 12:34:56.789012       1 main.go:10] no ERROR here", "info"),
        ("F0102 12:34:56.789012       1 main.go:10] gone", "critical"),
        ("ts=1 level=error msg=broke", "error"),
        ("level: warn - careful", "warning"),
        ("INFO handled ERROR page", "info"),
        ("DEBUG x", "debug"),
        ("TRACE x", "debug"),
        ("NOTICE x", "info"),
        ("SEVERE x", "error"),
        ("FATAL x", "critical"),
        ("panic: runtime error: index out of range", "error"),
        ("Traceback (most recent call last):", "error"),
        ('Exception in thread "main" java.lang.IllegalStateException: no', "error"),
        ("TypeError: x is not a function", "error"),
        ("java.lang.NullPointerException", "error"),
        ("Unhandled promise rejection", "error"),
        ("<3>kernel says no", "error"),
        ("<6>all fine", "info"),
        ("\x1b[31mERROR\x1b[0m it broke", "error"),
        ("GET /error-page 200", "info"),
        ("0 errors, 0 warnings", "info"),
        ("the word ERROR " + "x" * 10, "error"),
        ("INFO audit level=error", "info"),
        ("ts=1 level=info INFO ERROR", "info"),
        ("fail: Shop.Cart[0]", "error"),
        ("crit: Shop.Cart[0]", "critical"),
        ("info: Shop.Cart[0] ERROR", "info"),
        ("PHP Fatal error:  Uncaught Exception: boom in /app/x.php:3", "error"),
        ("[24-Nov-2026 13:00:00 UTC] PHP Fatal error:  boom", "error"),
        ("2026/11/24 13:00:00 http: panic serving 127.0.0.1:5: boom", "error"),
        ("thread 'main' panicked at src/main.rs:2:5:", "error"),
        ("(node:7) UnhandledPromiseRejectionWarning: Error: boom", "error"),
        ("/app/x.rb:3:in `foo': boom (RuntimeError)", "error"),
        ("RuntimeError (boom):", "error"),
        ("x" * 200 + " ERROR", "info"),
        ("[\u017fevere] no word", "info"),
        ("[cr\u0131t] no word", "info"),
        ("pan\u0131c: no word", "info"),
        ("E\u0660\u0661\u0660\u0662 12:34:56 no digits", "info"),
    ],
)
def test_the_level_of_a_plain_line_is_guessed(text: str, level: str) -> None:
    assert read(text, "plain").level == level


def test_a_plain_line_is_its_own_message() -> None:
    assert read("12:00 \x1b[31mERROR\x1b[0m it broke").message == "12:00 ERROR it broke"


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ('{"level":"error","message":"broke"}', "error", "broke"),
        ('{"severity":"WARNING","msg":"careful"}', "warning", "careful"),
        ('{"level":50,"msg":"pino"}', "error", "pino"),
        ('{"level":30,"msg":"pino"}', "info", "pino"),
        ('{"level":3,"short_message":"gelf"}', "error", "gelf"),
        ('{"level":"E","event":"structlog"}', "error", "structlog"),
        ('{"log":{"level":"fatal"},"message":"ecs"}', "critical", "ecs"),
        ('{"log.level":"error","message":"ecs"}', "error", "ecs"),
        ('{"message":"ERROR inside"}', "error", "ERROR inside"),
        ('{"message":"no level"}', "info", "no level"),
        ('{"level":"unheard-of","message":"x"}', "info", "x"),
        ('{"level":true,"message":"x"}', "info", "x"),
        ('{"level":"error"}', "error", '{"level":"error"}'),
        ('{"level":"error","message":{"a":1}}', "error", '{"level":"error","message":{"a":1}}'),
        ('{"level":"error", cut', "info", '{"level":"error", cut'),
        ('{"a": NaN}', "info", '{"a": NaN}'),
        ('{"Level":"Error","@mt":"serilog"}', "error", "serilog"),
        ('{"severityText":"ERROR","body":"otel"}', "error", "otel"),
        ('{"a":{"b":{"level":"error"}},"message":"deep"}', "info", "deep"),
        ('{"message":"\\ud800"}', "info", '{"message":"\\ud800"}'),
    ],
)
def test_json_lines_are_read(text: str, level: str, message: str) -> None:
    line = read(text)
    assert (line.level, line.message) == (level, message)


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("ts=2026-01-01 level=error msg=broke", "error", "broke"),
        ('level=warn msg="disk \\"a\\" low" pct=3', "warning", 'disk "a" low'),
        ("time=1 lvl=crit message=gone", "critical", "gone"),
        ("level=info", "info", "level=info"),
        ("msg=hello loose words level=error", "error", "hello"),
        ("a=1 b=2", "info", "a=1 b=2"),
        ('level=error msg="unclosed', "error", '"unclosed'),
    ],
)
def test_logfmt_lines_are_read(text: str, level: str, message: str) -> None:
    line = read(text)
    assert (line.level, line.message) == (level, message)


@pytest.mark.parametrize(
    ("text", "field", "version"),
    [
        ('{"message":"x","version":"v2"}', "version", "v2"),
        ('{"message":"x","service":{"version":"v2"}}', "service.version", "v2"),
        ('{"message":"x","service.version":"v2"}', "service.version", "v2"),
        ('{"message":"x","build":17}', "build", "17"),
        ("level=info msg=x release=v2", "release", "v2"),
        ('{"message":"x","version":"v2"}', None, None),
        ('{"message":"x","version":""}', "version", None),
        ('{"message":"x","version":["v2"]}', "version", None),
        ("plain", "version", None),
    ],
)
def test_the_version_field_is_the_operators_choice(text: str, field: str | None, version: str | None) -> None:
    assert read(text, version_field=field).version == version


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("plain", '{"message":"x"}', '{"message":"x"}'),
        ("json", "level=error msg=x", "level=error msg=x"),
        ("logfmt", '{"message":"x"}', '{"message":"x"}'),
        ("json", "not json", "not json"),
    ],
)
def test_a_stated_format_is_the_only_one_tried(form: Format, text: str, message: str) -> None:
    assert read(text, form).message == message


@pytest.mark.parametrize(("word", "level"), [(8, None), (-1, None), (0, "critical"), (7, "debug"), (99, "critical")])
def test_odd_numbers_have_a_level_or_none(word: int, level: str | None) -> None:
    assert level_of(word) == level


@given(st.text(max_size=200), st.sampled_from(["auto", "plain", "json", "logfmt"]))
def test_no_text_breaks_the_reader(text: str, form: Format) -> None:
    read(text, form, "a.b")


def folded(*lines: str, max_chars: int = 10_000) -> list[tuple[str, str]]:
    folder = Folder(LineReader(), max_chars)
    records = [*(folder.take(line) for line in lines), folder.flush()]
    return [(record.level, record.message) for record in records if record is not None]


def test_a_java_stack_trace_is_one_record() -> None:
    trace = [
        "12:00 ERROR Shop - order failed",
        "java.lang.IllegalStateException: no stock".replace("java", "\tjava"),
        "\tat com.shop.Cart.buy(Cart.java:10)",
        "Caused by: java.io.IOException: gone",
        "\t... 12 more",
    ]
    assert folded(*trace, "12:01 INFO next") == [("error", "\n".join(trace)), ("info", "12:01 INFO next")]


def test_a_logged_python_traceback_is_one_record() -> None:
    trace = [
        "12:00 ERROR order failed",
        "Traceback (most recent call last):",
        '  File "shop.py", line 3, in buy',
        "    raise KeyError(item)",
        "shop.errors.OutOfStock: 'socks'",
    ]
    assert folded(*trace, "12:01 INFO next") == [("error", "\n".join(trace)), ("info", "12:01 INFO next")]


def test_a_traceback_after_an_innocent_line_is_an_error_of_its_own() -> None:
    trace = ["Traceback (most recent call last):", '  File "shop.py", line 3, in buy', "KeyError: 'socks'"]
    assert folded("GET / 200", *trace, "GET / 200") == [
        ("info", "GET / 200"),
        ("error", "\n".join(trace)),
        ("info", "GET / 200"),
    ]


def test_a_chain_of_tracebacks_is_one_record() -> None:
    first = ["Traceback (most recent call last):", "  File x", "KeyError: 'a'"]
    between = ["During handling of the above exception, another exception occurred:"]
    assert folded(*first, "", *between, "", *first) == [("error", "\n".join([*first, *between, *first]))]


def test_two_crashes_in_a_row_are_two_records() -> None:
    trace = ["Traceback (most recent call last):", "  File x"]
    assert len(folded(*trace, *trace)) == 2


def test_a_record_does_not_grow_without_end() -> None:
    records = folded("ERROR x", *["  at somewhere"] * 1000, "INFO next", max_chars=200)
    assert [len(message) <= 200 for _, message in records] == [True, True]


def test_empty_lines_say_nothing() -> None:
    assert folded("", "   ", "INFO x", "", "INFO y") == [("info", "INFO x"), ("info", "INFO y")]
