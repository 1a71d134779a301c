"""The benchmark of labels that come and go: that it runs, and that memory is flat, which needs no quiet machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_memory_is_flat_and_the_last_line_says_what_was_measured_against_what() -> None:
    command = [sys.executable, "bench/churn.py", "--seconds", "1200", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=55, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("churn", "MB")
    assert found["ratio"] > 1
    for row in found["rows"][:-1]:
        assert row["made"] > 100  # it is no memory of nothing
        assert row["end"] < 1.1 * row["middle"] + 3, row  # remembering all of the second half would take 4 MB more
