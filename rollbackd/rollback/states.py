"""The state machine of a rollback: which step may follow which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from rollbackd.ledger.base import RollbackState, Step

FOLLOWING: Mapping[RollbackState, tuple[RollbackState, ...]] = {
    "planned": ("preflight",),
    "preflight": ("reverting", "failed"),
    "reverting": ("reverted", "failed"),
    "reverted": ("verifying", "failed"),
    "verifying": ("verified", "failed"),
    "verified": (),
    "failed": ("escalated",),
    "escalated": (),
}
"""No state is ever entered twice, whatever happens to the daemon in between."""


def may_follow(before: RollbackState, after: RollbackState) -> bool:
    """Whether a rollback in state `before` may step to `after`."""
    return after in FOLLOWING[before]


def legal_journal(steps: Sequence[Step]) -> bool:
    """Whether these steps, oldest first, are a way through the machine from its start, none left out or repeated."""
    return (
        [step.seq for step in steps] == list(range(1, len(steps) + 1))
        and [step.state for step in steps[:1]] == ["planned"]
        and all(may_follow(one.state, other.state) for one, other in pairwise(steps))
    )
