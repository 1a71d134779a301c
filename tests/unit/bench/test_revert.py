"""The benchmark of reverts: that it runs and what it says, not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.needs("dockerd", "docker", "busybox")
@pytest.mark.timeout(150)
def test_the_last_line_says_what_was_measured_against_what() -> None:
    command = [sys.executable, "bench/revert.py", "--only", "docker", "--pairs", "1", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=140, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("revert", "s")
    assert [row["platform"] for row in found["rows"]] == ["docker"]
    assert all(0 < row[who]["accepted"] <= row[who]["settled"] for row in found["rows"] for who in ("ours", "peer"))
