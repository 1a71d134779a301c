"""`python -m tests.support.killed_daemon CONFIG POINT`: the real daemon, that SIGKILLs itself at one point.

POINT is `open`, `record` or a rollback's state, then `:before` or `:after` the ledger has written it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rollbackd import registry
from rollbackd.adapter import Adapter, AdapterKind
from rollbackd.aiokit import SystemClock
from rollbackd.config.loading import load
from rollbackd.daemon import Daemon
from rollbackd.ledger.base import LedgerContext, Rollback, RollbackPlan, RollbackState, Snapshot, StoredDecision
from rollbackd.ledger.sqlite import SqliteConfig
from rollbackd.ledger.sqlite.ledger import SqliteLedger
from rollbackd.model import WatchChange
from rollbackd.notify.base import Message
from rollbackd.telemetry import configure_logs


class KillingLedger(SqliteLedger):
    """The real ledger, and the end of the process at the chosen point."""

    def __init__(self, path: Path, point: str) -> None:
        super().__init__(path)
        self._point = point

    def _reached(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def open_rollback(self, plan: RollbackPlan) -> tuple[Rollback, bool]:
        self._reached("open:before")
        opened = await super().open_rollback(plan)
        self._reached("open:after")
        return opened

    async def step(
        self,
        rollback_id: str,
        state: RollbackState,
        detail: str,
        at: float,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> Rollback:
        self._reached(f"{state}:before")
        after = await super().step(rollback_id, state, detail, at, messages)
        self._reached(f"{state}:after")
        return after

    async def record(
        self,
        decisions: Sequence[StoredDecision],
        changes: Sequence[WatchChange],
        snapshot: Snapshot,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> None:
        if decisions:
            self._reached("record:before")
        await super().record(decisions, changes, snapshot, messages)
        if decisions:
            self._reached("record:after")


class Catalog:
    """The registry, but for the ledger."""

    def __init__(self, point: str) -> None:
        self._point = point

    def names(self, kind: AdapterKind) -> list[str]:
        return registry.names(kind)

    def load(self, kind: AdapterKind, name: str) -> registry.AnyAdapter:
        if kind != "ledger":
            return registry.load(kind, name)

        def build(_config: SqliteConfig, context: LedgerContext) -> KillingLedger:
            return KillingLedger(Path(context.data_dir) / "ledger.db", self._point)

        return Adapter(SqliteConfig, build)


async def main(path: Path, point: str) -> None:
    """Run the daemon."""
    catalog = Catalog(point)
    loaded = load(path, catalog)
    configure_logs("json", "info")
    await Daemon(path, loaded, catalog, SystemClock()).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
