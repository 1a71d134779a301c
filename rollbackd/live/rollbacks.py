"""Decisions become rollbacks here: opened in the ledger, carried out, and taken up again after a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from rollbackd.aiokit import Clock, Tasks
from rollbackd.decide.policy import Policy
from rollbackd.engine import Engine
from rollbackd.ledger.base import FINAL_STATES, Ledger, Rollback, RollbackPlan, StoredDecision
from rollbackd.live.no_target import NoTarget
from rollbackd.live.pipeline import Pipeline
from rollbackd.live.place import Place
from rollbackd.model import DeploymentEvent, rollback_key
from rollbackd.rollback.executor import Executor
from rollbackd.rollback.verification import Verification
from rollbackd.targets.base import Target
from rollbackd.telemetry import Metrics

FORGOTTEN_S = 900.0
"""A decision older than this whose rollback was never opened is not carried out: the world has moved on."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.rollbacks")


class EngineVerifier:
    """Asks the engine whether a rollback helped."""

    def __init__(self, engine: Engine, pipeline: Pipeline, clock: Clock) -> None:
        self._engine, self._pipeline, self._clock = engine, pipeline, clock

    def begun(self, rollback: Rollback, at: float) -> None:
        """Tell the engine of the deployment that our revert is; it knows one it has seen already."""
        plan = rollback.plan
        self._pipeline.submit_now(
            DeploymentEvent(
                t=max(at, self._clock.now()),
                service=plan.service,
                version=plan.to,
                previous=plan.version,
                phase="finished",
            )
        )

    def verdict(self, rollback: Rollback) -> Verification:
        """What the rules say of the release that was put back."""
        verdict, evidence = self._engine.recovery(rollback.plan.service, rollback.plan.to)
        telling = [one.summary for one in evidence if one.verdict != "insufficient"]
        summary = {
            "healthy": "every signal is back at its baseline",
            "degraded": "a signal is still worse than its baseline",
            "insufficient": "too little has been seen since the revert",
        }[verdict]
        return Verification(verdict=verdict, summary="; ".join([summary, *telling]), evidence=evidence)


class Rollbacks:
    """All rollbacks of this daemon. `policy_for` and `place_for` know the services of the moment."""

    def __init__(
        self,
        ledger: Ledger,
        executor: Executor,
        verifier: EngineVerifier,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        policy_for: Callable[[str], Policy],
        place_for: Callable[[str], Place | None],
    ) -> None:
        self._ledger, self._executor, self._verifier = ledger, executor, verifier
        self._clock, self._tasks, self._metrics = clock, tasks, metrics
        self._policy_for, self._place_for = policy_for, place_for

    async def decided(self, decisions: Sequence[StoredDecision]) -> None:
        """Carry out what was decided; shadow mode, hold and escalate carry out nothing."""
        for stored in decisions:
            decision = stored.decision
            self._metrics.decisions.labels(decision.service, decision.action, decision.rule).inc()
            log.info(
                "decided",
                service=decision.service,
                version=decision.version,
                action=decision.action,
                to=decision.to,
                rule=decision.rule,
                reason=decision.reason,
                mode=stored.mode,
            )
            if decision.action == "rollback" and stored.mode == "act" and decision.to is not None:
                await self.open(self._plan(stored, decision.to))

    def _plan(self, stored: StoredDecision, to: str) -> RollbackPlan:
        decision = stored.decision
        return RollbackPlan(
            key=rollback_key(decision.service, decision.version, decision.deployed_at),
            service=decision.service,
            version=decision.version,
            to=to,
            deployed_at=decision.deployed_at,
            reason=decision.reason,
            requested_by="engine",
            decision_id=stored.id,
            created_at=self._clock.now(),
        )

    async def open(self, plan: RollbackPlan) -> tuple[Rollback, bool]:
        """Journal a rollback and begin to carry it out; an earlier one of the same deployment is returned instead."""
        rollback, new = await self._ledger.open_rollback(plan)
        if new:
            self.start(rollback)
        return rollback, new

    def start(self, rollback: Rollback) -> None:
        """Carry a rollback on from the state it is in."""
        place = self._place_for(rollback.plan.service)
        if place is not None:
            place.rollback_id = rollback.id
            place.tell()
        self._tasks.once(f"rollback:{rollback.id}", self._run(rollback, place))

    async def _run(self, rollback: Rollback, place: Place | None) -> None:
        service = rollback.plan.service
        target: Target = place.target if place is not None and place.target is not None else NoTarget(service)
        policy = self._policy_for(service)
        try:
            ended = await self._executor.run(
                rollback, target, self._verifier, verify_for=policy.verify_for, verify_within=policy.verify_within
            )
            self._metrics.rollbacks.labels(service, ended.state).inc()
        finally:
            if place is not None and place.rollback_id == rollback.id:
                place.rollback_id = None
                place.deployment_seen()

    async def resume(self) -> None:
        """After a start: go on with unfinished rollbacks, and with decisions that never became one."""
        unfinished = await self._ledger.unfinished()
        for rollback in unfinished:
            log.info("rollback_resumed", rollback=rollback.id, service=rollback.plan.service, state=rollback.state)
            self.start(rollback)
        for stored in await self._ledger.decisions(limit=100):
            decision = stored.decision
            recent = self._clock.now() - decision.t < FORGOTTEN_S
            if decision.action == "rollback" and stored.mode == "act" and decision.to is not None and recent:
                await self.open(self._plan(stored, decision.to))

    @staticmethod
    def ended(rollback: Rollback) -> bool:
        """Whether there is nothing left to do about it."""
        return rollback.state in FINAL_STATES
