"""The benchmark of remote write: that it runs, against a real Prometheus, and says what was measured against what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.needs("prometheus")
def test_the_last_line_says_what_was_measured_against_what() -> None:
    small = ["--pairs", "1", "--series", "20000", "--rounds", "2", "--settle", "0", "--json"]
    command = [sys.executable, "bench/remote_write.py", *small]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=55, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("remote_write", "samples per CPU second")
    assert found["ours"] > 0
