"""The ledger on SQLite: each method is one transaction of the file, made of what the table modules know to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from sqlite3 import Connection

from rollbackd.intake.base import Accepted
from rollbackd.ledger.base import (
    AuditEntry,
    InboxItem,
    OutboxItem,
    Pause,
    Rollback,
    RollbackPlan,
    RollbackState,
    Snapshot,
    StoredDecision,
    StoredDeployment,
    StoredRelease,
)
from rollbackd.ledger.sqlite import inbox, outbox, people, rollbacks, watches
from rollbackd.ledger.sqlite.file import SqliteFile
from rollbackd.model import WatchChange
from rollbackd.notify.base import Message


def migrations() -> tuple[str, ...]:
    """The scripts that make the schema, oldest first. A published one is never edited; a change is one more."""
    folder = Path(__file__).parent / "migrations"
    return tuple(script.read_text(encoding="utf-8") for script in sorted(folder.glob("*.sql")))


class SqliteLedger:
    """Durable memory in one file."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, migrations())

    async def open(self) -> None:
        await self._file.open()

    async def open_to_read(self) -> None:
        await self._file.open_to_read()

    async def close(self) -> None:
        await self._file.close()

    # -- what was pushed to us
    async def accept(self, items: Sequence[Accepted], received_at: float) -> list[InboxItem]:
        return await self._file.write(lambda db: inbox.accept(db, items, received_at))

    async def inbox_after(self, seq: int) -> list[InboxItem]:
        return await self._file.read(lambda db: inbox.after(db, seq))

    # -- what the engine knew and concluded
    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self._file.write(lambda db: inbox.save_snapshot(db, snapshot))

    async def load_snapshot(self) -> Snapshot | None:
        return await self._file.read(inbox.load_snapshot)

    async def record(
        self,
        decisions: Sequence[StoredDecision],
        changes: Sequence[WatchChange],
        snapshot: Snapshot,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> None:
        def work(db: Connection) -> None:
            for decision in decisions:
                watches.add_decision(db, decision)
            for change in changes:
                watches.apply(db, change)
            inbox.save_snapshot(db, snapshot)
            outbox.enqueue(db, messages)

        await self._file.write(work)

    async def decisions(self, service: str | None = None, limit: int = 50) -> list[StoredDecision]:
        return await self._file.read(lambda db: watches.decisions(db, service, limit))

    async def decision(self, decision_id: str) -> StoredDecision | None:
        return await self._file.read(lambda db: watches.decision(db, decision_id))

    async def deployments(self, service: str | None = None, limit: int = 50) -> list[StoredDeployment]:
        return await self._file.read(lambda db: watches.deployments(db, service, limit))

    async def releases(self, service: str) -> list[StoredRelease]:
        return await self._file.read(lambda db: watches.releases(db, service))

    # -- what was done
    async def open_rollback(self, plan: RollbackPlan) -> tuple[Rollback, bool]:
        return await self._file.write(lambda db: rollbacks.open_rollback(db, plan))

    async def step(
        self,
        rollback_id: str,
        state: RollbackState,
        detail: str,
        at: float,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> Rollback:
        def work(db: Connection) -> Rollback:
            outbox.enqueue(db, messages)
            return rollbacks.step(db, rollback_id, state, detail, at)

        return await self._file.write(work)

    async def rollbacks(self, service: str | None = None, limit: int = 50) -> list[Rollback]:
        return await self._file.read(lambda db: rollbacks.rollbacks(db, service, limit))

    async def rollback(self, rollback_id: str) -> Rollback | None:
        return await self._file.read(lambda db: rollbacks.rollback(db, rollback_id))

    async def unfinished(self) -> list[Rollback]:
        return await self._file.read(rollbacks.unfinished)

    # -- who did what
    async def audit(self, entry: AuditEntry) -> None:
        await self._file.write(lambda db: people.audit(db, entry))

    async def audit_trail(self, limit: int = 100) -> list[AuditEntry]:
        return await self._file.read(lambda db: people.audit_trail(db, limit))

    async def set_pause(self, pause: Pause) -> None:
        await self._file.write(lambda db: people.set_pause(db, pause))

    async def clear_pause(self, service: str | None) -> bool:
        return await self._file.write(lambda db: people.clear_pause(db, service))

    async def pauses(self) -> list[Pause]:
        return await self._file.read(people.pauses)

    # -- what people still have to be told
    async def enqueue(self, messages: Sequence[tuple[str, Message]]) -> None:
        await self._file.write(lambda db: outbox.enqueue(db, messages))

    async def outbox(self, now: float, limit: int = 100) -> list[OutboxItem]:
        return await self._file.read(lambda db: outbox.due(db, now, limit))

    async def delivered(self, item_id: int) -> None:
        await self._file.write(lambda db: outbox.tried(db, item_id, "delivered"))

    async def postpone(self, item_id: int, due_at: float, error: str) -> None:
        await self._file.write(lambda db: outbox.tried(db, item_id, "pending", error, due_at))

    async def give_up(self, item_id: int, error: str) -> None:
        await self._file.write(lambda db: outbox.tried(db, item_id, "given_up", error))

    # -- housekeeping
    async def prune(self, before: float) -> int:
        def work(db: Connection) -> int:
            began = db.total_changes
            for table in (inbox, rollbacks, watches, people, outbox):  # decisions after the rollbacks that name them
                table.prune(db, before)
            return db.total_changes - began

        return await self._file.write(work)
