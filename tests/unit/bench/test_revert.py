"""The benchmark of reverts: that it runs and what it says, not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def measured(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "bench/revert.py", "--pairs", "1", "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=140, check=False)


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "on",
    [
        pytest.param("docker", marks=pytest.mark.needs("dockerd", "docker", "busybox")),
        pytest.param("kubernetes", marks=[pytest.mark.built("kubernetes"), pytest.mark.needs("etcd", "openssl")]),
    ],
)
def test_the_last_line_says_what_was_measured_against_what(on: str) -> None:
    ran = measured("--only", on)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("revert", "s")
    assert [row["platform"] for row in found["rows"]] == [on]
    assert all(0 < row[who]["accepted"] <= row[who]["settled"] for row in found["rows"] for who in ("ours", "peer"))


def test_what_is_not_there_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    ran = measured(PATH=str(tmp_path), ROLLBACKD_BUILT=str(tmp_path))
    assert ran.returncode == 1
    assert "swarm is left out: not installed: dockerd, docker, busybox" in ran.stderr
    assert "kubernetes is left out: not installed: etcd, openssl" in ran.stderr
    ran = measured("--only", "kubernetes", ROLLBACKD_BUILT=str(tmp_path))
    assert "left out: `make built` has not built it" in ran.stderr or "not installed" in ran.stderr
