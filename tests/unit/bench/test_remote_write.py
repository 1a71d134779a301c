"""The benchmark of remote write: that it runs, against a real Prometheus, and says what was measured against what."""

from __future__ import annotations

import json

import pytest

from tests.unit.bench.running import lines, patient

pytestmark = patient


@pytest.mark.needs("prometheus")
def test_the_last_line_says_what_was_measured_against_what() -> None:
    small = ["--pairs", "1", "--series", "20000", "--rounds", "2", "--settle", "0", "--json"]
    found = json.loads(lines("remote_write", *small)[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("remote_write", "samples per CPU second")
    assert found["ours"] > 0
