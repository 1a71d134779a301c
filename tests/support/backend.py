"""A daemon in memory, for tests of what talks to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rollbackd.errors import RollbackdError, Temporary
from rollbackd.intake.base import Accepted, Reading
from rollbackd.ledger.base import AuditEntry, ConfigStamp, Pause, Step
from rollbackd.model import AnyEvent, Decision, Evidence, GuardAnswer
from rollbackd.web.backend import Refused, Unknown
from rollbackd.web.views import (
    DecisionView,
    DeploymentView,
    IntakeView,
    RollbackView,
    ServiceView,
    SourceView,
    StatusView,
    WatchView,
)

NOW = 1_700_000_000.0
STAMP = ConfigStamp(sha256="c0ffee" * 10 + "c0ff", commit="a1b2c3d4e5f6")


def evidence(rule: str = "error_ratio", strength: float = 0.4, threshold: float = 3.0) -> Evidence:
    """What a rule says of 1,200 requests; it convicts where strength reaches threshold."""
    return Evidence(
        rule=rule,
        signal="requests",
        verdict="degraded" if strength >= threshold else "healthy",
        summary="4.1% of requests fail, 0.2% did before",
        unit="ratio",
        baseline=0.002,
        observed=0.041,
        interval=(0.03, 0.052),
        samples=1200.0,
        strength=strength,
        threshold=threshold,
        onset=NOW - 200,
    )


def watch(version: str = "v2", strength: float = 0.4) -> WatchView:
    """A watch that is five minutes old, of an hour."""
    return WatchView(
        deployment_id="dep-1",
        version=version,
        previous="v1",
        deployed_at=NOW - 300,
        ends_at=NOW + 3300,
        is_rollback=False,
        verdict="degraded" if strength >= 3 else "healthy",
        evidence=(evidence(strength=strength),),
    )


def source(name: str = "metrics", up: bool = True) -> SourceView:
    """A scrape."""
    return SourceView(
        name=name,
        kind="scrape",
        state="up" if up else "down",
        since=NOW - 900,
        reason="" if up else "connection refused",
        events=180,
        dropped={} if up else {"malformed": 2},
    )


def service(name: str = "checkout", **changed: object) -> ServiceView:
    """A healthy service that runs v2 and is being watched."""
    fields: dict[str, object] = {
        "name": name,
        "mode": "act",
        "target": "release_dir",
        "current": "v2",
        "last_known_good": "v1",
        "verdict": "healthy",
        "watch": watch(),
        "sources": (source(),),
        "problems": (),
        "paused": None,
        "rollback_id": None,
    }
    return ServiceView(**{**fields, **changed})  # type: ignore[arg-type]  # a test names fields by keyword


def decision(decision_id: str = "dec-1", reason: str = "errors rose from 0.2% to 4.1%") -> DecisionView:
    """A rollback decided."""
    return DecisionView(
        id=decision_id,
        decision=Decision(
            t=NOW - 120,
            service="checkout",
            version="v2",
            action="rollback",
            to="v1",
            rule="error_ratio",
            reason=reason,
            deployed_at=NOW - 300,
            evidence=(evidence(strength=3.4),),
            considered=("other services are as they were",),
            guards=(GuardAnswer(guard="cooldown", verdict="pass", reason="no rollback in the last 10 min"),),
        ),
        config=STAMP,
        mode="act",
    )


def rollback(rollback_id: str = "rb-1", to: str = "v1", requested_by: str = "engine") -> RollbackView:
    """A rollback that was verified."""
    return RollbackView(
        id=rollback_id,
        service="checkout",
        version="v2",
        to=to,
        deployed_at=NOW - 300,
        state="verified",
        reason="errors rose from 0.2% to 4.1%",
        requested_by=requested_by,
        decision_id="dec-1",
        created_at=NOW - 119,
        updated_at=NOW - 30,
        steps=(
            Step(seq=1, at=NOW - 119, state="planned", detail=""),
            Step(seq=2, at=NOW - 30, state="verified", detail="healthy for 60 s"),
        ),
    )


def deployment(deployment_id: str = "dep-1") -> DeploymentView:
    """The deployment of v2 under watch."""
    return DeploymentView(
        id=deployment_id,
        service="checkout",
        version="v2",
        previous="v1",
        deployed_at=NOW - 300,
        state="opened",
        standing="baking",
        reason="",
        changed_at=NOW - 300,
        is_rollback=False,
        decision_ids=("dec-1",),
        rollback_id=None,
    )


class FakeBackend:
    """Keeps everything in lists. While `broken` is set, whatever needs the ledger raises it."""

    def __init__(self, services: Sequence[ServiceView] = ()) -> None:
        self.services: Mapping[str, ServiceView] = {view.name: view for view in services or (service(),)}
        self.broken: RollbackdError | None = None
        self.not_ready: tuple[str, ...] = ()
        self.config_problem: str | None = None
        self.paused: Pause | None = None
        self.delivered: list[Accepted] = []
        self.observed: list[AnyEvent] = []
        self.flooded = False
        self.actors: list[str] = []
        self.decision_list: list[DecisionView] = [decision()]
        self.rollback_list: list[RollbackView] = [rollback()]
        self.deployment_list: list[DeploymentView] = [deployment()]
        self.audit_list: list[AuditEntry] = [
            AuditEntry(at=NOW, actor="alice", action="pause", subject="checkout", detail="looking at it")
        ]
        self.asked: list[tuple[str, str | None, int]] = []

    def known(self) -> frozenset[str]:
        return frozenset(self.services)

    def _ledger(self) -> None:
        if self.broken is not None:
            raise self.broken

    def problems(self) -> tuple[str, ...]:
        return self.not_ready

    def status(self) -> StatusView:
        return StatusView(
            version="0.1.0",
            started_at=NOW - 7200,
            now=NOW,
            config=STAMP,
            config_problem=self.config_problem,
            paused=self.paused,
            problems=self.not_ready,
            services=tuple(self.services.values()),
        )

    def service(self, name: str) -> ServiceView:
        if name not in self.services:
            raise Unknown(f"there is no service `{name}`")
        return self.services[name]

    def ready_for(self, intake: str) -> None:
        if self.flooded:
            raise Temporary("too much telemetry waits already", retry_after=1)

    async def deliver(self, intake: str, reading: Reading, received_at: float, actor: str) -> IntakeView:
        self._ledger()
        seen = {accepted.key for accepted in self.delivered}
        new = [accepted for accepted in reading.accepted if accepted.key not in seen]
        self.delivered += new
        self.observed += reading.observed
        self.actors.append(actor)
        duplicates = len(reading.accepted) - len(new)
        return IntakeView(
            accepted=len(new) + len(reading.observed), duplicates=duplicates, dropped=dict(reading.dropped)
        )

    async def deployments(self, service: str | None, limit: int) -> list[DeploymentView]:
        self._ledger()
        self.asked.append(("deployments", service, limit))
        return self.deployment_list[:limit]

    async def decisions(self, service: str | None, limit: int) -> list[DecisionView]:
        self._ledger()
        self.asked.append(("decisions", service, limit))
        return self.decision_list[:limit]

    async def decision(self, decision_id: str) -> DecisionView:
        self._ledger()
        for view in self.decision_list:
            if view.id == decision_id:
                return view
        raise Unknown(f"there is no decision `{decision_id}`")

    async def rollbacks(self, service: str | None, limit: int) -> list[RollbackView]:
        self._ledger()
        self.asked.append(("rollbacks", service, limit))
        return self.rollback_list[:limit]

    async def rollback(self, rollback_id: str) -> RollbackView:
        self._ledger()
        for view in self.rollback_list:
            if view.id == rollback_id:
                return view
        raise Unknown(f"there is no rollback `{rollback_id}`")

    async def request_rollback(self, service: str, to: str | None, reason: str, actor: str) -> RollbackView:
        self._ledger()
        found = self.service(service)
        if self.rollback_list and self.rollback_list[0].state not in ("verified", "escalated"):
            raise Refused(f"a rollback of `{service}` is running already: wait for it")
        planned = rollback(f"rb-{len(self.rollback_list) + 1}", to or str(found.last_known_good), f"operator:{actor}")
        self.rollback_list.insert(0, planned)
        return planned

    async def pause(self, service: str | None, reason: str, actor: str) -> None:
        self._ledger()
        if service is not None:
            self.service(service)
        self.paused = Pause(service=service, actor=actor, reason=reason, at=NOW)

    async def resume(self, service: str | None, actor: str) -> None:
        self._ledger()
        if service is not None:
            self.service(service)
        self.actors.append(actor)
        self.paused = None

    async def audit_trail(self, limit: int) -> list[AuditEntry]:
        self._ledger()
        self.asked.append(("audit", None, limit))
        return self.audit_list[:limit]
