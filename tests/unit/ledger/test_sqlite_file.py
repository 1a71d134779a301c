"""The file under the SQLite ledger: whose it is, how it is made, migrated and claimed."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import sys
from pathlib import Path

import msgspec
import pytest

from rollbackd.errors import Permanent, Temporary
from rollbackd.ledger.base import LedgerContext
from rollbackd.ledger.sqlite import ADAPTER, SqliteConfig
from rollbackd.ledger.sqlite.faults import explained
from rollbackd.ledger.sqlite.file import APPLICATION_ID, SqliteFile
from rollbackd.ledger.sqlite.ledger import SqliteLedger, migrations
from tests.contract.ledgers import T0, deployed, plan, pushed


async def refusal(path: Path) -> str:
    """What opening a ledger at this path says."""
    ledger = SqliteLedger(path)
    with pytest.raises(Permanent) as caught:
        await ledger.open()
    await ledger.close()
    return str(caught.value)


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "new" / "ledger.db")
    await ledger.open()
    await ledger.accept([pushed("a")], T0)
    folder = tmp_path / "new"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    await ledger.close()
    files = ("ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock")
    assert modes == {"new": 0o700, **dict.fromkeys(files, 0o600)}


async def test_it_lives_in_the_data_directory_unless_told_otherwise(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "memory.db"
    for config, path in ((SqliteConfig(), tmp_path / "ledger.db"), (SqliteConfig(path=elsewhere), elsewhere)):
        ledger = ADAPTER.build(config, LedgerContext(data_dir=str(tmp_path)))
        await ledger.open()
        assert "pid" in await refusal(path)
        await ledger.close()


async def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "ledger.db", migrations())
    await file.open()
    settings = await file.read(
        lambda db: [
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    )
    await file.close()
    assert settings == ["wal", 2, 1]


async def test_opening_twice_is_opening_once(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    await ledger.open()
    await ledger.open()
    assert len(await ledger.accept([pushed("a")], T0)) == 1
    await ledger.close()
    await ledger.open()
    assert len(await ledger.inbox_after(0)) == 1
    await ledger.close()


# -- migrations


def store_of_version_1(path: Path) -> None:
    """A ledger as the first release left it, made without our code."""
    db = sqlite3.connect(path)
    db.executescript(migrations()[0])
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")
    event = msgspec.msgpack.encode(deployed("2.0").event)
    db.execute("INSERT INTO inbox (key, event, received_at) VALUES ('k', ?, ?)", (event, T0))
    db.execute(
        "INSERT INTO rollbacks (id, service, version, to_version, deployed_at, reason, requested_by, decision_id,"
        " created_at, state, updated_at) VALUES ('r', 'checkout', '2.0', '1.0', 1, 'bad', 'engine', NULL, 2,"
        " 'reverting', 4)"
    )
    db.executemany(
        "INSERT INTO steps (rollback_id, seq, at, state, detail) VALUES ('r', ?, ?, ?, '')",
        [(1, 2.0, "planned"), (2, 3.0, "preflight"), (3, 4.0, "reverting")],
    )
    db.commit()
    db.close()


async def test_a_version_1_store_is_read_as_it_is(tmp_path: Path) -> None:
    store_of_version_1(tmp_path / "ledger.db")
    ledger = SqliteLedger(tmp_path / "ledger.db")
    await ledger.open()
    (item,) = await ledger.inbox_after(0)
    (rollback,) = await ledger.unfinished()
    await ledger.close()
    assert (item.key, item.event) == ("k", deployed("2.0").event)
    assert [step.state for step in rollback.steps] == ["planned", "preflight", "reverting"]


async def test_an_older_store_is_migrated_step_by_step_and_keeps_what_it_holds(tmp_path: Path) -> None:
    store_of_version_1(tmp_path / "ledger.db")
    later = (
        "ALTER TABLE inbox ADD COLUMN sender TEXT NOT NULL DEFAULT 'unknown';",
        "UPDATE inbox SET sender = 'somebody';",
    )
    file = SqliteFile(tmp_path / "ledger.db", (*migrations()[:1], *later))
    await file.open()
    version = await file.read(lambda db: db.execute("PRAGMA user_version").fetchone()[0])
    rows = await file.read(lambda db: db.execute("SELECT key, sender FROM inbox").fetchall())
    await file.close()
    assert (version, rows) == (3, [("k", "somebody")])


async def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store_of_version_1(tmp_path / "ledger.db")
    broken = "DELETE FROM inbox; INSERT INTO no_such_table VALUES (1);"
    file = SqliteFile(tmp_path / "ledger.db", (*migrations()[:1], broken))
    with pytest.raises(Permanent, match="no_such_table"):
        await file.open()
    await file.close()
    ledger = SqliteLedger(tmp_path / "ledger.db")
    await ledger.open()
    assert len(await ledger.inbox_after(0)) == 1
    await ledger.close()


async def test_a_store_of_a_newer_rollbackd_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store_of_version_1(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    said = await refusal(path)
    assert str(path) in said
    assert "newer rollbackd (schema 99" in said
    assert path.read_bytes() == before


# -- files that are no ledger


async def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("these are not the bytes you are looking for\n" * 50)
    before = path.read_bytes()
    said = await refusal(path)
    assert str(path) in said
    assert "not a SQLite database" in said
    assert "restore a backup" in said
    assert path.read_bytes() == before


@pytest.mark.parametrize(("number", "told"), [(errno.EACCES, "set `data_dir`"), (errno.EIO, "Input/output error")])
def test_a_folder_of_somebody_else_is_told_with_the_cure(number: int, told: str) -> None:
    with pytest.raises((Permanent, Temporary), match=told), explained(Path("ledger.db")):
        raise OSError(number, os.strerror(number))


async def test_the_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE photos (id INTEGER)")
    db.close()
    before = path.read_bytes()
    assert "another program" in await refusal(path)
    assert path.read_bytes() == before


async def test_a_damaged_ledger_is_named_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.accept([pushed(f"{n:0500}") for n in range(50)], T0)
    await ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-16384] + b"\xa5" * 16384)
    await ledger.open()
    with pytest.raises(Permanent) as caught:
        await ledger.inbox_after(0)
    await ledger.close()
    assert str(path) in str(caught.value)
    assert "restore a backup" in str(caught.value)


async def test_an_entry_that_cannot_be_read_is_reported_not_skipped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store_of_version_1(path)
    db = sqlite3.connect(path)
    db.execute("UPDATE inbox SET event = x'c1'")
    db.commit()
    db.close()
    ledger = SqliteLedger(path)
    await ledger.open()
    with pytest.raises(Permanent, match="cannot be read"):
        await ledger.inbox_after(0)
    assert len(await ledger.unfinished()) == 1
    await ledger.close()


async def test_a_directory_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    assert "Is a directory" in await refusal(tmp_path / "ledger.db")


async def test_a_file_that_cannot_be_written_is_no_passing_trouble(tmp_path: Path) -> None:
    """`query_only` makes SQLite answer as it does for a file it may not write, also where tests run as root."""
    file = SqliteFile(tmp_path / "ledger.db", migrations())
    await file.open()
    await file.read(lambda db: db.execute("PRAGMA query_only = ON"))
    with pytest.raises(Permanent, match="cannot be written"):
        await file.write(lambda db: db.execute("DELETE FROM audit"))
    await file.close()


# -- one daemon a ledger


async def test_a_refused_claim_leaves_the_ledger_to_its_holder(tmp_path: Path) -> None:
    holder = SqliteLedger(tmp_path / "ledger.db")
    await holder.open()
    assert f"pid {os.getpid()}" in await refusal(tmp_path / "ledger.db")
    assert f"pid {os.getpid()}" in await refusal(tmp_path / "ledger.db")
    await holder.close()
    await holder.open()
    await holder.close()


async def test_a_holder_in_another_process_is_named_until_it_dies(tmp_path: Path) -> None:
    holder = "import sys, time; from pathlib import Path; from rollbackd.ledger.sqlite.claim import Claim\n"
    holder += "claim = Claim(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", holder, str(tmp_path / "ledger.db")), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        assert f"pid {process.pid}" in await refusal(tmp_path / "ledger.db")
    finally:
        process.kill()
        await process.communicate()
    ledger = SqliteLedger(tmp_path / "ledger.db")
    await ledger.open()
    await ledger.close()


async def test_another_program_on_the_file_is_waited_for_then_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollbackd.ledger.sqlite.file.BUSY_S", 0.01)
    ledger = SqliteLedger(tmp_path / "ledger.db")
    await ledger.open()
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Temporary, match="another program holds"):
        await ledger.open_rollback(plan())
    assert await ledger.unfinished() == []
    other.execute("ROLLBACK")
    other.close()
    assert (await ledger.open_rollback(plan()))[1]
    await ledger.close()
