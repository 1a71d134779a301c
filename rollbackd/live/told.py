"""What people are told: outcomes, rollbacks, refused configurations and sources that stay down, as messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rollbackd.aiokit import Clock
from rollbackd.ledger.base import Rollback, RollbackState, StoredDecision
from rollbackd.model import WatchChange
from rollbackd.notify.base import Message
from rollbackd.notify.messages import (
    config_refused_message,
    decision_message,
    rollback_message,
    source_down_message,
    source_up_message,
    watch_message,
)
from rollbackd.web.views import SourceView

DOWN_LONG_S = 60.0
"""A source that is down for less is no news."""

Told = list[tuple[str, Message]]


class Teller:
    """Makes (notifier, message) pairs, one for each notifier of the moment."""

    def __init__(self, notifiers: Callable[[], Sequence[str]], clock: Clock) -> None:
        self._notifiers, self._clock = notifiers, clock
        self._down: dict[tuple[str, str], float] = {}

    def _to_all(self, *messages: Message | None) -> Told:
        return [(name, message) for message in messages if message is not None for name in self._notifiers()]

    def outcomes(self, decisions: Sequence[StoredDecision], changes: Sequence[WatchChange]) -> Told:
        """Decisions and watches."""
        return self._to_all(
            *(decision_message(one.decision, one.mode) for one in decisions), *(watch_message(one) for one in changes)
        )

    def rollback(self, rollback: Rollback, state: RollbackState, detail: str, at: float) -> Told:
        """A rollback's step."""
        plan = rollback.plan
        return self._to_all(
            rollback_message(
                rollback_id=rollback.id,
                service=plan.service,
                version=plan.version,
                to=plan.to,
                state=state,
                detail=detail,
                at=at,
                reason=plan.reason,
                requested_by=plan.requested_by,
            )
        )

    def config_refused(self, path: str, problem: str) -> Told:
        """A configuration that is not put in force."""
        return self._to_all(config_refused_message(path=path, faults=problem.splitlines(), at=self._clock.now()))

    def sources(self, services: Iterable[str], views: Callable[[str], Iterable[SourceView]]) -> Told:
        """Sources that have been down for a while, and those that came back after that was told."""
        told: Told = []
        now = self._clock.now()
        for service in services:
            for stream in views(service):
                key = (service, stream.name)
                if stream.state == "down" and key not in self._down and now - stream.since > DOWN_LONG_S:
                    self._down[key] = stream.since
                    told += self._to_all(
                        source_down_message(
                            service=service, source=stream.name, reason=stream.reason, since=stream.since
                        )
                    )
                elif stream.state == "up" and key in self._down:
                    since = self._down.pop(key)
                    told += self._to_all(
                        source_up_message(service=service, source=stream.name, down_since=since, at=now)
                    )
        return told
