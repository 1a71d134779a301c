"""The daemon as the web application sees it: questions about how things stand, and operators' wishes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from rollbackd import __version__
from rollbackd.aiokit import Clock
from rollbackd.engine import Engine
from rollbackd.errors import RollbackdError, Temporary
from rollbackd.intake.base import Reading
from rollbackd.ledger.base import (
    AuditEntry,
    ConfigStamp,
    InboxItem,
    Ledger,
    Mode,
    Pause,
    Rollback,
    RollbackPlan,
    StoredDeployment,
)
from rollbackd.live.fleet import Fleet
from rollbackd.live.pipeline import Pipeline
from rollbackd.live.place import Place
from rollbackd.live.pushed import Pushed
from rollbackd.live.rollbacks import Rollbacks
from rollbackd.model import Standing, Verdict, deployment_id, rollback_key
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

T = TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.backend")

ALL = 1000
"""Rows looked at to join deployments with their decisions and rollbacks."""


class LiveBackend:
    """Answers from the engine, the ledger and the running services."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        pipeline: Pipeline,
        fleet: Fleet,
        rollbacks: Rollbacks,
        pushed: Pushed,
        clock: Clock,
        *,
        stamp: Callable[[], ConfigStamp],
        mode_for: Callable[[str], Mode],
        config_problem: Callable[[], str | None],
        more_problems: Callable[[], tuple[str, ...]],
    ) -> None:
        self._engine, self._ledger, self._pipeline, self._fleet = engine, ledger, pipeline, fleet
        self._rollbacks, self._pushed, self._clock = rollbacks, pushed, clock
        self._stamp, self._mode_for = stamp, mode_for
        self._config_problem, self._more_problems = config_problem, more_problems
        self._started_at = clock.now()

    # -- how things stand

    def problems(self) -> tuple[str, ...]:
        own = (self._pipeline.problem,) if self._pipeline.problem is not None else ()
        return (*own, *self._more_problems())

    def status(self) -> StatusView:
        return StatusView(
            version=__version__,
            started_at=self._started_at,
            now=self._clock.now(),
            config=self._stamp(),
            config_problem=self._config_problem(),
            paused=self._fleet.pauses.get(None),
            problems=self.problems(),
            services=tuple(self.service(name) for name in self._fleet.names),
        )

    def service(self, name: str) -> ServiceView:
        place = self._place(name)
        peek, sources = self._engine.peek(name), self.sources(name)
        blind = any(one.state == "down" for one in sources)
        verdict: Verdict = "insufficient" if blind and peek.verdict == "healthy" else peek.verdict
        watch = None
        if peek.watch is not None:
            watch = WatchView(
                deployment_id=deployment_id(name, peek.watch.version, peek.watch.deployed_at),
                version=peek.watch.version,
                previous=peek.watch.previous,
                deployed_at=peek.watch.deployed_at,
                ends_at=peek.ends_at or peek.watch.deployed_at,
                judged_from=peek.judged_from,
                is_rollback=peek.watch.is_rollback,
                verdict=verdict,
                evidence=peek.evidence,
                excuse=peek.watch.excuse,
            )
        return ServiceView(
            name=name,
            mode=self._mode_for(name),
            target=place.kind,
            current=place.in_place or peek.current,
            last_known_good=peek.last_known_good,
            verdict=verdict,
            watch=watch,
            sources=sources,
            problems=(*place.problems, *self._pipeline.faults(name)),
            contradiction=place.contradiction,
            decision_id=place.decision_id,
            paused=place.paused,
            rollback_id=place.rollback_id,
        )

    def sources(self, name: str) -> tuple[SourceView, ...]:
        """The service's streams, pulled and pushed."""
        return (*(stream.view() for stream in self._fleet.streams(name)), *self._pushed.views(name))

    def _place(self, name: str) -> Place:
        place = self._fleet.place(name)
        if place is None:
            known = ", ".join(self._fleet.names) or "none"
            raise Unknown(f"there is no service `{name}`; configured: {known}")
        return place

    # -- what was pushed

    def ready_for(self, intake: str) -> None:
        del intake
        if self._pipeline.flooded:
            raise Temporary("too much telemetry waits to be judged already: send this again", retry_after=1)

    async def deliver(self, intake: str, reading: Reading, received_at: float, actor: str) -> IntakeView:
        items: list[InboxItem] = []
        if reading.accepted and self._pipeline.crowded:
            raise Temporary("too many pushed events wait to be judged already: send this again", retry_after=5)
        if reading.accepted:
            items = await self._written(self._ledger.accept(reading.accepted, received_at))
        self._pipeline.submit_observed(reading.observed)
        self._pushed.heard(intake, reading.observed)
        for item in items:
            self._fleet.submit_accepted(item)
        if reading.accepted or not reading.observed:
            tell = log.info if reading.accepted else log.debug  # telemetry comes often, and most of it settles later
            tell("delivered", intake=intake, by=actor, items=len(reading.accepted), new=len(items))
        return IntakeView(
            accepted=len(items) + len(reading.observed),
            duplicates=len(reading.accepted) - len(items),
            dropped=dict(reading.dropped),
        )

    # -- what was

    async def deployments(self, service: str | None, limit: int) -> list[DeploymentView]:
        stored = await self._ledger.deployments(service, limit)
        decisions = await self._ledger.decisions(service, ALL)
        rollbacks = {one.plan.key: one.id for one in await self._ledger.rollbacks(service, ALL)}
        standings: dict[str, dict[str, Standing]] = {}
        for name in {one.service for one in stored}:
            standings[name] = {one.version: one.standing for one in await self._ledger.releases(name)}
        by_deployment: dict[str, list[str]] = {}
        for decision in decisions:
            about = decision.decision
            key = deployment_id(about.service, about.version, about.deployed_at)
            by_deployment.setdefault(key, []).append(decision.id)
        return [_deployment(one, standings[one.service], by_deployment, rollbacks) for one in stored]

    async def decisions(self, service: str | None, limit: int) -> list[DecisionView]:
        return [
            DecisionView(id=one.id, decision=one.decision, config=one.config, mode=one.mode)
            for one in await self._ledger.decisions(service, limit)
        ]

    async def decision(self, decision_id: str) -> DecisionView:
        one = await self._ledger.decision(decision_id)
        if one is None:
            raise Unknown(f"there is no decision `{decision_id}`")
        return DecisionView(id=one.id, decision=one.decision, config=one.config, mode=one.mode)

    async def rollbacks(self, service: str | None, limit: int) -> list[RollbackView]:
        return [_rollback(one) for one in await self._ledger.rollbacks(service, limit)]

    async def rollback(self, rollback_id: str) -> RollbackView:
        one = await self._ledger.rollback(rollback_id)
        if one is None:
            raise Unknown(f"there is no rollback `{rollback_id}`")
        return _rollback(one)

    async def audit_trail(self, limit: int) -> list[AuditEntry]:
        return await self._ledger.audit_trail(limit)

    # -- operators' wishes

    async def request_rollback(self, service: str, to: str | None, reason: str, actor: str) -> RollbackView:
        place = self._place(service)
        async with place.orders:  # two wishes at once are one rollback and one refusal
            rollback = await self._ordered(place, to, reason, actor)
        plan = rollback.plan
        try:
            await self._audit(actor, "rollback", service, f"{plan.version} to {plan.to}: {plan.reason}")
        except Temporary as error:  # it runs, and its plan says who asked for it
            log.error("audit_entry_lost", action="rollback", service=service, by=actor, error=str(error))
        return _rollback(rollback)

    async def _ordered(self, place: Place, to: str | None, reason: str, actor: str) -> Rollback:
        service = place.service
        version, goal = await self._checked(place, to)
        plan = RollbackPlan(
            key="",
            service=service,
            version=version,
            to=goal,
            deployed_at=await self._deployed_at(service, version),
            reason=reason or "asked for by an operator",
            requested_by=f"operator:{actor}",
            decision_id=None,
            created_at=self._clock.now(),
        )
        rollback, new = await self._written(self._rollbacks.open(_keyed(plan, plan.deployed_at)))
        if not new and not self._rollbacks.ended(rollback):
            raise Refused(f"rollback {rollback.id} of {version} is running already")
        if not new:  # an earlier attempt came to its end, yet the release is in place: a human's word counts anew
            rollback, _ = await self._written(self._rollbacks.open(_keyed(plan, self._clock.now())))
        return rollback

    async def _checked(self, place: Place, to: str | None) -> tuple[str, str]:
        """(the release in place, the release to put there). Raises Refused with the reason."""
        service = place.service
        if place.target is None:
            raise Refused(f"{service} has no target: configure one, or roll back by hand")
        if self._mode_for(service) == "shadow":
            raise Refused(f"{service} is in shadow mode, in which no target is touched: set `mode: act` first")
        if place.rollback_id is not None:
            raise Refused(f"rollback {place.rollback_id} of {service} is running already")
        try:
            current = await place.target.current()
            version = current.version if current is not None else None
            goal = to or self._engine.rollback_target(service)
            if version is None or goal is None:
                good = self._engine.peek(service).last_known_good
                other = f"but {good}, which runs already, " if good is not None and good == version else ""
                missing = f"no release {other}is known to be good: name one" if version else "nothing is in place"
                raise Refused(f"{service}: {missing}")
            if version == goal:
                raise Refused(f"{service} runs {goal} already")
            problems = (await place.target.readiness(goal)).problems
        except Refused:
            raise
        except RollbackdError as error:
            raise Refused(f"{service}: the target cannot be asked: {error}") from error
        if problems:
            raise Refused(f"{service} cannot go back to {goal} now: {'; '.join(problems)}")
        return version, goal

    async def _deployed_at(self, service: str, version: str) -> float:
        for one in await self._ledger.deployments(service, ALL):
            if one.version == version:
                return one.deployed_at
        return self._clock.now()

    async def pause(self, service: str | None, reason: str, actor: str) -> None:
        if service is not None:
            self._place(service)
        pause = Pause(service=service, actor=actor, reason=reason, at=self._clock.now())
        await self._written(self._ledger.set_pause(pause))
        await self._reload_pauses()
        await self._audit(actor, "pause", service or "*", reason)

    async def resume(self, service: str | None, actor: str) -> None:
        if service is not None:
            self._place(service)
        await self._written(self._ledger.clear_pause(service))
        await self._reload_pauses()
        await self._audit(actor, "resume", service or "*", "")

    async def _reload_pauses(self) -> None:
        self._fleet.set_pauses({one.service: one for one in await self._ledger.pauses()})

    async def _audit(self, actor: str, action: str, subject: str, detail: str) -> None:
        entry = AuditEntry(at=self._clock.now(), actor=actor, action=action, subject=subject, detail=detail)
        await self._written(self._ledger.audit(entry))

    async def _written(self, call: Awaitable[T]) -> T:
        """What a write to the ledger returns; after one that fails, the daemon is not ready until one succeeds."""
        try:
            return await call
        except Temporary as error:
            self._pipeline.doubt(error)
            raise


def _keyed(plan: RollbackPlan, deployed_at: float) -> RollbackPlan:
    return RollbackPlan(
        key=rollback_key(plan.service, plan.version, deployed_at),
        service=plan.service,
        version=plan.version,
        to=plan.to,
        deployed_at=deployed_at,
        reason=plan.reason,
        requested_by=plan.requested_by,
        decision_id=plan.decision_id,
        created_at=plan.created_at,
    )


def _deployment(
    one: StoredDeployment,
    standings: dict[str, Standing],
    decisions: dict[str, list[str]],
    rollbacks: dict[str, str],
) -> DeploymentView:
    return DeploymentView(
        id=one.id,
        service=one.service,
        version=one.version,
        previous=one.previous,
        deployed_at=one.deployed_at,
        state=one.state,
        standing=standings.get(one.version, "unknown"),
        reason=one.reason,
        changed_at=one.changed_at,
        is_rollback=one.is_rollback,
        decision_ids=tuple(decisions.get(one.id, ())),
        rollback_id=rollbacks.get(rollback_key(one.service, one.version, one.deployed_at)),
        evidence=one.evidence,
    )


def _rollback(one: Rollback) -> RollbackView:
    return RollbackView(
        id=one.id,
        service=one.plan.service,
        version=one.plan.version,
        to=one.plan.to,
        deployed_at=one.plan.deployed_at,
        state=one.state,
        reason=one.plan.reason,
        requested_by=one.plan.requested_by,
        decision_id=one.plan.decision_id,
        created_at=one.plan.created_at,
        updated_at=one.updated_at,
        steps=one.steps,
    )
