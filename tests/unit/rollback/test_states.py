"""The state machine on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest

from rollbackd.ledger.base import FINAL_STATES, RollbackState, Step
from rollbackd.rollback.states import FOLLOWING, legal_journal, may_follow

STATES: tuple[RollbackState, ...] = get_args(RollbackState)


def steps(states: Sequence[RollbackState]) -> list[Step]:
    return [Step(seq=n, at=0.0, state=state, detail="") for n, state in enumerate(states, start=1)]


def test_every_state_has_its_place() -> None:
    assert set(FOLLOWING) == set(STATES)


def test_nothing_follows_a_final_state_and_something_every_other() -> None:
    assert {state for state in STATES if not FOLLOWING[state]} == FINAL_STATES


def test_no_state_can_be_entered_twice() -> None:
    def reachable(state: RollbackState) -> set[RollbackState]:
        return {later for following in FOLLOWING[state] for later in {following, *reachable(following)}}

    assert all(state not in reachable(state) for state in STATES)


@pytest.mark.parametrize(
    "states",
    [
        ["planned"],
        ["planned", "preflight", "reverting", "reverted", "verifying", "verified"],
        ["planned", "preflight", "failed", "escalated"],
        ["planned", "preflight", "reverting", "reverted", "failed"],
    ],
)
def test_ways_through_the_machine_are_legal(states: list[RollbackState]) -> None:
    assert legal_journal(steps(states))


@pytest.mark.parametrize(
    "states",
    [
        ["preflight"],
        ["planned", "reverting"],
        ["planned", "planned"],
        ["planned", "preflight", "reverting", "reverting"],
        ["planned", "preflight", "reverting", "preflight"],
        ["planned", "preflight", "escalated"],
        ["planned", "preflight", "failed", "escalated", "escalated"],
        ["planned", "preflight", "reverting", "reverted", "verifying", "verified", "failed"],
    ],
)
def test_left_out_repeated_and_backward_steps_are_not(states: list[RollbackState]) -> None:
    assert not legal_journal(steps(states))


def test_a_gap_in_the_numbers_is_not_legal() -> None:
    assert not legal_journal(steps(["planned", "preflight"])[1:])
    assert not legal_journal([])
    assert not may_follow("planned", "verified")
