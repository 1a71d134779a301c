"""Deployments of one workload as they happen, seen by watching it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import structlog

from rollbackd.aiokit import Clock, RetryPolicy, retry
from rollbackd.errors import RollbackdError, Temporary
from rollbackd.kubernetes.kinds import out_of_time
from rollbackd.kubernetes.watch import Changed, Deleted, Listed, Quiet, Watch
from rollbackd.kubernetes.workloads import Workload
from rollbackd.model import Phase
from rollbackd.targets.base import TargetChange
from rollbackd.targets.kubernetes.view import Look, View

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


SILENT_S = 150.0
"""A watch in order is never silent for so long."""
GIVEN_UP_S = 600.0
"""So long after a rollout has run out of time it is told as failed, which ends the look at its release.

Until then what is seen of the release, as the trouble of its pods, can still be a reason to revert it.
"""


class Rollouts:
    """What was seen of the workload so far, and what is to be told of it.

    The first look tells nothing; but a rollout that was under way then is told when it ends.
    """

    def __init__(self, view: View, clock: Clock, service: str) -> None:
        self._view, self._clock, self._service = view, clock, service
        self._known: str | None = None
        self._previous: str | None = None
        self._ended = True
        self._stuck_at: float | None = None
        self._looked_at: tuple[int, str, str] | None = None

    async def changes(self) -> AsyncIterator[TargetChange]:
        """Until cancelled."""
        async with aclosing(self._seen()) as seen:
            async for workload, since in seen:
                for change in await self._told(workload, since) if workload is not None else self._overdue():
                    yield change

    async def _seen(self) -> AsyncGenerator[tuple[Workload | None, float | None], None]:
        """The workload each time it changed, with when it was heard of before; None now and then where it did not."""
        while True:
            try:
                folder, what = await self._view.folder(), await self._view.what()
            except RollbackdError as error:
                log.warning("target_unreadable", service=self._service, error=str(error))
                await self._clock.sleep(30.0)
                continue
            query = {"fieldSelector": f"metadata.name={self._view.name}"}
            watch = Watch(self._view.api, folder, Workload, what, query, self._clock)
            async with aclosing(watch.run()) as events:
                async for event in events:
                    match event:
                        case Listed(objects, since):
                            for workload in objects:
                                yield workload, since
                        case Changed(workload, since):
                            yield workload, since
                        case Quiet():
                            yield None, None
                        case Deleted():
                            self._looked_at = None

    async def _told(self, workload: Workload, since: float | None) -> list[TargetChange]:
        """What follows from the workload being so."""
        told: list[TargetChange] = []
        marks = (
            workload.metadata.generation,
            workload.metadata.annotations.get(self._view.kind.number_note, ""),
            workload.status.update_revision + workload.status.current_pod_hash,
        )
        if workload.observed and marks != self._looked_at:
            look = await self._look()
            if look is None:
                return []
            self._looked_at, workload = marks, look.workload
            told += self._started(look, since)
        progress = self._view.kind.progress(workload)
        if progress == "stuck" and out_of_time(workload):
            if self._stuck_at is None and not self._ended:
                log.warning("rollout_stuck", service=self._service, version=self._known)
                self._stuck_at = self._clock.monotonic()
            return told + self._overdue()
        self._stuck_at = None
        if progress != "going":
            told += self._end("finished" if progress == "complete" else "failed")
        return told

    def _overdue(self) -> list[TargetChange]:
        """That a rollout failed, once it has been out of time for long and nobody reverted it."""
        late = self._stuck_at is not None and self._clock.monotonic() - self._stuck_at >= GIVEN_UP_S
        return self._end("failed") if late else []

    def _end(self, phase: Phase) -> list[TargetChange]:
        """That the rollout ended, unless that was told or there was none."""
        if self._known is None or self._ended:
            return []
        self._ended, self._stuck_at = True, None
        log.info("rollout_ended", service=self._service, version=self._known, how=phase)
        return [TargetChange(t=self._clock.now(), version=self._known, previous=self._previous, phase=phase)]

    def _started(self, look: Look, since: float | None) -> list[TargetChange]:
        version, first = look.version, self._known is None
        if version == self._known:
            return []
        self._previous, self._known, self._stuck_at = self._known, version, None
        # a rollout that had failed before anybody looked is no news
        self._ended = first and self._view.kind.progress(look.workload) != "going"
        if first:
            return []
        now = self._clock.now()
        cause = look.current.change_cause
        log.info("deployment_seen", service=self._service, version=version, previous=self._previous, cause=cause)
        t = began(look.current.created_at, since, now)
        return [TargetChange(t=t, version=version, previous=self._previous, phase="started")]

    async def _look(self) -> Look | None:
        """What is in place; None where that cannot be told until the next change, or is gone."""

        async def attempt() -> Look | None:
            workload = await self._view.workload()
            if workload is None or not workload.observed:
                return None
            return await self._view.look(workload)

        def note(error: Temporary, wait: float) -> None:
            log.info("look_again", service=self._service, error=str(error), wait=round(wait, 1))

        try:
            return await retry(attempt, RetryPolicy(first_wait=0.2, longest_wait=15.0), self._clock, note)
        except RollbackdError as error:
            log.warning("target_unreadable", service=self._service, error=str(error))
            return None


def began(made: float | None, since: float | None, now: float) -> float:
    """When a rollout that is seen now has begun, in Unix seconds; trouble after that may be the new release's.

    A new revision says when it was `made`, to the whole second and by the API server's clock; that is believed as far
    as it lies between the last word before, `since`, and now. One that is put back was made long ago: its rollout began
    just now, or, where the watch had been broken for long, after the last word before.
    """
    if since is None:
        return now
    if made is not None and since - 1.0 <= made <= now:
        return max(made, since)
    return now if now - since < SILENT_S else since
