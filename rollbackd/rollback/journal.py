"""The journal of rollbacks, which nothing gets ahead of: while it cannot be written, the rollback stands still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Temporary
from rollbackd.ledger.base import Ledger, Rollback, RollbackState
from rollbackd.notify.base import Message
from rollbackd.rollback.states import may_follow

LONGEST_WAIT_S = 15.0

MessagesFor: TypeAlias = Callable[[Rollback, RollbackState, str, float], Sequence[tuple[str, Message]]]
"""(rollback before the step, new state, detail, moment) to (notifier name, message) pairs."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.rollback")


class Journal:
    """Writes steps. `problems` says what keeps which rollback (by id) from going on."""

    def __init__(
        self, ledger: Ledger, clock: Clock, messages_for: MessagesFor, on_step: Callable[[Rollback], None]
    ) -> None:
        self._ledger, self._clock = ledger, clock
        self._messages_for, self._on_step = messages_for, on_step
        self.problems: dict[str, str] = {}

    async def step(self, rollback: Rollback, state: RollbackState, detail: str) -> Rollback:
        """The rollback after the step, once it is on disk; waits, however long, while the ledger is out of order.

        Raises Permanent where the ledger can never be written again.
        """
        if not may_follow(rollback.state, state):
            raise AssertionError(f"a rollback cannot go from {rollback.state} to {state}")
        try:
            after = await self._written(rollback, state, detail)
        finally:
            resumed = self.problems.pop(rollback.id, None)
        if resumed is not None:
            log.info("journal_resumed", rollback=rollback.id, service=rollback.plan.service, state=state)
        log.info("rollback_step", rollback=rollback.id, service=rollback.plan.service, state=state, detail=detail)
        self._on_step(after)
        return after

    async def _written(self, rollback: Rollback, state: RollbackState, detail: str) -> Rollback:
        wait = 0.5
        while True:
            at = self._clock.now()
            try:
                # a write that failed may have reached the disk all the same
                known = await self._ledger.rollback(rollback.id) if rollback.id in self.problems else None
                if known is not None and known.state == state:
                    return known
                messages = self._messages_for(rollback, state, detail, at)
                return await self._ledger.step(rollback.id, state, detail, at, messages)
            except Temporary as error:
                if rollback.id not in self.problems:
                    log.error("journal_paused", rollback=rollback.id, service=rollback.plan.service, error=str(error))
                self.problems[rollback.id] = (
                    f"the rollback of {rollback.plan.service} stands still before `{state}`: {error}"
                )
                await self._clock.sleep(max(wait, error.retry_after or 0.0))
                wait = min(wait * 2, LONGEST_WAIT_S)
