"""The benchmark of the engine: that it runs and what it says, not how fast anything is."""

from __future__ import annotations

import json

import pytest

from tests.unit.bench.running import lines, patient

pytestmark = patient

QUICK = ("--quick", "--events", "600", "--runs", "1", "--services", "3", "--json")


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    told: dict[str, object] = json.loads(lines("engine", *QUICK)[-1])
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
