"""Seeing deployments on a Docker engine: its events tell when to look, and what is there tells what happened.

An event is never taken for a deployment by itself: the stream breaks off, an engine that starts again has forgotten
what it told, and what counts is what runs. So a lost event costs at most the time until the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from rollbackd.aiokit import Clock
from rollbackd.docker.engine import EngineFault
from rollbackd.errors import RollbackdError
from rollbackd.model import Phase
from rollbackd.targets.base import TargetChange
from rollbackd.targets.docker_engine import Docker

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.docker")

CALM_S = 0.05
"""Events come in bunches: after the first one, so long is waited for the others."""


UNDER_WAY_S = 1.0
"""How often to look while a deployment is under way: not every step of it is an event."""


@dataclass(frozen=True)
class Stage:
    """The release that is on its way or in place, and since when (Unix seconds).

    `complete` is whether all of it is there and well. `undone` names one that the platform itself took back.
    """

    version: str
    complete: bool
    since: float | None = None
    undone: bool = False


async def follow(
    docker: Callable[[], Docker],
    filters: Mapping[str, list[str]],
    look: Callable[[], Awaitable[Stage | None]],
    clock: Clock,
    poll: float,
    service: str,
) -> AsyncIterator[TargetChange]:
    """Deployments as they happen. The first look yields nothing; a look that fails is no deployment."""
    nudge = asyncio.Event()
    listening = asyncio.create_task(_listen(docker, filters, nudge, clock, poll, service), name=f"events of {service}")
    eyes = _Eyes(clock, service)
    try:
        while True:
            nudge.clear()
            try:
                stage = await look()
            except RollbackdError as error:
                eyes.blind(error)
            else:
                for change in eyes.see(stage):
                    yield change
            await _either(nudge, clock, min(poll, UNDER_WAY_S) if eyes.under_way else poll)
    finally:
        listening.cancel()
        await asyncio.wait({listening})


async def _either(nudge: asyncio.Event, clock: Clock, poll: float) -> None:
    waits = {asyncio.ensure_future(nudge.wait()), asyncio.ensure_future(clock.sleep(poll))}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


async def _listen(
    docker: Callable[[], Docker],
    filters: Mapping[str, list[str]],
    nudge: asyncio.Event,
    clock: Clock,
    poll: float,
    service: str,
) -> None:
    """Nudge for every event, and whenever events begin to be heard again."""
    while True:
        try:
            async with docker() as engine, aclosing(engine.events(filters)) as events:
                async for _event in events:
                    await asyncio.sleep(CALM_S)
                    nudge.set()
        except EngineFault as error:
            log.debug("events_lost", service=service, error=str(error))
        except RollbackdError as error:
            log.warning("events_refused", service=service, error=str(error))
        await clock.sleep(poll)


class _Eyes:
    """What was seen last, and what that makes of what is seen now."""

    def __init__(self, clock: Clock, service: str) -> None:
        self._clock, self._service = clock, service
        self._known: Stage | None = None
        self._before: str | None = None
        self._looked: float | None = None
        self._blind = False

    @property
    def under_way(self) -> bool:
        """Whether a deployment has begun and is not complete."""
        return self._known is not None and not self._known.complete

    def blind(self, error: RollbackdError) -> None:
        """The look failed."""
        if not self._blind:
            log.warning("target_unreadable", service=self._service, error=str(error))
        self._blind = True

    def see(self, stage: Stage | None) -> list[TargetChange]:
        """What happened since the last look."""
        if self._blind:
            log.info("target_readable", service=self._service)
        self._blind = False
        now = self._clock.now()
        first, self._looked = self._looked is None, now if self._looked is None else self._looked
        known = self._known
        changes: list[TargetChange] = []
        if stage is None or first:
            if stage is not None:
                self._known = Stage(stage.version, complete=True)  # how it came there nobody has seen
        elif known is None or stage.version != known.version:
            if known is not None and stage.undone and not known.complete and stage.version == self._before:
                changes.append(self._change(known.version, self._before, "failed", now))
            else:
                t = min(max(stage.since or self._looked, self._looked), now)
                previous = known.version if known is not None else None
                changes.append(self._change(stage.version, previous, "started", t))
                self._before = previous
                if stage.complete:
                    changes.append(self._change(stage.version, previous, "finished", t))
            self._known = stage
        elif stage.complete and not known.complete:
            changes.append(self._change(stage.version, self._before, "finished", now))
            self._known = stage
        self._looked = now
        return changes

    def _change(self, version: str, previous: str | None, phase: Phase, t: float) -> TargetChange:
        log.info("deployment_seen", service=self._service, version=version, previous=previous, phase=phase)
        return TargetChange(t=t, version=version, previous=previous, phase=phase)
