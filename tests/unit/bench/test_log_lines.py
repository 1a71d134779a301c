"""The speed of the log road: both sides count what was written, and the figures come in the house's form."""

from __future__ import annotations

import json

import pytest

from bench import log_lines
from tests.unit.bench.running import lines, patient

pytestmark = patient

WRITTEN = log_lines.Written(lines=1000, errors=12, warnings=20, bytes=100_000)


@pytest.mark.needs("mtail")
def test_the_last_line_says_what_was_measured_against_what() -> None:
    found = json.loads(lines("log_lines", "--lines", "20000", "--pairs", "1", "--json")[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine", "aim"}
    assert (found["name"], found["unit"]) == ("log_lines", "lines per CPU-second")
    assert [row["layout"] for row in found["layouts"]] == ["plain", "json", "access"]
    assert all(20 < row["line_bytes"] < 400 for row in found["layouts"])


def test_figures_are_medians_and_the_ratio_that_of_pairs() -> None:
    found = log_lines.row("plain", WRITTEN, [(0.5, 1.0), (1.0, 4.0), (2.0, 2.0)])
    assert (found.line_bytes, found.ours, found.peer, found.ratio) == (100.0, 1000, 500, 2.0)


def test_what_the_start_of_a_process_hid_has_no_figure() -> None:
    found = log_lines.row("plain", WRITTEN, [(0.5, -0.01), (0.0, 0.5)])
    assert (found.ours, found.peer, found.ratio) == (2000, 2000, None)
    nothing = log_lines.row("plain", WRITTEN, [(-0.01, 0.0)])
    assert (nothing.ours, nothing.peer, nothing.ratio) == (None, None, None)
