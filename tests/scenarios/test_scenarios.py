"""Recorded stories, judged by the default rules, and what has to come of each."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rollbackd.model import Action, Decision, WatchChange
from rollbackd.recording import read
from tests.support.streams import decisions, engine, play, told

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.jsonl"))


class ExpectedDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A decision as far as better detectors must not change it."""

    service: str
    version: str
    action: Action
    to: str | None
    rules: tuple[str, ...]
    within: float

    def fits(self, decision: Decision) -> bool:
        """Whether this is what was decided."""
        return (
            (decision.service, decision.version, decision.action, decision.to)
            == (self.service, self.version, self.action, self.to)
            and decision.rule in self.rules
            and 0 < decision.t - decision.deployed_at <= self.within
        )


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What NAME.expected.json holds."""

    about: str
    decisions: tuple[ExpectedDecision, ...]
    endings: tuple[str, ...]


def expected(name: str) -> Expected:
    return msgspec.json.decode((HERE / f"{name}.expected.json").read_bytes(), type=Expected)


def test_every_story_has_its_expectation_and_the_other_way_round() -> None:
    assert [path.name.removesuffix(".expected.json") for path in sorted(HERE.glob("*.expected.json"))] == NAMES
    assert len(NAMES) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_the_story_ends_as_it_must(name: str) -> None:
    outcomes = play(engine(), read(HERE / f"{name}.jsonl"))
    found, wanted = decisions(outcomes), expected(name)
    assert len(found) == len(wanted.decisions)
    assert [one for one, decision in zip(wanted.decisions, found, strict=True) if not one.fits(decision)] == []
    changes = [one for one in outcomes if isinstance(one, WatchChange) and one.state not in ("opened", "superseded")]
    assert tuple(told(changes)) == wanted.endings


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_small_enough_to_keep(name: str) -> None:
    assert (HERE / f"{name}.jsonl").stat().st_size < 200_000
