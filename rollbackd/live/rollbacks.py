"""Decisions become rollbacks here: opened in the ledger, carried out, and taken up again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from rollbackd.aiokit import Clock, RetryPolicy, Tasks, retry
from rollbackd.decide.policy import Policy
from rollbackd.engine import Engine
from rollbackd.errors import Temporary
from rollbackd.ledger.base import FINAL_STATES, Ledger, Mode, Rollback, RollbackPlan, RollbackState, StoredDecision
from rollbackd.live.no_target import NoTarget
from rollbackd.live.pipeline import Pipeline
from rollbackd.live.place import Place
from rollbackd.model import DeploymentEvent, Verdict, rollback_key
from rollbackd.rollback.executor import Executor
from rollbackd.rollback.verification import Verification
from rollbackd.targets.base import Target
from rollbackd.telemetry import Metrics

FORGOTTEN_S = 900.0
"""What was asked for longer ago than this, and not begun, is not carried out but told: the world has moved on."""
NOT_BEGUN: frozenset[RollbackState] = frozenset({"planned", "preflight"})
"""States in which the target has not been changed yet."""
UNTOUCHED: frozenset[RollbackState] = frozenset({"planned", "preflight", "reverting"})
"""States in which the target may still have to be changed."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.rollbacks")


_SUMMARIES: dict[Verdict, str] = {
    "healthy": "every signal is back at its baseline",
    "degraded": "a signal is still worse than its baseline",
    "insufficient": "too little has been seen since the revert",
}


_OF_A_STRANGER: dict[Verdict, str] = _SUMMARIES | {"healthy": "nothing is worse than before the rollback"}


class EngineVerifier:
    """Asks the engine whether a rollback helped."""

    def __init__(self, engine: Engine, pipeline: Pipeline, clock: Clock) -> None:
        self._engine, self._pipeline, self._clock = engine, pipeline, clock

    def begun(self, rollback: Rollback, at: float) -> None:
        """Tell the engine of the deployment that our revert is; it knows one it has seen already.

        Not where a third release is in place by now: after a restart that would be old news told as new.
        """
        plan = rollback.plan
        if self._engine.peek(plan.service).current not in (plan.version, plan.to, None):
            return
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
        words = _SUMMARIES
        peek = self._engine.peek(rollback.plan.service)
        if peek.watch is not None and peek.watch.version == rollback.plan.to and not peek.watch.is_rollback:
            # an operator may put in place what the engine never saw: a deployment like any other, which is convicted
            # by all that was seen of it, but well only if it is so lately
            verdict = "degraded" if peek.verdict == "degraded" else verdict
            words = _OF_A_STRANGER
        telling = [one.summary for one in evidence if one.verdict != "insufficient"]
        return Verification(verdict=verdict, summary="; ".join([words[verdict], *telling]), evidence=evidence)


class Rollbacks:
    """All rollbacks of this daemon. `policy_for`, `mode_for` and `place_for` know the services of the moment.

    `on_end` is called when one has ended, or was left for the next start.
    """

    def __init__(
        self,
        ledger: Ledger,
        executor: Executor,
        verifier: EngineVerifier,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        *,
        policy_for: Callable[[str], Policy],
        mode_for: Callable[[str], Mode],
        place_for: Callable[[str], Place | None],
        on_end: Callable[[], None],
    ) -> None:
        self._ledger, self._executor, self._verifier = ledger, executor, verifier
        self._clock, self._tasks, self._metrics = clock, tasks, metrics
        self._policy_for, self._mode_for, self._place_for, self._on_end = policy_for, mode_for, place_for, on_end
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.problems: tuple[str, ...] = ()

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
            if (plan := self._plan_for(stored)) is not None:
                await self._insist(plan)

    async def _insist(self, plan: RollbackPlan) -> None:
        """Open a rollback, however long the ledger cannot be written."""
        await retry(lambda: self._open_decided(plan), RetryPolicy(longest_wait=15.0), self._clock, self._on_retry)
        self.problems = ()

    async def _open_decided(self, plan: RollbackPlan) -> None:
        """Open a rollback that the engine decided. An earlier attempt of somebody else's that failed does not stand in
        its way; one that is under way, or helped, does."""
        known, new = await self.open(plan)
        if new or known.plan.decision_id == plan.decision_id:
            return
        log.warning(
            "rollback_tried_before",
            rollback=known.id,
            service=plan.service,
            state=known.state,
            requested_by=known.plan.requested_by,
        )
        if known.state == "escalated":
            key = rollback_key(plan.service, plan.version, plan.created_at)
            await self.open(msgspec.structs.replace(plan, key=key))

    def _on_retry(self, error: Temporary, wait: float) -> None:
        if not self.problems:
            log.error("rollback_not_opened", error=str(error), retry_in_s=round(wait, 1))
        self.problems = (f"a rollback that was decided is not begun: {error}",)

    def _plan_for(self, stored: StoredDecision) -> RollbackPlan | None:
        """The rollback that follows from a decision; None where nothing is to be done, or may be done now."""
        decision = stored.decision
        if decision.action != "rollback" or decision.to is None or stored.mode != "act":
            return None
        return self._plan(stored, decision.to) if self._mode_for(decision.service) == "act" else None

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
            created_at=decision.t,  # its age counts from here, however late it could be written down
        )

    async def open(self, plan: RollbackPlan) -> tuple[Rollback, bool]:
        """Journal a rollback and begin to carry it out; an earlier one of the same deployment is returned instead."""
        rollback, new = await self._ledger.open_rollback(plan)
        if new:
            self.start(rollback)
        return rollback, new

    def start(self, rollback: Rollback) -> None:
        """Carry a rollback on from the state it is in; while the daemon stops, that is left to the next start."""
        if self._stopping:
            return
        place = self._place_for(rollback.plan.service)
        if place is not None:
            place.rollback_id = rollback.id
            place.tell()
        task = self._tasks.once(f"rollback:{rollback.id}", self._run(rollback, place))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _target(self, rollback: Rollback, place: Place | None) -> Target:
        service = rollback.plan.service
        if place is None or place.target is None:
            return NoTarget(f"no target is configured for {service} any more")
        if self._mode_for(service) == "shadow" and rollback.state in UNTOUCHED:
            return NoTarget(f"{service} is in shadow mode by now, in which no target is touched")
        age = self._clock.now() - rollback.plan.created_at
        if age > FORGOTTEN_S and rollback.state in NOT_BEGUN:
            log.error("rollback_too_old", rollback=rollback.id, service=service, age_s=round(age))
            return NoTarget(
                f"this was asked for {age / 60:.0f} min ago and could not be begun since, which is too late to do it:"
                " see how the service is now, and ask again if need be"
            )
        return place.target

    async def _run(self, rollback: Rollback, place: Place | None) -> None:
        service = rollback.plan.service
        target = self._target(rollback, place)
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
            self._on_end()

    async def resume(self) -> None:
        """After a start: go on with unfinished rollbacks, and with decisions that never became one."""
        unfinished = await self._ledger.unfinished()
        for rollback in unfinished:
            log.info("rollback_resumed", rollback=rollback.id, service=rollback.plan.service, state=rollback.state)
            self.start(rollback)
        for stored in await self._ledger.decisions(limit=100):
            if (plan := self._plan_for(stored)) is not None:
                await self._open_decided(plan)

    async def stop(self) -> None:
        """Leave what is running to the next start, and begin nothing more."""
        self._stopping = True
        running = set(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    @staticmethod
    def ended(rollback: Rollback) -> bool:
        """Whether there is nothing left to do about it."""
        return rollback.state in FINAL_STATES
