"""What the HTTP API and the command line's `--format json` answer: the shapes are a contract.

Times are Unix seconds, durations seconds. Fields may be added, never changed or taken away.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from rollbackd.ledger.base import ConfigStamp, Mode, Pause, RollbackState, Step
from rollbackd.model import Decision, Evidence, Name, Standing, Verdict, WatchState

SourceState: TypeAlias = Literal["starting", "up", "down"]
Reason = Annotated[str, msgspec.Meta(max_length=1000)]


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of a service: whether it can be read, and what it gave."""

    name: str
    kind: str
    state: SourceState
    since: float
    reason: str
    events: int
    dropped: dict[str, int]


class WatchView(msgspec.Struct, frozen=True, kw_only=True):
    """The open watch of a deployment. `evidence` has one entry a rule, as things stand.

    `excuse` is what else explains trouble that a rule would convict the release for, while it does. `judged_from` is
    when the release has warmed up: before it nothing is called healthy.
    """

    deployment_id: str
    version: str
    previous: str | None
    deployed_at: float
    ends_at: float
    is_rollback: bool
    verdict: Verdict
    evidence: tuple[Evidence, ...]
    excuse: str | None = None
    judged_from: float | None = None

    def warms_up(self, now: float) -> bool:
        """Whether it is too early for any verdict but a bad one."""
        return self.judged_from is not None and now <= self.judged_from and self.verdict == "insufficient"


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """One service, as things stand. `problems` says why a rollback would not work right now; empty means ready.
    `contradiction` says which announced deployment was none, going by the target; null where there is no such.
    `decision_id` is the newest decision about the deployment in place, in shadow mode too."""

    name: str
    mode: Mode
    target: str | None
    current: str | None
    last_known_good: str | None
    verdict: Verdict
    watch: WatchView | None
    sources: tuple[SourceView, ...]
    problems: tuple[str, ...]
    paused: Pause | None
    rollback_id: str | None
    contradiction: str | None = None
    decision_id: str | None = None


class DeploymentView(msgspec.Struct, frozen=True, kw_only=True):
    """A watched deployment and how its watch stands; `rollback_id` names the rollback that undid it.

    `evidence` is what each rule knew when the watch ended, empty while it is open.
    """

    id: str
    service: str
    version: str
    previous: str | None
    deployed_at: float
    state: WatchState
    standing: Standing
    reason: str
    changed_at: float
    is_rollback: bool
    decision_ids: tuple[str, ...]
    rollback_id: str | None
    evidence: tuple[Evidence, ...] = ()


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and everything it rests on."""

    id: str
    decision: Decision
    config: ConfigStamp
    mode: Mode


class RollbackView(msgspec.Struct, frozen=True, kw_only=True):
    """A rollback and its journal."""

    id: str
    service: str
    version: str
    to: str
    deployed_at: float
    state: RollbackState
    reason: str
    requested_by: str
    decision_id: str | None
    created_at: float
    updated_at: float
    steps: tuple[Step, ...]


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon and everything it watches."""

    version: str
    started_at: float
    now: float
    config: ConfigStamp
    config_problem: str | None
    paused: Pause | None
    problems: tuple[str, ...]
    services: tuple[ServiceView, ...]


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    """Every answer that is not 2xx."""

    error: str
    message: str


class IntakeView(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a delivery: how many events were new, known already, or left out and why."""

    accepted: int
    duplicates: int
    dropped: dict[str, int]


class NotReadyView(ErrorView, frozen=True, kw_only=True):
    """The answer of `/readyz` while not ready; `problems` has one sentence each, for whoever may read."""

    problems: tuple[str, ...]


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/healthz` and `/readyz` when all is well."""

    status: Literal["ok"] = "ok"


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's wish for a rollback, to the last known good release unless `to` names another."""

    to: Name | None = None
    reason: Reason = ""


class PauseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's wish that nothing be done, to one service or (`service` null) to any."""

    service: Name | None = None
    reason: Annotated[Reason, msgspec.Meta(min_length=1)]


class ResumeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's wish to act again, on one service or (`service` null) on all."""

    service: Name | None = None
