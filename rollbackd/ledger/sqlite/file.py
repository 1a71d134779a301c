"""The SQLite file under the ledger: claimed by one daemon, migrated, used from one thread, a transaction at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from rollbackd.errors import Permanent
from rollbackd.ledger.sqlite.claim import Claim
from rollbackd.ledger.sqlite.faults import explained

T = TypeVar("T")

APPLICATION_ID = 0x524C4244
"""`RLBD`: marks the file as ours, see https://www.sqlite.org/pragma.html#pragma_application_id."""

BUSY_S = 5.0
"""How long to wait for another program that holds the file, such as a backup."""


class SqliteFile:
    """One file, one connection, one thread. Work is a plain function of the connection, run as one transaction.

    Because a transaction runs whole on the thread, cancelling the task that awaits it cannot leave it half done.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self.path = path
        self._migrations = migrations
        self._thread: ThreadPoolExecutor | None = None
        self._claim: Claim | None = None
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Claim, create or migrate the file. Raises Permanent for a file that can never be used, else Temporary."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        await self._on_thread(self._open)

    async def open_to_read(self) -> None:
        """Open the file for reading alone, without a claim: a daemon may go on writing it. Raises as `open` does."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        await self._on_thread(self._open_to_read)

    async def close(self) -> None:
        """Release the file, its claim and the thread; twice is fine."""
        if self._thread is None:
            return
        await self._on_thread(self._close)
        self._thread.shutdown(wait=False)
        self._thread = None

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work that changes nothing, on one consistent view."""
        return await self._on_thread(lambda: self._transaction("BEGIN", work))

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work; what it changed is on disk on return, and undone where anything is raised."""
        return await self._on_thread(lambda: self._transaction("BEGIN IMMEDIATE", work))

    async def _on_thread(self, call: Callable[[], T]) -> T:
        if self._thread is None:
            raise Permanent(f"the ledger {self.path} is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # -- on the thread

    def _open(self) -> None:
        if self._db is not None:
            return
        with explained(self.path):
            if not self.path.parent.exists():
                self.path.parent.mkdir(mode=0o700, parents=True)
            self._claim = Claim(self.path)
            try:
                self._db = self._connect()
            except BaseException:
                self._close()
                raise

    def _open_to_read(self) -> None:
        if self._db is not None:
            return
        with explained(self.path):
            if not self.path.is_file():
                raise Permanent(f"there is no ledger {self.path}: has the daemon run with this configuration?")
            # write-ahead logging lets a reader and the daemon's writer be, each undisturbed by the other
            self._db = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
            )
            try:
                if (version := self._version(self._db)) < len(self._migrations):
                    raise Permanent(
                        f"the ledger {self.path} was written by an older rollbackd (schema {version}, this one reads "
                        f"{len(self._migrations)}): start this version's daemon once, which brings it up to date"
                    )
            except BaseException:
                self._close()
                raise

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _connect(self) -> sqlite3.Connection:
        # SQLite gives its own files beside it the mode of this one
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        try:
            version = self._version(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            self._migrate(db, version)
        except BaseException:
            db.close()
            raise
        return db

    def _version(self, db: sqlite3.Connection) -> int:
        """How many migrations the file has had; refuses what is not ours, before anything is changed."""
        mark, version, tables = (
            int(db.execute(query).fetchone()[0])
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if mark != APPLICATION_ID and (mark, version, tables) != (0, 0, 0):
            raise Permanent(f"{self.path} is a SQLite database of another program; give the ledger a `path` of its own")
        if version > len(self._migrations):
            raise Permanent(
                f"the ledger {self.path} was written by a newer rollbackd (schema {version}, this one knows up to "
                f"{len(self._migrations)}): run that rollbackd or a newer one, or give this one another `data_dir`"
            )
        return version

    def _migrate(self, db: sqlite3.Connection, version: int) -> None:
        for number, script in enumerate(self._migrations[version:], start=version + 1):
            # one that fails half way is undone by the close that follows
            db.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};\n{script}\n"
                f"PRAGMA user_version = {number}; COMMIT;"
            )

    def _transaction(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            raise Permanent(f"the ledger {self.path} is not open")
        with explained(self.path):
            try:
                self._db.execute(begin)
                result = work(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                _undo(self._db)
                raise
            return result


def _undo(db: sqlite3.Connection) -> None:
    """Roll back, unless SQLite did so itself, as it may after a full disk."""
    if db.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
