"""The tables of who did what: the audit trail, and pauses in force."""

from __future__ import annotations

import sqlite3

import msgspec

from rollbackd.ledger.base import AuditEntry, Pause


def audit(db: sqlite3.Connection, entry: AuditEntry) -> None:
    """Append an entry."""
    db.execute(
        "INSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)",
        msgspec.structs.astuple(entry),
    )


def audit_trail(db: sqlite3.Connection, limit: int) -> list[AuditEntry]:
    """Entries, newest first."""
    rows = db.execute("SELECT at, actor, action, subject, detail FROM audit ORDER BY seq DESC LIMIT ?", (limit,))
    return [
        AuditEntry(at=at, actor=actor, action=action, subject=about, detail=text)
        for at, actor, action, about, text in rows
    ]


def set_pause(db: sqlite3.Connection, pause: Pause) -> None:
    """Pause, or replace the pause of the same service."""
    db.execute(
        "INSERT OR REPLACE INTO pauses (service, actor, reason, at) VALUES (?, ?, ?, ?)",
        (pause.service or "", pause.actor, pause.reason, pause.at),
    )


def clear_pause(db: sqlite3.Connection, service: str | None) -> bool:
    """End a pause; whether there was one."""
    return db.execute("DELETE FROM pauses WHERE service = ?", (service or "",)).rowcount > 0


def pauses(db: sqlite3.Connection) -> list[Pause]:
    """Pauses in force, newest first."""
    rows = db.execute("SELECT service, actor, reason, at FROM pauses ORDER BY at DESC, service")
    return [Pause(service=service or None, actor=actor, reason=reason, at=at) for service, actor, reason, at in rows]


def prune(db: sqlite3.Connection, before: float) -> None:
    """Forget old entries of the audit trail."""
    db.execute("DELETE FROM audit WHERE at < ?", (before,))
