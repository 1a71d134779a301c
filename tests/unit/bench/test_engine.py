"""The benchmark of the engine: that it runs and what it says, not how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def bench(*arguments: str) -> str:
    command = [sys.executable, "bench/engine.py", "--quick", "--events", "600", "--runs", "1", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    told: dict[str, object] = json.loads(bench("--services", "3", "--json").splitlines()[-1])
    return told


def test_the_last_line_says_what_was_measured_against_what(found: dict[str, object]) -> None:
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"], found["peer"]) == ("engine", "events/s", None)
    ours, ratio, aim = found["ours"], found["ratio"], found["aim"]
    assert isinstance(ours, int)
    assert isinstance(ratio, float)
    assert aim == 100_000
    assert ratio == pytest.approx(ours / aim, abs=0.006)


def test_the_streams_are_those_of_healthy_services_under_watch(found: dict[str, object]) -> None:
    """Otherwise the figures would be about something else."""
    replay = found["replay"]
    assert isinstance(replay, dict)
    assert replay["events"] == 600
    assert replay["watched"] > 0.9
    assert replay["decisions"] == 0
    assert min(replay[part] for part in ("whole", "reading", "feeding", "state")) > 0


def test_services_are_measured_with_their_watches_open_and_with_none(found: dict[str, object]) -> None:
    living = found["live"]
    assert isinstance(living, list)
    assert [(one["services"], one["watched"], one["open"]) for one in living] == [(3, True, 3), (3, False, 0)]
    for one in living:
        assert min(one[figure] for figure in ("us", "events_s", "written")) > 0
