"""The exposition parser against hand-written lines, and against prometheus_client's own parsers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from rollbackd.metrics.exposition import MAX_LINE_BYTES, Exposition, Malformed, Reader, read_line

Key = tuple[str, frozenset[tuple[str, str]]]


def read(body: str | bytes, reader: Reader | None = None, chunk: int = 1 << 20) -> Exposition:
    data = body.encode() if isinstance(body, str) else body
    exposition = Exposition(reader or Reader())
    for at in range(0, len(data), chunk):
        exposition.feed(data[at : at + chunk])
    exposition.end()
    return exposition


def keyed(exposition: Exposition) -> dict[Key, float]:
    return {(series.name, frozenset(series.labels.items())): value for series, value in exposition.samples.items()}


@pytest.mark.parametrize(
    ("line", "name", "labels", "value"),
    [
        ("up 1", "up", {}, 1.0),
        ("  up\t 1  ", "up", {}, 1.0),
        ("up 1 1700000000000", "up", {}, 1.0),
        ("a:b_c{} 0.5", "a:b_c", {}, 0.5),
        ('up{a="b",} 1', "up", {"a": "b"}, 1.0),
        ('up { a = "b" , c = "d" } 1', "up", {"a": "b", "c": "d"}, 1.0),
        (
            'up{p="C:\\\\dir\\\\",q="say \\"hi\\"",r="two\\nlines"} 1',
            "up",
            {"p": "C:\\dir\\", "q": 'say "hi"', "r": "two\nlines"},
            1.0,
        ),
        ('up{a="\\x"} 1', "up", {"a": "\\x"}, 1.0),
        ('up{a="} 5 # {"} 1', "up", {"a": "} 5 # {"}, 1.0),
        ('up{a="x y",b="ü"} 1e3', "up", {"a": "x y", "b": "ü"}, 1000.0),
        ('x_bucket{le="+Inf"} 7 # {trace_id="a b"} 0.67 1520879607.789', "x_bucket", {"le": "+Inf"}, 7.0),
        ('x_total 7 1520879607.789 # {trace_id="}"} 0.67', "x_total", {}, 7.0),
        ('{"http.requests",code="500"} 3', "http.requests", {"code": "500"}, 3.0),
        ('x{"weird label"="v"} 3', "x", {"weird label": "v"}, 3.0),
        ("x +Inf", "x", {}, math.inf),
        ("x -Inf", "x", {}, -math.inf),
        ("x inf", "x", {}, math.inf),
        ("x .5", "x", {}, 0.5),
        ("x 1.7976931348623157e+308", "x", {}, 1.7976931348623157e308),
    ],
)
def test_a_sample_line_is_read(line: str, name: str, labels: dict[str, str], value: float) -> None:
    series, number = read_line(line)
    assert (series.name, series.labels, number) == (name, labels, value)


@pytest.mark.parametrize(
    "line",
    [
        "up",
        "up{",
        'up{a="b" 1',
        "up{a=b} 1",
        'up{a="b"c="d"} 1',
        'up{a="1",a="2"} 1',
        "up one",
        "up 1_000",
        "up 1 2 3",
        "up 1 soon",
        "1up 1",
        "up 1 # exemplar",
        '{"a","b"} 1',
        '{a="b"} 1',
        '{"key": "value"}',
        "<html>",
        "",
        "up 0x1p3",
    ],
)
def test_what_is_no_sample_is_refused(line: str) -> None:
    with pytest.raises(Malformed):
        read_line(line)


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(read_line("x NaN")[1])


def test_the_same_text_is_the_same_series_in_the_next_scrape() -> None:
    reader = Reader()
    first = read('a{b="c"} 1\n', reader)
    second = read('a{b="c"} 2\n', reader)
    assert list(first.samples) == list(second.samples)
    assert list(second.samples.values()) == [2.0]


@pytest.mark.parametrize(
    "later",
    [
        'a{b="c"} 2 1700000000000',
        'a{b="c"} 2 # {t="x"} 1 17.5',
        'a{b="c"} 2 1.7 # {t="x"} 1',
        'a{b="c"}  2',
        'a{b="c"}\t2',
        '\ta{b="c"} 2\r',
    ],
)
def test_a_known_series_is_known_in_every_spelling_of_its_line(later: str) -> None:
    reader = Reader()
    first = read('a{b="c"} 1', reader)
    second = read(later, reader)
    assert (list(second.samples), list(second.samples.values())) == (list(first.samples), [2.0])


def test_a_malformed_value_of_a_known_series_is_counted_and_the_rest_goes_on() -> None:
    reader = Reader()
    read("a 1\nb 1\n", reader)
    again = read("a one\nb 2\n", reader)
    assert (list(again.samples.values()), again.malformed) == ([2.0], 1)


def test_lines_that_nobody_wants_cost_no_memory() -> None:
    reader = Reader(wanted=frozenset({"wanted"}))
    exposition = read("wanted 1\n" + "".join(f'other{{id="{i}"}} 1\n' for i in range(1000)), reader)
    assert (len(exposition.samples), len(reader.known), exposition.malformed) == (1, 1, 0)


def test_series_beyond_the_bound_are_counted_and_the_known_ones_stay() -> None:
    reader = Reader(max_series=2)
    read("a 1\nb 1\n", reader)
    more = read("c 1\na 2\nb 2\nd 1\n", reader)
    assert (sorted(series.name for series in more.samples), more.refused) == (["a", "b"], 2)


def test_a_series_that_is_not_kept_is_not_read() -> None:
    reader = Reader(match={"app": "mine"})
    assert [series.labels for series in read('x{app="mine"} 1\nx{app="yours"} 1\n', reader).samples] == [
        {"app": "mine"}
    ]


@pytest.mark.parametrize(
    "line",
    ['x{app="mine"} 1', 'x{app = "mine"} 1', 'x{"app"="mine"} 1', '{"x",app="mine"} 1', 'x{a="b",app="mine"} 1 17000'],
)
def test_a_series_that_matches_is_found_in_every_spelling(line: str) -> None:
    reader = Reader(frozenset({"x"}), match={"app": "mine"})
    for _ in range(2):
        assert [series.labels["app"] for series in read(f'x{{app="yours"}} 1\n{line}\n', reader, 8).samples] == ["mine"]


def test_a_value_that_has_to_be_escaped_is_matched() -> None:
    reader = Reader(match={"path": 'C:\\"x"'})
    assert len(read('# TYPE x counter\nx{path="C:\\\\\\"x\\""} 1\nx{path="C:"} 1\n', reader, 8).samples) == 1


@pytest.mark.parametrize("line", ["http", "http 1", "http{} 1", "http_ 1", "http_requests_total_of_old 1", "h 1"])
def test_a_name_like_a_wanted_one_hides_nothing(line: str) -> None:
    reader = Reader(frozenset({"http_requests_total", "http_requests_failed"}))
    body = f"# TYPE a counter\n{line}\nhttp_requests_total 1\n{line}\nhttp_requests_failed 2\n"
    assert list(read(body, reader).samples.values()) == [1.0, 2.0]


def test_invalid_utf8_spoils_its_own_line_only() -> None:
    exposition = read(b'a{b="\xff"} 1\nc 2\n')
    assert (list(exposition.samples.values()), exposition.malformed) == ([2.0], 1)


def test_an_endless_line_is_read_over_in_flat_memory() -> None:
    exposition = Exposition(Reader())
    exposition.feed(b'a 1\nb{c="')
    for _ in range(2 * MAX_LINE_BYTES // 65536):
        exposition.feed(b"x" * 65536)
    exposition.feed(b'"} 1\nd 2\n')
    exposition.end()
    assert (sorted(series.name for series in exposition.samples), exposition.malformed) == (["a", "d"], 1)


def test_a_series_with_gigantic_labels_is_refused() -> None:
    assert read('a{b="' + "x" * 5000 + '"} 1\n').malformed == 1


@pytest.mark.parametrize("body", ["<!doctype html><p>hi</p>", '{"status": "ok"}', "\n\n", "service is fine, thanks\n"])
def test_what_is_no_exposition_is_not_sound(body: str) -> None:
    assert not read(body, Reader(wanted=frozenset({"x"}))).sound


@pytest.mark.parametrize("body", ["other 1\n", "# TYPE x counter\n", "# EOF\n", "x 1", "not a line\nother 1\n"])
def test_one_good_line_makes_it_sound(body: str) -> None:
    assert read(body, Reader(wanted=frozenset({"x"}))).sound


def test_the_end_of_openmetrics_is_noticed() -> None:
    assert read("x 1\n# EOF").complete
    assert not read("x 1\n# EO").complete


def test_the_opening_is_fit_to_be_shown() -> None:
    assert read("\n  <!doctype html>\x00\n").opening.startswith("<!doctype html>")
    assert read("").opening == "nothing"


# -- against the reference ---------------------------------------------------------------------------

names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,12}", fullmatch=True)
label_names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name != "le" and not name.startswith("__")  # reserved
)
label_values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)
numbers = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(0, 10**15).map(str),
    st.sampled_from(["+Inf", "-Inf", "1e3", "0.5", "1E-3"]),
)
labels_of = st.dictionaries(label_names, label_values, max_size=4)


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def series_text(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
    return f"{name}{{{inside}}}" if labels else name


def reference(samples: Iterable[tuple[str, dict[str, str], float]]) -> dict[Key, float]:
    return {(name, frozenset(labels.items())): value for name, labels, value in samples}


@given(st.lists(st.tuples(names, labels_of, numbers), max_size=12), st.integers(1, 40), st.booleans())
def test_plain_text_reads_as_the_reference_reads_it(
    rows: list[tuple[str, dict[str, str], str]], chunk: int, stamped: bool
) -> None:
    """Whatever the division into chunks, and in the first scrape as in the second."""
    stamp = " 1700000000000" if stamped else ""
    body = "".join(f"{series_text(name, labels)} {value}{stamp}\n" for name, labels, value in rows)
    expected = reference(
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    )
    reader = Reader()
    assert keyed(read(body, reader, chunk)) == expected
    assert keyed(read(body, reader)) == expected


@given(
    st.dictionaries(names.filter(lambda name: not name.endswith(("_total", "_created"))), labels_of, max_size=6),
    st.integers(0, 10**6),
    labels_of,
)
def test_openmetrics_reads_as_the_reference_reads_it(
    families: dict[str, dict[str, str]], value: int, exemplar: dict[str, str]
) -> None:
    """Counters with creation times and exemplars, and histograms, as the specification writes them.

    Exemplars without quotes and braces: those the reference misreads.
    """
    exemplar = {key: "".join(letter for letter in text[:4] if letter not in '"\\{}') for key, text in exemplar.items()}
    shown = "{" + ",".join(f'{key}="{escaped(text)}"' for key, text in exemplar.items()) + "}"
    lines = []
    for name, labels in families.items():
        lines += [
            f"# TYPE {name} counter",
            f"{series_text(name + '_total', labels)} {value} # {shown} 0.5 1.25",
            f"{series_text(name + '_created', labels)} 1.5",
            f"# TYPE h_{name} histogram",
            f"{series_text(f'h_{name}_bucket', labels | {'le': '0.5'})} {value} # {shown} 0.25",
            f"{series_text(f'h_{name}_bucket', labels | {'le': '+Inf'})} {value}",
            f"{series_text(f'h_{name}_count', labels)} {value}",
            f"{series_text(f'h_{name}_sum', labels)} 0.25",
        ]
    body = "\n".join([*lines, "# EOF\n"])
    expected = reference(
        (sample.name, sample.labels, sample.value)
        for family in openmetrics.text_string_to_metric_families(body)  # type: ignore[no-untyped-call]  # as it comes
        for sample in family.samples
    )
    reader = Reader()
    for _ in range(2):
        exposition = read(body, reader)
        assert keyed(exposition) == expected
        assert (exposition.complete, exposition.malformed) == (True, 0)


alike = st.text("ab_", min_size=1, max_size=4)


@given(
    st.lists(st.tuples(alike, labels_of, numbers), max_size=12), st.frozensets(alike, max_size=3), st.integers(1, 40)
)
def test_the_wanted_ones_are_read_wherever_they_stand(
    rows: list[tuple[str, dict[str, str], str]], wanted: frozenset[str], chunk: int
) -> None:
    body = "# TYPE x counter\n" + "".join(f"{series_text(name, labels)} {value}\n" for name, labels, value in rows)
    expected = reference((name, labels, float(value)) for name, labels, value in rows if name in wanted)
    reader = Reader(wanted)
    assert keyed(read(body, reader, chunk)) == expected
    assert keyed(read(body, reader)) == expected
    assert len(reader.known) == len(expected)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    reader = Reader()
    for chunk in (1, 7, 1000):
        read(body, reader, chunk)
