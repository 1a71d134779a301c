"""The speed of the log road: both sides count what was written, and the figures come in the house's form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.needs("mtail")
def test_the_last_line_says_what_was_measured_against_what() -> None:
    command = [sys.executable, "bench/log_lines.py", "--lines", "20000", "--pairs", "1", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=55, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine", "aim"}
    assert (found["name"], found["unit"]) == ("log_lines", "lines per CPU-second")
    assert [row["layout"] for row in found["layouts"]] == ["plain", "json", "access"]
    assert all(row["ours"] > 0 and row["peer"] > 0 for row in found["layouts"])
