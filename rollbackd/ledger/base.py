"""What the ledger is: durable memory. Everything here survives kill -9, and returns only once it is on disk.

Every method raises Temporary where the store cannot be written or read now (a full disk, a lock, a lost server) and
leaves the store as it was; callers then stop accepting and acting, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from rollbackd.intake.base import Accepted
from rollbackd.model import AnyEvent, Decision, Evidence, Standing, WatchChange, WatchState
from rollbackd.notify.base import Message

Mode: TypeAlias = Literal["act", "shadow"]
RollbackState: TypeAlias = Literal[
    "planned", "preflight", "reverting", "reverted", "verifying", "verified", "failed", "escalated"
]
FINAL_STATES: frozenset[RollbackState] = frozenset({"verified", "escalated"})


class ConfigStamp(msgspec.Struct, frozen=True, kw_only=True):
    """Which configuration something was decided under: SHA-256 of the file, and its git commit where it has one."""

    sha256: str
    commit: str | None = None


class InboxItem(msgspec.Struct, frozen=True, kw_only=True):
    """A pushed event that was accepted. `seq` rises by acceptance."""

    seq: int
    event: AnyEvent
    key: str
    received_at: float


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's state at one moment, after everything in the inbox up to `inbox_seq` was fed to it."""

    at: float
    inbox_seq: int
    format: int
    state: bytes


class StoredDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, the configuration and the mode it was made under."""

    id: str
    decision: Decision
    config: ConfigStamp
    mode: Mode


class StoredDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that was watched, how its watch stands, and, once it has ended, what each rule knew then."""

    id: str
    service: str
    version: str
    previous: str | None
    deployed_at: float
    state: WatchState
    reason: str
    changed_at: float
    is_rollback: bool
    evidence: tuple[Evidence, ...] = ()


class StoredRelease(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a release of a service."""

    service: str
    version: str
    standing: Standing
    first_seen: float
    changed_at: float
    reason: str


class RollbackPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, and who asked: `engine`, or `operator:NAME`.

    `key` is derived from the deployment that is undone, so one deployment can be rolled back once.
    """

    key: str
    service: str
    version: str
    to: str
    deployed_at: float
    reason: str
    requested_by: str
    decision_id: str | None
    created_at: float


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One journaled arrow of the rollback's state machine, written before its side effect."""

    seq: int
    at: float
    state: RollbackState
    detail: str


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """A rollback and its journal, oldest step first."""

    id: str
    plan: RollbackPlan
    state: RollbackState
    updated_at: float
    steps: tuple[Step, ...]


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, when. `actor` is a credential's name, `engine` or `daemon`."""

    at: float
    actor: str
    action: str
    subject: str
    detail: str


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Acting is paused, for one service or (`service` None) for all."""

    service: str | None
    actor: str
    reason: str
    at: float


class OutboxItem(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a notifier still has to deliver."""

    id: int
    notifier: str
    message: Message
    attempts: int
    due_at: float


class Ledger(Protocol):
    """Durable memory. Lists come newest first."""

    async def open(self) -> None:
        """Create or migrate the store; refuses (Permanent) a store written by a newer rollbackd."""

    async def open_to_read(self) -> None:
        """Open a store that is there for reading alone, also while a daemon uses it: nothing is claimed or changed.

        Raises Permanent where there is none, or where it is of another schema than this rollbackd's.
        """

    async def close(self) -> None:
        """Release everything. Safe to call twice."""

    # -- what was pushed to us
    async def accept(self, items: Sequence[Accepted], received_at: float) -> list[InboxItem]:
        """Keep pushed events, all or none, before their 2xx; keys seen before are left out of what is returned."""

    async def inbox_after(self, seq: int) -> list[InboxItem]:
        """Accepted events with a higher `seq`, oldest first."""

    # -- what the engine knew and concluded
    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the snapshot."""

    async def load_snapshot(self) -> Snapshot | None:
        """The newest snapshot."""

    async def record(
        self,
        decisions: Sequence[StoredDecision],
        changes: Sequence[WatchChange],
        snapshot: Snapshot,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> None:
        """Keep what one event led to, in one transaction with the engine's state after it and the messages it caused.

        Watch changes create and update deployments and set the standing of releases (opened: baking; good, verified:
        good; condemned, failed: bad; superseded: superseded; unrecovered: as it was; and `opened` and `superseded`
        leave a release that is good as it is where the deployment is a rollback). A decision id seen before changes
        nothing. `previous` of an opened watch becomes a known release, of standing `unknown` where it is new; so is a
        release whose watch opens with no `previous`, until its bake ends.
        `messages` are (notifier name, message) pairs for the outbox.
        """

    async def decisions(self, service: str | None = None, limit: int = 50) -> list[StoredDecision]:
        """Decisions."""

    async def decision(self, decision_id: str) -> StoredDecision | None:
        """One decision."""

    async def deployments(self, service: str | None = None, limit: int = 50) -> list[StoredDeployment]:
        """Watched deployments."""

    async def releases(self, service: str) -> list[StoredRelease]:
        """Releases of a service, newest change first."""

    # -- what was done
    async def open_rollback(self, plan: RollbackPlan) -> tuple[Rollback, bool]:
        """Journal `planned`; (rollback, True). Where `plan.key` exists already: (that one unchanged, False).

        The rollback's id is the plan's key.
        """

    async def step(
        self,
        rollback_id: str,
        state: RollbackState,
        detail: str,
        at: float,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> Rollback:
        """Journal the next step and the messages it causes, in one transaction.

        Raises Permanent for a rollback that is not known, or that has ended.
        """

    async def rollbacks(self, service: str | None = None, limit: int = 50) -> list[Rollback]:
        """Rollbacks."""

    async def rollback(self, rollback_id: str) -> Rollback | None:
        """One rollback."""

    async def unfinished(self) -> list[Rollback]:
        """Rollbacks whose state is not final, oldest first."""

    # -- who did what
    async def audit(self, entry: AuditEntry) -> None:
        """Append to the audit trail."""

    async def audit_trail(self, limit: int = 100) -> list[AuditEntry]:
        """The audit trail."""

    async def set_pause(self, pause: Pause) -> None:
        """Pause; replaces an earlier pause of the same service."""

    async def clear_pause(self, service: str | None) -> bool:
        """End a pause; whether there was one."""

    async def pauses(self) -> list[Pause]:
        """Pauses in force."""

    # -- what people still have to be told
    async def enqueue(self, messages: Sequence[tuple[str, Message]]) -> None:
        """Put (notifier name, message) pairs in the outbox; a (notifier, key) seen before is left out."""

    async def outbox(self, now: float, limit: int = 100) -> list[OutboxItem]:
        """Undelivered messages that are due, oldest first."""

    async def delivered(self, item_id: int) -> None:
        """A message arrived. What is said later of the same one changes nothing."""

    async def postpone(self, item_id: int, due_at: float, error: str) -> None:
        """A message did not arrive; try again at `due_at`."""

    async def give_up(self, item_id: int, error: str) -> None:
        """A message can never arrive; keep it for the record, try no more."""

    # -- housekeeping
    async def prune(self, before: float) -> int:
        """Forget inbox items, finished rollbacks, decisions, audit entries and settled messages older than that; how
        many rows went.

        Never an unfinished rollback nor its decision, an inbox item that no snapshot covers yet, a message still to be
        delivered, nor the releases' standings.
        """


class LedgerContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon gives a ledger's factory beside its configuration."""

    data_dir: str
