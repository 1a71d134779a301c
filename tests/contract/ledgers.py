"""What the suite for ledgers needs: how to build each registered one, and things worth remembering."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from rollbackd import registry
from rollbackd.intake.base import Accepted
from rollbackd.ledger.base import ConfigStamp, Ledger, LedgerContext, RollbackPlan, Snapshot, StoredDecision
from rollbackd.model import (
    Alert,
    Decision,
    DeploymentEvent,
    Evidence,
    GuardAnswer,
    WatchChange,
    WatchState,
    decision_id,
    rollback_key,
)
from rollbackd.notify.base import Message

SETTINGS: Mapping[str, Mapping[str, object]] = {"sqlite": {}}
"""The configuration each registered ledger is tested with. A ledger without a line here fails the suite."""

T0 = 1_763_898_248.25
POISON = "\ud800"
"""Half a character: no ledger can keep it, so whatever carries it must fail as a whole."""


def build(name: str, data_dir: Path) -> Ledger:
    """A ledger on this directory; a second one on the same directory sees the same store."""
    adapter = registry.load("ledger", name)
    ledger: Ledger = adapter.build(adapter.config.model_validate(SETTINGS[name]), LedgerContext(data_dir=str(data_dir)))
    return ledger


def pushed(key: str, t: float = T0) -> Accepted:
    """An alert, known by its key."""
    return Accepted(event=Alert(t=t, service="checkout", name=key[:400], status="firing", severity="page"), key=key)


def deployed(version: str) -> Accepted:
    return Accepted(
        event=DeploymentEvent(t=T0, service="checkout", version=version, phase="finished"), key=f"deploy-{version}"
    )


def snapshot(at: float = T0, inbox_seq: int = 0, state: bytes = b"state") -> Snapshot:
    return Snapshot(at=at, inbox_seq=inbox_seq, format=1, state=state)


def change(
    version: str, state: WatchState, *, service: str = "checkout", at: float = T0, is_rollback: bool = False
) -> WatchChange:
    """A change of the watch that the deployment of `version` at T0 opened."""
    return WatchChange(
        t=at,
        service=service,
        version=version,
        previous="1.0",
        deployed_at=T0,
        state=state,
        reason=f"{state} at {at:.0f}",
        is_rollback=is_rollback,
    )


def stored(version: str = "2.0", *, service: str = "checkout", t: float = T0 + 30) -> StoredDecision:
    """A decision with everything in it, an infinite strength included."""
    decision = Decision(
        t=t,
        service=service,
        version=version,
        action="rollback",
        to="1.0",
        rule="error_ratio",
        reason="12 % of requests fail, was 0.1 %",
        deployed_at=T0,
        evidence=(
            Evidence(
                rule="error_ratio",
                signal="requests",
                verdict="degraded",
                summary="12 % of requests fail",
                baseline=0.001,
                observed=0.12,
                interval=(0.1, 0.14),
                samples=400,
                strength=float("inf"),
                threshold=3.0,
                onset=T0 + 2,
            ),
        ),
        considered=("the old version beside it is well",),
        guards=(GuardAnswer(guard="cooldown", verdict="pass", reason="no rollback lately"),),
    )
    return StoredDecision(
        id=decision_id(decision), decision=decision, config=ConfigStamp(sha256="ab" * 32, commit="c0ffee"), mode="act"
    )


def plan(version: str = "2.0", *, service: str = "checkout", at: float = T0 + 31) -> RollbackPlan:
    return RollbackPlan(
        key=rollback_key(service, version, T0),
        service=service,
        version=version,
        to="1.0",
        deployed_at=T0,
        reason="12 % of requests fail",
        requested_by="engine",
        decision_id=stored(version, service=service).id,
        created_at=at,
    )


def message(key: str = "m1", *, t: float = T0, title: str = "Rolled back") -> Message:
    return Message(
        key=key,
        t=t,
        topic="rollback",
        service="checkout",
        severity="critical",
        title=title,
        text="checkout 2.0 → 1.0",
        details={"to": msgspec.Raw(b'"1.0"')},
    )
