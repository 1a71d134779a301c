"""Every parser of foreign bytes, for a moment each; and the fuzzer itself. `make fuzz` is the long form."""

from __future__ import annotations

import ast
import json
import time
from pathlib import Path

import pytest

from tests.fuzz.parser import Parser, Read, pure
from tests.fuzz.table import PARSERS
from tools.fuzz import examine, row, told
from tools.fuzz_examiner import Examiner, Failure, alarmed
from tools.fuzz_mutator import LONGEST, Mutator

ROOT = Path(__file__).parents[3]
INPUTS = 150

ELSEWHERE = {
    "rollbackd.config.stamp": "asks git, which is ours",
    "rollbackd.demo": "talks to itself",
    "rollbackd.engine": "reads its own snapshot",
    "rollbackd.intake": "every registered intake is a row",
    "rollbackd.kubernetes": "a server the operator trusts; its suites feed it garbage, nesting and broken streams",
    "rollbackd.ledger": "reads what it wrote",
    "rollbackd.cli.options": "prints what the client read",
    "rollbackd.targets.kubernetes": "the same server",
    "rollbackd.targets.disk": "writes bytes, and reads no format",
    "rollbackd.sources.follow": "compares bytes, and reads no format",
    "rollbackd.sources.keeping": "reads what it wrote",
    "rollbackd.sources.kept": "reads what it wrote",
    "rollbackd.web.routes_intake": "hands bodies to intakes, of which every one is a row",
    "rollbackd.sources.loki_place": "reads what it wrote",
}
"""Modules and packages that take bytes and are in no row, and why."""


@pytest.mark.parametrize("name", PARSERS)
def test_nothing_unforeseen_comes_of_hostile_bytes(name: str) -> None:
    found = examine(name, INPUTS, "short")
    assert not found.failures, "\n".join(line for failure in found.failures for line in told(failure))
    assert found.outcomes > 0


def takes_bytes(source: str) -> bool:
    """Whether a function of the module has a parameter of bytes."""
    return any(
        isinstance(part, ast.Name) and part.id == "bytes"
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for parameter in [*function.args.args, *function.args.kwonlyargs]
        if parameter.annotation is not None
        for part in ast.walk(parameter.annotation)
    )


def test_every_module_that_takes_bytes_is_in_the_table() -> None:
    """A new one needs a line in tests/fuzz, or its reason here."""
    covered = {module for parser in PARSERS.values() for module in parser.covers}
    missing = []
    for path in sorted((ROOT / "rollbackd").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        known = name in covered or any(f"{name}.".startswith(f"{place}.") for place in ELSEWHERE)
        text = "" if known else path.read_text(encoding="utf-8")
        if "bytes" in text and takes_bytes(text):
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize("name", [name for name in PARSERS if name != "sns.signature"])  # nobody vouches for its seed
def test_its_first_seed_is_read_well(name: str) -> None:
    PARSERS[name].fresh()(PARSERS[name].seeds[0])


class TestTheFuzzer:
    def test_the_same_seed_makes_the_same_inputs(self) -> None:
        seeds, words = [b'{"a": [1, {"b": "c"}]}'], [b"word"]
        first, again, other = (Mutator(seeds, "json", words, seed) for seed in ("a", "a", "b"))
        inputs = [first.one() for _ in range(200)]
        assert inputs == [again.one() for _ in range(200)]
        assert inputs != [other.one() for _ in range(200)]
        assert max(map(len, inputs)) <= LONGEST

    def test_an_unforeseen_exception_is_found_and_made_small(self) -> None:
        def read(data: bytes) -> object:
            if b"\xff" in data:
                raise KeyError(data)
            return len(data) % 7

        found = examined(Parser("p", [], pure(read), [b"a good input, a good input"]), 3000)
        assert [(failure.what, failure.inputs) for failure in found] == [("KeyError", [b"\xff"])]

    def test_what_needs_several_inputs_is_shown_with_all_of_them(self) -> None:
        def fresh() -> Read:
            seen: set[bytes] = set()

            def read(data: bytes) -> object:
                seen.add(data[:1])
                if {b"b", b"c"} <= seen:
                    raise KeyError
                return None

            return read

        examiner = Examiner(Parser("p", [], fresh, []))
        with alarmed():
            for data in (b"a", b"b", b"a", b"c"):
                examiner.take(data)
        assert [failure.inputs for failure in examiner.finished().failures] == [[b"b", b"c"]]

    def test_what_is_foreseen_is_no_failure(self) -> None:
        assert examined(Parser("p", [], pure(json.loads), [b"{}"], (ValueError, RecursionError)), 500) == []

    def test_an_input_that_takes_too_long_is_a_failure(self) -> None:
        def read(data: bytes) -> object:
            until = time.thread_time() + (0.03 if data == b"slow" else 0)
            while time.thread_time() < until:
                pass
            return None

        found = examined(Parser("p", [], pure(read), [b"slow"], limit_s=0.02), 3)
        assert [(failure.what, failure.inputs) for failure in found] == [("takes longer than 20 ms", [b"slow"])]

    def test_protobuf_stays_well_formed_where_a_part_grows(self) -> None:
        intact = 0
        mutator = Mutator(PARSERS["otlp_logs"].seeds, "protobuf", [], "a")
        read = PARSERS["otlp_logs"].fresh()
        for _ in range(200):
            try:
                read(mutator._protobuf(PARSERS["otlp_logs"].seeds[0]))
                intact += 1
            except PARSERS["otlp_logs"].may_raise:
                pass
        assert intact > 100

    def test_its_table_tells_what_was_found(self) -> None:
        found = examine("syslog", 20, "a")
        assert row("syslog", found).split()[:2] == ["syslog", "20"]


def examined(parser: Parser, inputs: int) -> list[Failure]:
    examiner = Examiner(parser)
    mutator = Mutator(parser.seeds, parser.shape, parser.words, "a")
    with alarmed():
        for data in parser.seeds:
            examiner.take(data)
        for _ in range(inputs):
            examiner.take(mutator.one())
    return examiner.finished().failures
