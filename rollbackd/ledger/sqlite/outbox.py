"""The table of what people still have to be told."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec

from rollbackd.ledger.base import OutboxItem
from rollbackd.ledger.sqlite.codec import Codec
from rollbackd.notify.base import Message

_messages: Codec[Message] = Codec(msgspec.json.Encoder(), msgspec.json.Decoder(Message))


def enqueue(db: sqlite3.Connection, messages: Sequence[tuple[str, Message]]) -> None:
    """Put messages in; a (notifier, key) seen before is left out. New ones are due at once."""
    db.executemany(
        "INSERT INTO outbox (notifier, key, t, message) VALUES (?, ?, ?, ?) ON CONFLICT (notifier, key) DO NOTHING",
        [(notifier, message.key, message.t, _messages.encode(message)) for notifier, message in messages],
    )


def due(db: sqlite3.Connection, now: float, limit: int) -> list[OutboxItem]:
    """Undelivered messages that are due, oldest first."""
    rows = db.execute(
        "SELECT id, notifier, message, attempts, due_at FROM outbox"
        " WHERE state = 'pending' AND due_at <= ? ORDER BY id LIMIT ?",
        (now, limit),
    )
    return [
        OutboxItem(id=number, notifier=notifier, message=_messages.decode(blob), attempts=attempts, due_at=due_at)
        for number, notifier, blob, attempts, due_at in rows
    ]


def tried(
    db: sqlite3.Connection,
    item_id: int,
    state: Literal["pending", "delivered", "given_up"],
    error: str = "",
    due_at: float = 0.0,
) -> None:
    """Note how an attempt went; a message that is settled already stays so."""
    db.execute(
        "UPDATE outbox SET attempts = attempts + 1, state = ?, error = ?, due_at = ?"
        " WHERE id = ? AND state = 'pending'",
        (state, error, due_at, item_id),
    )


def prune(db: sqlite3.Connection, before: float) -> None:
    """Forget old messages that arrived or never will."""
    db.execute("DELETE FROM outbox WHERE t < ? AND state != 'pending'", (before,))
