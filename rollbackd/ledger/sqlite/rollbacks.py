"""The tables of rollbacks and their journals."""

from __future__ import annotations

import sqlite3

import msgspec

from rollbackd.errors import Permanent
from rollbackd.ledger.base import FINAL_STATES, Rollback, RollbackPlan, RollbackState, Step

_PLAN = "id, service, version, to_version, deployed_at, reason, requested_by, decision_id, created_at"
_FINAL = tuple(sorted(FINAL_STATES))


def open_rollback(db: sqlite3.Connection, plan: RollbackPlan) -> tuple[Rollback, bool]:
    """Journal `planned`, unless the key is known."""
    known = rollback(db, plan.key)
    if known is not None:
        return known, False
    db.execute(
        f"INSERT INTO rollbacks ({_PLAN}, state, updated_at)"  # noqa: S608  a constant
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'planned', ?)",
        (*msgspec.structs.astuple(plan), plan.created_at),
    )
    _append(db, plan.key, Step(seq=1, at=plan.created_at, state="planned", detail=plan.reason))
    return _found(db, plan.key), True


def step(db: sqlite3.Connection, rollback_id: str, state: RollbackState, detail: str, at: float) -> Rollback:
    """Journal the next step. Raises Permanent for a rollback that is unknown or has ended."""
    known = _found(db, rollback_id)
    if known.state in FINAL_STATES:
        raise Permanent(f"rollback {rollback_id} has ended ({known.state}); nothing can follow, not even `{state}`")
    _append(db, rollback_id, Step(seq=len(known.steps) + 1, at=at, state=state, detail=detail))
    db.execute("UPDATE rollbacks SET state = ?, updated_at = ? WHERE id = ?", (state, at, rollback_id))
    return _found(db, rollback_id)


def rollbacks(db: sqlite3.Connection, service: str | None, limit: int) -> list[Rollback]:
    """Rollbacks, newest first."""
    rows = db.execute(
        f"SELECT {_PLAN}, state, updated_at FROM rollbacks"  # noqa: S608  a constant
        " WHERE :service IS NULL OR service = :service ORDER BY seq DESC LIMIT :limit",
        {"service": service, "limit": limit},
    ).fetchall()
    return [_rollback(db, row) for row in rows]


def unfinished(db: sqlite3.Connection) -> list[Rollback]:
    """Rollbacks whose state is not final, oldest first."""
    rows = db.execute(
        f"SELECT {_PLAN}, state, updated_at FROM rollbacks WHERE state NOT IN (?, ?) ORDER BY seq",  # noqa: S608
        _FINAL,
    ).fetchall()
    return [_rollback(db, row) for row in rows]


def rollback(db: sqlite3.Connection, rollback_id: str) -> Rollback | None:
    """One rollback."""
    row = db.execute(
        f"SELECT {_PLAN}, state, updated_at FROM rollbacks WHERE id = ?",  # noqa: S608  a constant
        (rollback_id,),
    ).fetchone()
    return None if row is None else _rollback(db, row)


def prune(db: sqlite3.Connection, before: float) -> None:
    """Forget rollbacks that ended long ago, with their journals."""
    db.execute("DELETE FROM rollbacks WHERE updated_at < ? AND state IN (?, ?)", (before, *_FINAL))


def _found(db: sqlite3.Connection, rollback_id: str) -> Rollback:
    known = rollback(db, rollback_id)
    if known is None:
        raise Permanent(f"there is no rollback {rollback_id}")
    return known


def _append(db: sqlite3.Connection, rollback_id: str, one: Step) -> None:
    db.execute(
        "INSERT INTO steps (rollback_id, seq, at, state, detail) VALUES (?, ?, ?, ?, ?)",
        (rollback_id, *msgspec.structs.astuple(one)),
    )


def _rollback(db: sqlite3.Connection, row: tuple[object, ...]) -> Rollback:
    *plan, state, updated_at = row
    steps = db.execute("SELECT seq, at, state, detail FROM steps WHERE rollback_id = ? ORDER BY seq", (plan[0],))
    return msgspec.convert(
        {
            "id": plan[0],
            "plan": dict(zip(RollbackPlan.__struct_fields__, plan, strict=True)),
            "state": state,
            "updated_at": updated_at,
            "steps": [dict(zip(Step.__struct_fields__, one, strict=True)) for one in steps],
        },
        Rollback,
    )
