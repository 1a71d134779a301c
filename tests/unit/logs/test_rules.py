"""What an operator says about lines."""

from __future__ import annotations

import sys
import time

import pytest
from pydantic import ValidationError

from rollbackd.logs.rules import LineRule, Rules
from rollbackd.logs.settings import LineSettings


def read(text: str, *rules: dict[str, str]) -> tuple[str, str]:
    line = LineSettings.model_validate({"rules": rules}).reader().read(text)
    return line.level, line.message


def test_the_first_rule_that_matches_counts() -> None:
    rules = ({"match": "OOM", "level": "critical"}, {"match": "OO", "level": "debug"})
    assert read("INFO OOM", *rules) == ("critical", "INFO OOM")
    assert read("INFO OOX", *rules) == ("debug", "INFO OOX")
    assert read("INFO x", *rules) == ("info", "INFO x")


def test_a_name_makes_lines_one_kind_of_message_at_the_level_that_they_have() -> None:
    assert read("ERROR cannot reach a", {"match": "cannot reach", "name": "unreachable"}) == ("error", "unreachable")


def test_a_rule_sees_the_line_as_it_is_written() -> None:
    assert read('{"level":"info","status":503,"msg":"x"}', {"match": '"status":5', "level": "error"}) == ("error", "x")


@pytest.mark.parametrize("pattern", [r"(?=x)y", r"(?<!x)y", r"(a)\1"])
def test_what_re2_does_not_know_is_said_in_plain_words(pattern: str) -> None:
    with pytest.raises(ValidationError, match="RE2 knows no lookaround and no backreferences"):
        LineRule(match=pattern, level="error")


def test_a_broken_expression_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ValidationError, match="no regular expression that RE2 takes: missing"):
        LineRule(match="(", level="error")


def test_a_rule_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="a `level`, a `name`, or both"):
        LineRule(match="x")


def test_without_the_package_the_operator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ValidationError, match=r"install rollbackd\[re2\]"):
        LineRule(match="x", level="error")
    assert LineSettings().reader().read("ERROR x").level == "error"


def test_no_expression_takes_exponentially_long() -> None:
    rules = Rules([LineRule(match="(a+)+$", level="error")])
    began = time.process_time()
    assert rules.first("a" * 50_000 + "b") is None
    assert list(rules.places(b"a" * 50_000 + b"b\n")) == []
    assert time.process_time() - began < 2
