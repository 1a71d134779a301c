"""A service's target while the daemon runs: deployments it sees, and whether a revert would work right now."""

from __future__ import annotations

import asyncio

import structlog

from rollbackd.aiokit import Clock
from rollbackd.decide.guards import Conditions
from rollbackd.engine import Engine, Peek
from rollbackd.errors import RollbackdError
from rollbackd.ledger.base import InboxItem, Pause, StoredDecision
from rollbackd.live.announced import Announced
from rollbackd.live.pipeline import Pipeline
from rollbackd.model import MAX_BACKWARDS_S, DeploymentEvent
from rollbackd.targets.base import Target
from rollbackd.telemetry import Metrics

LOOK_EVERY_S = 15.0
"""How often a target is asked what is in place and whether a revert would work."""
LOOK_SOON_S = 5.0
"""The same while a deployment was announced that it does not show yet."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets")


class Place:
    """Where one service runs. Tells the engine of deployments and of conditions that no event tells."""

    def __init__(
        self,
        service: str,
        kind: str | None,
        target: Target | None,
        engine: Engine,
        pipeline: Pipeline,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.service, self.kind, self.target = service, kind, target
        self._engine, self._pipeline, self._clock, self._metrics = engine, pipeline, clock, metrics
        self._nudge = asyncio.Event()
        self._stranger: str | None = None
        self._announced = Announced(service, pipeline, clock)
        self.in_place: str | None = None
        self.shadow = False
        self.problems: tuple[str, ...] = () if target is not None else ("no target is configured",)
        self.paused: Pause | None = None
        self.rollback_id: str | None = None
        self.decision_id: str | None = None
        self.orders = asyncio.Lock()

    # -- what the engine's guards are told

    def tell(self) -> None:
        """Pass on how things stand."""
        paused, running = None, None
        if self.paused is not None:
            paused = f"paused by {self.paused.actor}: {self.paused.reason or 'no reason given'}"
        if self.rollback_id is not None:
            running = f"rollback {self.rollback_id} is running"
        self._engine.set_conditions(
            self.service,
            Conditions(
                paused=paused,
                running=running,
                in_place=self.in_place,
                problems=self.problems,
                shadow=self.shadow,
            ),
        )
        self._metrics.ready.labels(self.service).set(0 if self.problems else 1)

    def forget(self) -> None:
        """Take its metrics away: the service is gone."""
        self._metrics.ready.remove(self.service)

    def announced(self, item: InboxItem, event: DeploymentEvent) -> None:
        """Somebody says that there was a deployment. Where there is a target, it has to show one that is finished."""
        if event.phase == "finished" and self.target is not None:
            self._announced.hold(item, event)
        else:
            self._pipeline.submit_accepted(item)
        self.deployment_seen()

    @property
    def contradiction(self) -> str | None:
        """An announced deployment that the target did not show, as a sentence."""
        return self._announced.contradiction

    def hand_over(self) -> None:
        """Another place takes its turn: what waits for a look here is passed on without one."""
        self._announced.believe()

    def decided(self, stored: StoredDecision) -> None:
        """Remember the newest decision about the deployment in place."""
        peek, about = self._engine.peek(self.service), stored.decision
        if peek.current == about.version and (peek.watch is None or peek.watch.deployed_at == about.deployed_at):
            self.decision_id = stored.id

    def deployment_seen(self) -> None:
        """Something was deployed: what was known of the target is old news until it is asked again."""
        self.in_place = None
        self.tell()
        self._nudge.set()

    # -- tasks

    async def follow(self) -> None:
        """Pass on the deployments that the target sees; never ends."""
        if self.target is None:
            return
        async for change in self.target.changes():
            self.deployment_seen()
            await self._pipeline.submit(
                DeploymentEvent(
                    t=max(change.t, self._clock.now() - MAX_BACKWARDS_S / 2),
                    service=self.service,
                    version=change.version,
                    previous=change.previous,
                    phase=change.phase,
                )
            )

    async def look(self) -> None:
        """Ask the target again and again what is in place and whether a revert would work; never ends."""
        if self.target is None:
            return
        while True:
            self._nudge.clear()
            try:
                await self._ask(self.target)
            except Exception as error:
                self._announced.believe()
                self.problems = (f"the target crashed ({type(error).__name__}), the log says more",)
                self.tell()
                raise
            self.tell()
            nudged = asyncio.create_task(self._nudge.wait())
            slept = asyncio.create_task(self._sleep())
            try:
                await asyncio.wait({nudged, slept}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                nudged.cancel()
                slept.cancel()

    async def _sleep(self) -> None:
        await self._clock.sleep(LOOK_SOON_S if self._announced else LOOK_EVERY_S)

    async def _ask(self, target: Target) -> None:
        try:
            current = await target.current()
            in_place = current.version if current is not None else None
            # at first sight there is nothing to go back to yet, but the next release will be reverted to this one
            to = self._engine.rollback_target(self.service) or in_place
            problems = (await target.readiness(to)).problems if to is not None else ()
        except RollbackdError as error:
            if self.problems != (str(error),):
                log.warning("target_unreadable", service=self.service, error=str(error))
            self.problems = (str(error),)
            self._announced.believe()
            return
        if not self._nudge.is_set():  # a deployment seen while asking makes the answer old
            self.in_place = in_place
            self._announced.compare(in_place)
        self.problems = problems
        self._reconcile(in_place)

    def _reconcile(self, in_place: str | None) -> None:
        """Tell the engine of a release that is in place without any deployment having been seen.

        At the first look it is what was there before us; later it needs a second look, since the target's own
        word of the change may be on its way.
        """
        peek = self._engine.peek(self.service)
        known = peek.current
        if in_place is None or in_place == known or self.rollback_id is not None or self._is_awaited(peek, in_place):
            self._stranger = None
            return
        if known is not None and self._stranger != in_place:
            self._stranger = in_place
            self._nudge_later()
            return
        self._stranger = None
        log.info("release_found", service=self.service, version=in_place, known=known)
        self._pipeline.submit_now(
            DeploymentEvent(
                t=self._clock.now(), service=self.service, version=in_place, previous=known, phase="finished"
            )
        )

    def _is_awaited(self, peek: Peek, in_place: str) -> bool:
        """Whether a deployment that was told is still on its way: what it replaces is in place, as it must be.

        Not beyond half the bake: one that was given up must not become good unseen.
        """
        watch = peek.watch
        if watch is None or peek.ends_at is None or watch.finished_at is not None or in_place != watch.previous:
            return False
        return self._clock.now() < (watch.bakes_from + peek.ends_at) / 2

    def _nudge_later(self) -> None:
        asyncio.get_running_loop().call_later(2.0, self._nudge.set)
