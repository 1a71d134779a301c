"""Putting an earlier revision of a Rollout back: what people do by `abort`, `undo` and `promote --full`.

Argo Rollouts watches a release until it is promoted, and no longer. While it is on its way it is aborted, so that the
pods of the last good release have all the traffic at once; then the old template goes back into the spec, or the next
change of anything would try the bad release again. A release that was promoted before need not prove itself once more.
Source: argo-rollouts, pkg/kubectl-argo-rollouts/cmd (abort.go, undo.go, promote.go) and rollout/sync.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import msgspec
import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.kubernetes.api import Stale
from rollbackd.kubernetes.objects import read
from rollbackd.kubernetes.subject import NotTakenUp
from rollbackd.kubernetes.workloads import Workload
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.kubernetes.noted import with_key
from rollbackd.targets.kubernetes.revert import ATTEMPTS, TAKEN_UP_S, Step, judge
from rollbackd.targets.kubernetes.rights import Right, lacking
from rollbackd.targets.kubernetes.view import Look, View

ABORTING = "io.rollbackd/aborting"
"""Which revert is about to abort a rollout, and when the rollout had turned last before that.

A patch of the status cannot carry it, and whoever resumes the rollout leaves no other trace.
"""

RolloutSteps: TypeAlias = Literal["skip", "keep"]

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


class Aborting(msgspec.Struct, frozen=True):
    """The annotation ABORTING. `turned` is the last transition of the condition Progressing, as a text."""

    key: str
    turned: str


class Undo:
    """The straight road of a Rollout."""

    def __init__(self, view: View, clock: Clock, service: str, steps: RolloutSteps) -> None:
        self._view, self._clock, self._service = view, clock, service
        self.completes = steps == "skip"
        self.by_hand = "promote the Rollout fully"
        self._noted = self._aborted = ""
        """The keys of the orders whose abort was noted last by this object, and carried out."""

    async def problems(self, look: Look, _to: str) -> list[str]:
        """That its template is kept elsewhere, and the rights that a revert needs and we lack."""
        lacked = await self._lacking(self._right(), self._right("status"))
        return [*_kept_elsewhere(look.workload), *lacked]

    async def unable_to_complete(self) -> list[str]:
        return await self._lacking(self._right("status")) if self.completes else []

    def _right(self, part: str = "") -> Right:
        return Right("patch", self._view.kind.group, self._view.kind.plural, self._view.name, part)

    async def _lacking(self, *rights: Right) -> list[str]:
        return await lacking(self._view.api, await self._view.namespace(), rights)

    async def settled(self, _look: Look) -> bool:
        """Nobody else has a say."""
        return True

    async def unblock(self, _look: Look) -> None:
        """Argo Rollouts goes on by itself."""

    async def close(self) -> None:
        """There is nothing of its own."""

    async def carry_out(self, order: RevertOrder) -> None:
        """Go on from wherever the order is."""
        for _ in range(ATTEMPTS):
            look = await self._view.look_to_revert(self._clock)
            if self._noted == order.key and look.workload.status.abort:
                self._aborted = order.key  # whose answer may have been lost
            if self._resumed(order, look):
                raise Conflict(f"somebody resumed the rollout of {order.expect} that this revert had aborted")
            step = judge(order, look, going=_on_its_way(look.workload))
            for problem in _kept_elsewhere(look.workload):
                raise Permanent(problem)
            try:
                if step is Step.PAUSE:
                    look = await self._abort(order, await self._note(order, look))
                    step = Step.SWITCH
                await self._put_back(step, order, look)
            except Stale:
                continue
            await self.complete(order)
            return
        raise Temporary(f"{await self._view.what()} changes faster than it can be reverted")

    def _resumed(self, order: RevertOrder, look: Look) -> bool:
        """Whether this order's abort was taken back by somebody.

        Who knows what came of the abort goes by that. Only after a death is it told by the note, for a rollout also
        turns by itself, as where a timed step ends.
        """
        if look.version != order.expect or look.workload.status.abort:
            return False
        before = _aborting(look.workload, order) if self._noted != order.key else None
        return self._aborted == order.key or (before is not None and before.turned != _turned(look.workload))

    async def _note(self, order: RevertOrder, look: Look) -> Look:
        """What we are about to do, so that who goes on after our death knows when somebody did something else since."""
        self._noted = order.key  # sent or not: nothing is aborted yet
        note = msgspec.json.encode(Aborting(order.key, _turned(look.workload))).decode()
        notes = {**look.workload.metadata.annotations, ABORTING: note}
        return replace(look, workload=await self._patch(look.workload, [_add("/metadata/annotations", value=notes)]))

    async def _abort(self, order: RevertOrder, look: Look) -> Look:
        after = await self._patch(look.workload, [_add("/status/abort", value=True)], part="/status")
        self._aborted = order.key
        log.info("rollout_aborted", service=self._service, version=order.expect)
        # what was aborted is what was looked at, since nobody changed it in between
        return replace(look, workload=after)

    async def _put_back(self, step: Step, order: RevertOrder, look: Look) -> None:
        """The old template and the order's key, in one patch. Where the template is there already, the key alone."""
        workload = look.workload
        to = look.find(order.to)
        if to is None:
            raise Permanent(look.gone(order.to))
        if step is not Step.FINISH:
            notes = {**workload.metadata.annotations, **with_key(workload.metadata.annotations, order.key)}
            notes.pop(ABORTING, None)
            operations = [_add("/metadata/annotations", value=notes)]
            if step is not Step.ADOPT:
                operations.append(_add("/spec/template", value=to.template))
                operations += [_add("/spec/paused", value=False)] if workload.spec.paused else []
            await self._patch(workload, operations)
        log.info("revision_in_place", service=self._service, version=order.to, was=order.expect, how=step.name.lower())

    # -- a template that is put back goes through all the steps of a new release, unless it is the stable one's

    async def complete(self, order: RevertOrder) -> None:
        """Promote it fully, once the controller has taken it up: what is asked for earlier is forgotten then."""
        while self.completes:
            look = await self._taken_up(order)
            status = look.workload.status
            if status.current_pod_hash == status.stable_rs or status.promote_full:
                return
            if status.abort:
                raise Conflict(f"the rollout of {order.to} that this revert had begun was aborted")
            try:
                await self._patch(look.workload, [_add("/status/promoteFull", value=True)], part="/status")
            except Stale:
                continue
            log.info("rollout_promoted", service=self._service, version=order.to)
            return

    async def _taken_up(self, order: RevertOrder) -> Look:
        until = self._clock.monotonic() + TAKEN_UP_S
        while True:
            try:
                look = await self._view.look_to_revert(self._clock)
            except NotTakenUp:
                if self._clock.monotonic() > until:
                    raise
                continue
            if look.version != order.to:
                raise Conflict(f"{look.version} was put in place since {order.to} was put back")
            return look

    async def _patch(self, workload: Workload, operations: Sequence[Mapping[str, object]], part: str = "") -> Workload:
        what = await self._view.what()
        path = await self._view.path() + part
        return read(await self._view.api.patch(path, workload.metadata, operations, what), Workload, what)


def _on_its_way(workload: Workload) -> bool:
    """Whether there is something to abort: a release that is not promoted yet, beside one that is."""
    status = workload.status
    return not status.abort and status.stable_rs not in ("", status.current_pod_hash)


def _aborting(workload: Workload, order: RevertOrder) -> Aborting | None:
    """What this order noted before it was to abort; what somebody else wrote there counts for nothing."""
    try:
        note = msgspec.json.decode(workload.metadata.annotations.get(ABORTING, ""), type=Aborting)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return note if note.key == order.key else None


def _turned(workload: Workload) -> str:
    """When the rollout turned last: it does where it is aborted, and where that is taken back."""
    moments = [one.last_transition_time for one in workload.status.conditions if one.type == "Progressing"]
    return moments[0].isoformat() if moments and moments[0] is not None else ""


def _kept_elsewhere(workload: Workload) -> list[str]:
    """Why a template cannot be put back, if so, as a sentence."""
    ref = workload.spec.workload_ref
    if ref is None:
        return []
    return [
        f"its pod template is that of {ref.kind} {ref.name} (`workloadRef`), which is not changed here: revert it there"
    ]


def _add(path: str, *, value: object) -> Mapping[str, object]:
    return {"op": "add", "path": path, "value": value}
