"""The tables of decisions, watched deployments and the standing of releases."""

from __future__ import annotations

import sqlite3

import msgspec

from rollbackd.ledger.base import ConfigStamp, StoredDecision, StoredDeployment, StoredRelease
from rollbackd.ledger.sqlite.codec import Codec
from rollbackd.ledger.standings import standing_after
from rollbackd.model import Decision, Evidence, WatchChange, deployment_id

_decisions: Codec[Decision] = Codec(msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Decision))
_evidence: Codec[tuple[Evidence, ...]] = Codec(msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(tuple[Evidence, ...]))


def add_decision(db: sqlite3.Connection, stored: StoredDecision) -> None:
    """Keep a decision; one whose id is known changes nothing."""
    decision = stored.decision
    db.execute(
        "INSERT INTO decisions"
        " (id, t, service, version, action, rule, reason, config_sha256, config_commit, mode, decision)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (
            stored.id,
            decision.t,
            decision.service,
            decision.version,
            decision.action,
            decision.rule,
            decision.reason,
            stored.config.sha256,
            stored.config.commit,
            stored.mode,
            _decisions.encode(decision),
        ),
    )


def decisions(db: sqlite3.Connection, service: str | None, limit: int) -> list[StoredDecision]:
    """Decisions, newest first."""
    rows = db.execute(
        "SELECT id, decision, config_sha256, config_commit, mode FROM decisions"
        " WHERE :service IS NULL OR service = :service ORDER BY t DESC, seq DESC LIMIT :limit",
        {"service": service, "limit": limit},
    )
    return [_stored(*row) for row in rows]


def decision(db: sqlite3.Connection, decision_id: str) -> StoredDecision | None:
    """One decision."""
    row = db.execute(
        "SELECT id, decision, config_sha256, config_commit, mode FROM decisions WHERE id = ?", (decision_id,)
    ).fetchone()
    return None if row is None else _stored(*row)


def _stored(decision_id: str, blob: bytes, sha256: str, commit: str | None, mode: str) -> StoredDecision:
    return msgspec.convert(
        {"id": decision_id, "decision": _decisions.decode(blob), "config": ConfigStamp(sha256=sha256, commit=commit)}
        | {"mode": mode},
        StoredDecision,
    )


def apply(db: sqlite3.Connection, change: WatchChange) -> None:
    """Create or update the deployment, and the standing of its release."""
    db.execute(
        "INSERT INTO deployments"
        " (id, service, version, previous, deployed_at, state, reason, changed_at, is_rollback, evidence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
        " reason = excluded.reason, changed_at = excluded.changed_at, is_rollback = excluded.is_rollback,"
        " evidence = excluded.evidence, previous = coalesce(excluded.previous, previous)",
        (
            deployment_id(change.service, change.version, change.deployed_at),
            change.service,
            change.version,
            change.previous,
            change.deployed_at,
            change.state,
            change.reason,
            change.t,
            change.is_rollback,
            _evidence.encode(change.evidence),
        ),
    )
    if change.state == "opened" and change.previous is not None:
        _first_sight(db, change.service, change.previous, change.t)
    _first_sight(db, change.service, change.version, change.t)
    row = db.execute(
        "SELECT standing FROM releases WHERE service = ? AND version = ?", (change.service, change.version)
    ).fetchone()
    after = standing_after(change, row[0])
    db.execute(
        "UPDATE releases SET standing = ?, changed_at = ?, reason = ?"
        " WHERE service = ? AND version = ? AND standing != ?",
        (after, change.t, change.reason, change.service, change.version, after),
    )


def _first_sight(db: sqlite3.Connection, service: str, version: str, at: float) -> None:
    db.execute(
        "INSERT INTO releases (service, version, standing, first_seen, changed_at, reason)"
        " VALUES (?, ?, 'unknown', ?, ?, 'not watched yet') ON CONFLICT (service, version) DO NOTHING",
        (service, version, at, at),
    )


def deployments(db: sqlite3.Connection, service: str | None, limit: int) -> list[StoredDeployment]:
    """Watched deployments, newest first."""
    rows = db.execute(
        "SELECT id, service, version, previous, deployed_at, state, reason, changed_at, is_rollback, evidence"
        " FROM deployments"
        " WHERE :service IS NULL OR service = :service ORDER BY deployed_at DESC, seq DESC LIMIT :limit",
        {"service": service, "limit": limit},
    )
    names = StoredDeployment.__struct_fields__
    return [
        msgspec.convert(
            dict(zip(names, (*row[:-2], bool(row[-2]), _evidence.decode(row[-1])), strict=True)),
            StoredDeployment,
        )
        for row in rows
    ]


def releases(db: sqlite3.Connection, service: str) -> list[StoredRelease]:
    """Releases, newest change first."""
    rows = db.execute(
        "SELECT service, version, standing, first_seen, changed_at, reason FROM releases"
        " WHERE service = ? ORDER BY changed_at DESC, seq DESC",
        (service,),
    )
    names = StoredRelease.__struct_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), StoredRelease) for row in rows]


def prune(db: sqlite3.Connection, before: float) -> None:
    """Forget old decisions, but none that a rollback still rests on."""
    db.execute(
        "DELETE FROM decisions WHERE t < ? AND id NOT IN"
        " (SELECT decision_id FROM rollbacks WHERE decision_id IS NOT NULL)",
        (before,),
    )
