"""The ledger that needs nothing but a file."""

from __future__ import annotations

from pathlib import Path

from rollbackd.adapter import Adapter
from rollbackd.fields import Model
from rollbackd.ledger.base import Ledger, LedgerContext
from rollbackd.ledger.sqlite.ledger import SqliteLedger


class SqliteConfig(Model):
    """Where the ledger is kept."""

    path: Path | None = None
    """The file; left out, `ledger.db` in the data directory. A local disk, not a network file system."""


def build(config: SqliteConfig, context: LedgerContext) -> Ledger:
    """The ledger, not opened yet."""
    return SqliteLedger(config.path or Path(context.data_dir) / "ledger.db")


ADAPTER = Adapter(SqliteConfig, build, shorthand="path")
