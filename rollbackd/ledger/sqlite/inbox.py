"""The tables of what was pushed to us and of the engine's snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from rollbackd.intake.base import Accepted
from rollbackd.ledger.base import InboxItem, Snapshot
from rollbackd.ledger.sqlite.codec import Codec
from rollbackd.model import AnyEvent

_events: Codec[AnyEvent] = Codec(msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(AnyEvent))


def accept(db: sqlite3.Connection, items: Sequence[Accepted], received_at: float) -> list[InboxItem]:
    """Insert what is new."""
    new = []
    for item in items:
        done = db.execute(
            "INSERT INTO inbox (key, event, received_at) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
            (item.key, _events.encode(item.event), received_at),
        )
        if done.rowcount and done.lastrowid is not None:
            new.append(InboxItem(seq=done.lastrowid, event=item.event, key=item.key, received_at=received_at))
    return new


def after(db: sqlite3.Connection, seq: int) -> list[InboxItem]:
    """Items with a higher number, oldest first."""
    rows = db.execute("SELECT seq, event, key, received_at FROM inbox WHERE seq > ? ORDER BY seq", (seq,))
    return [
        InboxItem(seq=number, event=_events.decode(event), key=key, received_at=received_at)
        for number, event, key, received_at in rows
    ]


def save_snapshot(db: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Replace the one snapshot."""
    db.execute(
        "INSERT OR REPLACE INTO snapshot (one, at, inbox_seq, format, state) VALUES (1, ?, ?, ?, ?)",
        (snapshot.at, snapshot.inbox_seq, snapshot.format, snapshot.state),
    )


def load_snapshot(db: sqlite3.Connection) -> Snapshot | None:
    """The one snapshot."""
    row = db.execute("SELECT at, inbox_seq, format, state FROM snapshot").fetchone()
    return None if row is None else Snapshot(at=row[0], inbox_seq=row[1], format=row[2], state=row[3])


def prune(db: sqlite3.Connection, before: float) -> None:
    """Forget old items, but none that a restarted engine would still have to be fed."""
    db.execute(
        "DELETE FROM inbox WHERE received_at < ? AND seq <= (SELECT coalesce(max(inbox_seq), 0) FROM snapshot)",
        (before,),
    )
