"""YAML that is broken, hostile or odd: findings with a line, never a crash."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollbackd.config.document import MAX_BYTES, Document, parse
from rollbackd.config.faults import ConfigFaults, Fault, Findings
from rollbackd.config.schema import Config, LogSettings, Service, TokenSettings
from rollbackd.decide.policy import FreezeWindow
from rollbackd.detect.settings import Rules
from tests.unit.config.catalog import DirSettings, PostSettings, UrlSettings, fault, parsed


def read(text: str) -> tuple[Document, Findings]:
    findings = Findings()
    return parse(text.encode(), findings), findings


def data(text: str) -> object:
    document, findings = read(text)
    assert findings.all == []
    return document.data


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"mode: act\n\tlog: {}\n", 2, "not YAML: "),
        (b"log:\n\tformat: json\n", 2, "a tab or a reserved character begins a value here"),
        (b"services\n  a: {}\n", 2, "a `:` where none can be"),
        (b"mode: act\nlog\nauth: {}\n", 2, "a line without its `:`"),
        (b"mode: act\nlog: {format: json\n", 3, "not YAML: "),
        (b'mode: "act\n', 2, "a quote or bracket is opened and never closed"),
        (b"log: [1, 2\nauth: {}", 2, "not YAML: "),
        (b"mode: *act\n", 1, "text that begins with `*` needs quotes"),
        (b"mode: !act x\n", 1, "text that begins with `!` needs quotes"),
        (b"log: !!python/object:os.system {}\n", 1, "a tag (`!`) has no meaning here"),
        (b"mode: @act\n", 1, "not YAML: "),
        (b"listen: [::1]:80\n", 1, "text that begins with ["),
        (b"mode: act\nlog: {}\nmode: shadow\n", 3, "written twice, first on line 1: keep one of them"),
        (b"mode: act\n---\nmode: shadow\n", 2, "a second document begins here"),
        (b"mode: \xff\n", 1, "not UTF-8 text"),
        (b"log: {}\nmode: caf\xe9\n", 2, "not UTF-8 text"),
        ("mode: act\n".encode("utf-16"), 1, "not UTF-8 text"),
        (b"log: {}\nmode: a\x00ct\n", 2, "the control character U+0000 is not allowed"),
        (b"\x7fELF\x02", 1, "the control character U+007F is not allowed"),
        (b"just text", 1, "expected sections such as `services:`; found text"),
        (b"- a\n- b\n", 1, "expected sections such as `services:`; found a list"),
        (b"log: {}\nservices: &a {x: *a}\n", 2, "an alias to something that holds the alias itself"),
        (b"services: {{ name }}\n", 1, "a key must be plain text: is a template not filled in"),
        (b"log: {}\n? [a, b]\n: c\n", 2, "a key must be plain text"),
        (b"log: {}\n<<: 5\n", 2, "`<<` merges a mapping"),
        (b"log: {}\nfleet: {rollbacks_per_hour: 0x_}\n", 2, "no number that can be read"),
        (b"log: {}\nfleet: {rollbacks_per_hour: %s}\n" % (b"9" * 5000), 2, "no number that can be read"),
        (b"[" * 10_000, 1, "nested more than 40 deep"),
        (b"a:\n" + b"".join(b" " * n + b"a:\n" for n in range(1, 50)), 41, "nested more than 40 deep"),
    ],
)
def test_what_is_no_configuration_says_where_and_why(text: bytes, line: int, message: str) -> None:
    found = fault(text)
    assert found.line == line
    assert message in found.message


def test_a_small_file_of_aliases_is_not_blown_up() -> None:
    """Nine levels of nine aliases each would be 400 million values."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    began = time.process_time()
    assert "more than 200000 values" in fault("\n".join(levels).encode()).message
    assert time.process_time() - began < 10


def test_merges_of_merges_are_not_blown_up_either() -> None:
    levels = ["a0: &a0 {k: 1}"]
    levels += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)]
    began = time.process_time()
    assert "more than 200000 values" in fault("\n".join(levels).encode()).message
    assert time.process_time() - began < 10


def test_merging_the_same_again_and_again_costs_as_well() -> None:
    base = ", ".join(f"k{n}: 1" for n in range(1000))
    text = f"base: &base {{{base}}}\nuse: {{<<: [{', '.join(['*base'] * 500)}]}}\n"
    assert "more than 200000 values" in fault(text.encode()).message


def test_every_key_and_item_has_its_line() -> None:
    document, _ = read("# first\na:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n")
    assert dict(document.lines) == {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1): 6,
        ("a", "c", 1, "d"): 6,
    }
    assert document.line(("a", "c", 0, "nothing", "there")) == 5
    assert document.line(("z",)) == 1


def test_what_is_merged_has_the_line_where_it_was_written() -> None:
    document, _ = read("base: &base\n  x: 1\n  y: 2\nuse:\n  <<: *base\n  y: 3\n")
    assert document.data == {"base": {"x": 1, "y": 2}, "use": {"x": 1, "y": 3}}
    assert (document.line(("use", "x")), document.line(("use", "y"))) == (2, 6)


def test_the_first_of_several_merges_wins() -> None:
    assert data("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b], z: 3}") == {
        "a": {"x": 1},
        "b": {"x": 2, "y": 2},
        "c": {"x": 1, "y": 2, "z": 3},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("-.inf", float("-inf")),
        ("on", True),
        ("No", False),
        ("~", None),
        ("22:22", "22:22"),
        ("1:30.5", "1:30.5"),
        ("2026-12-24", "2026-12-24"),
        ("2026-13-45", "2026-13-45"),
        ("=", "="),
        ("'on'", "on"),
        ("!!str 5", "5"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    assert data(f"a: {text}") == {"a": value}


def test_the_bound_on_a_files_size_leaves_room_for_ten_thousand_services() -> None:
    line = "  service-1234: {metrics: http://10.0.0.1:8080/metrics, target: {release_dir: {path: /srv/service-1234}}}\n"
    assert len(line) * 10_000 < MAX_BYTES


_SIGNS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    ",",
    "-",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "\t",
    "&x ",
    "*x",
    "<<",
    "!t ",
    "'",
    '"',
]
_MODELS = (Config, Service, TokenSettings, FreezeWindow, Rules, LogSettings, DirSettings, UrlSettings, PostSettings)
_KEYS = sorted(
    {"release_dir", "scrape", "webhook", "sqlite", "env", *(key for one in _MODELS for key in one.model_fields)}
)
_SCALARS = ["1h", "act", "on", "~", "5", ".nan", "1%", "#", "|", ">", "?", "---", "\x85", "é", "%"]
_WORDS = st.sampled_from([*_SIGNS, *_KEYS, *_SCALARS])


@settings(max_examples=200, deadline=None)
@given(st.lists(_WORDS, max_size=40).map("".join))
def test_any_words_of_a_configuration_in_any_order_are_faults_or_a_configuration(text: str) -> None:
    _read_or_faults(text.encode())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_faults_or_a_configuration(text: str) -> None:
    _read_or_faults(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_faults_or_a_configuration(raw: bytes) -> None:
    _read_or_faults(raw)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*_SCALARS, "ratio", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4))
def test_any_values_under_any_keys_are_faults_or_a_configuration(values: dict[str, object]) -> None:
    """JSON is YAML, too."""
    _read_or_faults(json.dumps(values).encode())


def _read_or_faults(raw: bytes) -> None:
    found: tuple[Fault, ...] = ()
    try:
        parsed(raw)
    except ConfigFaults as error:
        found = error.faults
        if not found:
            raise
    assert all(one.line >= 1 and one.message and one.file == "file.yaml" for one in found)
