"""A full disk under the ledger: it says so, loses nothing it accepted, and goes on once there is space."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from rollbackd.errors import Temporary
from rollbackd.ledger.sqlite.file import SqliteFile
from rollbackd.ledger.sqlite.inbox import accept, after
from rollbackd.ledger.sqlite.ledger import migrations
from tests.contract.ledgers import T0, pushed

ROOT = Path(__file__).parents[3]

NO_SPACE = """
import asyncio, resource, sys
from pathlib import Path
from rollbackd.errors import Temporary
from rollbackd.ledger.sqlite.ledger import SqliteLedger
from tests.contract.ledgers import T0, plan, pushed

def allow(size):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

async def main():
    path = Path(sys.argv[1])
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.open_rollback(plan())
    allow(path.with_name("ledger.db-wal").stat().st_size + 20_000)
    accepted = []
    for n in range(1000):
        try:
            accepted += await ledger.accept([pushed(f"{n:0500}"), pushed(f"{n:0500}b")], T0)
        except Temporary as error:
            print(error)
            break
    else:
        raise SystemExit("the disk never filled")
    for call in (ledger.step(plan().key, "preflight", "", T0), ledger.accept([pushed("c" * 5000)], T0)):
        try:
            await call
        except Temporary:
            continue
        raise SystemExit("accepted on a full disk")
    assert await ledger.inbox_after(0) == accepted, "reading goes on, and nothing half accepted is there"
    allow(resource.RLIM_INFINITY)
    accepted += await ledger.accept([pushed("after")], T0)
    rollback = await ledger.step(plan().key, "preflight", "", T0)
    assert len(rollback.steps) == 2
    await ledger.close()
    await ledger.open()
    assert await ledger.inbox_after(0) == accepted
    await ledger.close()
    print("lost nothing of", len(accepted))

asyncio.run(main())
"""


def test_writes_that_the_system_refuses_lose_nothing(tmp_path: Path) -> None:
    """A process whose files may not grow any more: SQLite's writes really fail in the middle of a transaction."""
    ran = subprocess.run(
        [sys.executable, "-c", NO_SPACE, str(tmp_path / "ledger.db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"the ledger {tmp_path / 'ledger.db'} cannot be used now: the disk" in ran.stdout
    assert "lost nothing of" in ran.stdout


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[SqliteFile]:
    one = SqliteFile(tmp_path / "ledger.db", migrations())
    await one.open()
    yield one
    await one.close()


async def test_a_full_database_says_that_the_disk_is_full(file: SqliteFile) -> None:
    """SQLite's own limit on pages makes it answer SQLITE_FULL, as it does for ENOSPC."""
    pages = await file.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await file.read(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 2}"))
    kept = 0

    async def fill() -> None:
        nonlocal kept
        for n in range(100):
            batch = [pushed(f"{n}-{part}-{'x' * 900}") for part in range(3)]
            await file.write(partial(accept, items=batch, received_at=T0))
            kept += len(batch)

    with pytest.raises(Temporary, match=r"disk is full; free some space"):
        await fill()
    assert len(await file.read(lambda db: after(db, 0))) == kept
    await file.read(lambda db: db.execute("PRAGMA max_page_count = 100000"))
    await file.write(lambda db: accept(db, [pushed("after")], T0))
    assert len(await file.read(lambda db: after(db, 0))) == kept + 1
