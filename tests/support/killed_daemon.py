"""`python -m tests.support.killed_daemon CONFIG POINT`: the real daemon, that SIGKILLs itself at one point.

POINT is `before` or `after` and then `decision`, `planned` or another state of a rollback: when the ledger writes it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rollbackd import registry
from rollbackd.adapter import Adapter, AdapterKind
from rollbackd.aiokit import SystemClock
from rollbackd.config.loading import load
from rollbackd.daemon import Daemon
from rollbackd.ledger.base import LedgerContext
from rollbackd.ledger.sqlite import SqliteConfig
from rollbackd.telemetry import configure_logs
from tests.support.mortal import MortalLedger, Reaper


class Catalog:
    """The registry, but for the ledger."""

    def __init__(self, point: str) -> None:
        self._point = point

    def names(self, kind: AdapterKind) -> list[str]:
        return registry.names(kind)

    def load(self, kind: AdapterKind, name: str) -> registry.AnyAdapter:
        if kind != "ledger":
            return registry.load(kind, name)

        def build(_config: SqliteConfig, context: LedgerContext) -> MortalLedger:
            return MortalLedger(Path(context.data_dir) / "ledger.db", Reaper(self._point))

        return Adapter(SqliteConfig, build)


async def main(path: Path, point: str) -> None:
    """Run the daemon."""
    catalog = Catalog(point)
    loaded = load(path, catalog)
    configure_logs("json", "info")
    await Daemon(path, loaded, catalog, SystemClock()).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
