"""The benchmark of labels that come and go: that it runs, and that memory is flat, which needs no quiet machine."""

from __future__ import annotations

import json

from tests.unit.bench.running import lines, patient

pytestmark = patient


def test_memory_is_flat_and_the_last_line_says_what_was_measured_against_what() -> None:
    found = json.loads(lines("churn", "--seconds", "1200", "--json")[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("churn", "MB")
    assert found["ratio"] > 1
    for row in found["rows"][:-1]:
        assert row["made"] > 100  # it is no memory of nothing
        assert row["end"] < 1.1 * row["middle"] + 3, row  # remembering all of the second half would take 4 MB more
