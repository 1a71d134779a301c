"""A real ledger in a process that kills itself just before or just after something is written."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from rollbackd.ledger.base import Rollback, RollbackPlan, RollbackState, Snapshot, StoredDecision
from rollbackd.ledger.sqlite.ledger import SqliteLedger
from rollbackd.model import WatchChange
from rollbackd.notify.base import Message


class Reaper:
    """Kills this very process, at one point of its way."""

    def __init__(self, point: str) -> None:
        self._point = point

    def __call__(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalLedger(SqliteLedger):
    """Dies `before` or `after` a decision, or a step of a rollback (`planned` is its opening), is on disk."""

    def __init__(self, path: Path, reaper: Reaper) -> None:
        super().__init__(path)
        self._reaper = reaper

    async def open_rollback(self, plan: RollbackPlan) -> tuple[Rollback, bool]:
        self._reaper("before planned")
        opened = await super().open_rollback(plan)
        self._reaper("after planned")
        return opened

    async def step(
        self,
        rollback_id: str,
        state: RollbackState,
        detail: str,
        at: float,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> Rollback:
        self._reaper(f"before {state}")
        written = await super().step(rollback_id, state, detail, at, messages)
        self._reaper(f"after {state}")
        return written

    async def record(
        self,
        decisions: Sequence[StoredDecision],
        changes: Sequence[WatchChange],
        snapshot: Snapshot,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> None:
        if decisions:
            self._reaper("before decision")
        await super().record(decisions, changes, snapshot, messages)
        if decisions:
            self._reaper("after decision")
