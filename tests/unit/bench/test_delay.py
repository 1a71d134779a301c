"""The figures of the test's delay: that they come in the house's form."""

from __future__ import annotations

import json

import pytest

from tests.unit.bench.running import lines, patient

pytestmark = patient


def bench(*arguments: str) -> list[str]:
    return lines("delay", "--trials", "10", *arguments)


def test_the_last_line_says_what_was_measured_against_what() -> None:
    found = json.loads(bench("--json")[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("delay", "requests")
    assert found["ratio"] == pytest.approx(found["ours"] / found["peer"], abs=0.01)
    assert len(found["rows"]) > 3


def test_people_get_a_table_with_a_line_for_each_fault() -> None:
    head, *rows = bench()
    assert head.split() == ["usual", "allowed", "fault", "bound", "ours", "ratio", "at", "20/s"]
    assert len(rows) > 3
