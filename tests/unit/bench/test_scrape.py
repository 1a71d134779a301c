"""The benchmark of looks at endpoints: that it runs and what it says, not how fast anything is."""

from __future__ import annotations

import json

from tests.unit.bench.running import lines, patient

pytestmark = patient


def bench(*arguments: str) -> list[str]:
    return lines("scrape", "--pairs", "1", *arguments)


def test_the_last_line_says_what_was_measured_against_what() -> None:
    found = json.loads(bench("--json")[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("scrape", "samples/CPU-s")
    assert found["ratio"] > 1
    rows = {row["endpoint"]: row for row in found["rows"]}
    assert {row["samples"] for row in rows.values()} == {10_000}
    assert 200 < rows["service"]["wanted"] < 1000
    assert rows["everything"]["wanted"] == 10_000
    assert all(row["events"] >= 2 for row in rows.values())  # requests and latency: it is no reading in vain
