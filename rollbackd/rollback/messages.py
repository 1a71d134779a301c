"""What people are told of a rollback's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from rollbackd.ledger.base import Rollback, RollbackState
from rollbackd.notify.base import Message

MessagesFor: TypeAlias = Callable[[Rollback, RollbackState, str, float], Sequence[tuple[str, Message]]]
"""(rollback before the step, new state, detail, moment) to (notifier name, message) pairs."""

_TOLD: Mapping[RollbackState, tuple[Literal["info", "warning", "critical"], str]] = {
    "reverting": ("warning", "{service}: rolling back {version} to {to}"),
    "verified": ("info", "{service}: rolled back to {to}, which is healthy"),
    "escalated": ("critical", "{service}: the rollback of {version} needs you"),
}


def announcing(notifiers: Callable[[], Sequence[str]]) -> MessagesFor:
    """Tell every notifier of the steps that people want to know: the start, and how it ended."""

    def messages_for(rollback: Rollback, state: RollbackState, detail: str, at: float) -> list[tuple[str, Message]]:
        if state not in _TOLD:
            return []
        message = _message(rollback, state, detail, at)
        return [(name, message) for name in notifiers()]

    return messages_for


def _message(rollback: Rollback, state: RollbackState, detail: str, at: float) -> Message:
    plan = rollback.plan
    severity, title = _TOLD[state]
    facts = {
        "rollback_id": rollback.id,
        "state": state,
        "version": plan.version,
        "to": plan.to,
        "reason": plan.reason,
        "requested_by": plan.requested_by,
        "decision_id": plan.decision_id,
    }
    return Message(
        key=f"{rollback.id}:{state}",
        t=at,
        topic="rollback",
        service=plan.service,
        severity=severity,
        title=title.format(service=plan.service, version=plan.version, to=plan.to),
        text=f"{detail}\nWhy: {plan.reason}\nAsked for by {plan.requested_by}.",
        details={name: msgspec.Raw(msgspec.json.encode(fact)) for name, fact in facts.items()},
    )
