"""Runs a benchmark as people do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

WITHIN_S = 250.0
patient = pytest.mark.timeout(WITHIN_S + 30)
"""For tests that run a benchmark: what takes ten seconds on an idle machine takes a minute on a busy one."""


def ran(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """How `bench/NAME.py` ended, and what it printed, with these variables in its environment."""
    return subprocess.run(
        [sys.executable, f"bench/{name}.py", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip


def lines(name: str, *arguments: str) -> list[str]:
    """What it prints; fails where it fails."""
    ended = ran(name, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
