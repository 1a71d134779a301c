"""Putting an earlier revision back, with the semantics of `kubectl rollout undo --to-revision`.

Every change is one JSON Patch that holds the resourceVersion it was worked out from, so that nobody's later change is
overwritten; and it carries the order's key in an annotation, so that a key and its effect cannot come apart.
Source of what is put back: kubectl, pkg/polymorphichelpers/rollback.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto

import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.kubernetes.api import NotThere, Stale
from rollbackd.kubernetes.kinds import DEPLOYMENT, STATEFUL_SET
from rollbackd.kubernetes.objects import read
from rollbackd.kubernetes.pods import Pod
from rollbackd.kubernetes.revisions import Revision
from rollbackd.kubernetes.trouble import stuck
from rollbackd.kubernetes.workloads import Workload
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.kubernetes.noted import spent, with_key
from rollbackd.targets.kubernetes.rights import Right, lacking
from rollbackd.targets.kubernetes.view import Look, View

PAUSING = "io.rollbackd/pausing"
"""The key of a revert that paused a rollout and is about to put the old revision back."""
ATTEMPTS = 10
"""How often a change is worked out anew because somebody else was faster; status updates are, all the time."""
TAKEN_UP_S = 30.0
"""How long a StatefulSet's controller may take to see what was put back."""
STUCK_AFTER_S = 30.0
"""How long a pod may be unready, once the old revision is put back, before it counts as blocking that.

A readiness probe looks every ten seconds, unless told otherwise: a pod that is well again has three to show it.
"""

STAY = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        DEPLOYMENT.number_note,
        "deployment.kubernetes.io/revision-history",
        "deployment.kubernetes.io/desired-replicas",
        "deployment.kubernetes.io/max-replicas",
        "deprecated.deployment.rollback.to",
    }
)
"""Annotations of a Deployment that do not go back with its template."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


class Step(Enum):
    """What is to be done about an order."""

    PAUSE = auto()
    """`expect` is in place and still being rolled out: stop that (Argo Rollouts: abort it)."""
    SWITCH = auto()
    """`expect` is in place: put `to` there."""
    ADOPT = auto()
    """`to` is in place, but not because of this key: note it."""
    FINISH = auto()
    """`to` is in place because of this key."""


def judge(order: RevertOrder, look: Look, *, going: bool) -> Step:
    """What is to be done next. Raises Conflict where somebody else deployed or the key is spent.

    `going`: a rollout of what is in place is still to be stopped.
    """
    notes = look.workload.metadata.annotations
    keys, paused_by = spent(notes), notes.get(PAUSING)
    if order.key in keys:
        if keys[-1] != order.key:
            raise Conflict(f"key {order.key} is spent: this workload was reverted again since")
        if look.version != order.to or look.staged:
            now = "another template" if look.staged else look.version
            raise Conflict(f"key {order.key} is spent: {now} was put in place since")
        return Step.FINISH
    if look.staged:
        raise Conflict("the Deployment is paused with a pod template that was never rolled out: somebody prepares it")
    if look.version == order.to:
        return Step.ADOPT
    if look.version != order.expect:
        raise Conflict(f"{look.version} is in place, not {order.expect}: somebody else deployed")
    if paused_by == order.key and not look.workload.spec.paused:
        raise Conflict(f"somebody resumed the rollout of {order.expect} that this revert had paused")
    return Step.PAUSE if going else Step.SWITCH


class Reverter:
    """The straight road: orders are carried out on the workload itself.

    `manager` is the field manager of what is put back, where that has to be a certain one.
    """

    def __init__(self, view: View, clock: Clock, service: str, manager: str | None = None) -> None:
        self._view, self._clock, self._service, self._manager = view, clock, service, manager
        self.completes = view.kind is STATEFUL_SET
        self.by_hand = "delete the pods that are not ready"
        self._seen_to: set[str] = set()

    async def problems(self, _look: Look, _to: str) -> list[str]:
        """The rights that a revert needs and we lack."""
        patch = Right("patch", self._view.kind.group, self._view.kind.plural, self._view.name)
        found = await lacking(self._view.api, await self._view.namespace(), [patch])
        return [*found, *await self.unable_to_complete()]

    async def unable_to_complete(self) -> list[str]:
        needed = [Right("delete", "", "pods")] if self.completes else []
        return await lacking(self._view.api, await self._view.namespace(), needed)

    async def settled(self, _look: Look) -> bool:
        """Nobody else has a say."""
        return True

    async def close(self) -> None:
        """There is nothing of its own."""

    async def carry_out(self, order: RevertOrder) -> None:
        """Go on from wherever the order is."""
        for _ in range(ATTEMPTS):
            look = await self._view.look_to_revert(self._clock)
            going = self._view.kind is DEPLOYMENT and self._view.kind.progress(look.workload) != "complete"
            going = going and not look.workload.spec.paused
            try:
                step = judge(order, look, going=going)
            except Conflict:
                await self._let_go(order, look)
                raise
            to = look.find(order.to)
            if to is None:
                raise Permanent(look.gone(order.to))
            try:
                if await self._do(step, order, look, to):
                    return
            except Stale:
                continue
        raise Temporary(f"{await self._view.what()} changes faster than it can be reverted")

    async def _do(self, step: Step, order: RevertOrder, look: Look, to: Revision) -> bool:
        """One step; whether it was the last."""
        workload = look.workload
        notes = dict(workload.metadata.annotations)
        match step:
            case Step.PAUSE:
                after = await self._patch(workload, notes | {PAUSING: order.key}, _paused(True))
                log.info("rollout_paused", service=self._service, version=order.expect)
                # what was paused is what was looked at, since nobody changed it in between
                return await self._do(Step.SWITCH, order, replace(look, workload=after), to)
            case Step.SWITCH:
                notes = self._notes_of(to, notes) | with_key(workload.metadata.annotations, order.key)
                notes.pop(PAUSING, None)
                template = {"op": "replace", "path": "/spec/template", "value": to.template}
                resume = _paused(False) if workload.spec.paused else ()
                await self._patch(workload, notes, (template, *resume))
            case Step.ADOPT:
                resume = _paused(False) if notes.pop(PAUSING, None) == order.key else ()
                await self._patch(workload, notes | with_key(notes, order.key), resume)
            case Step.FINISH:
                pass
        log.info("revision_in_place", service=self._service, version=order.to, was=order.expect, how=step.name.lower())
        if self.completes:
            await self._delete_stuck(to)
        return True

    async def complete(self, order: RevertOrder) -> None:
        look = await self._view.look_to_revert(self._clock)
        to = look.find(order.to)
        if to is None or look.version != order.to:
            raise Conflict(f"{look.version} was put in place since {order.to} was put back")
        if self.completes:
            await self._delete_stuck(to)

    def _notes_of(self, to: Revision, notes: Mapping[str, str]) -> dict[str, str]:
        """A Deployment's annotations go back with its template; those of the other kinds stay."""
        if self._view.kind is not DEPLOYMENT:
            return dict(notes)
        stay = {name: value for name, value in notes.items() if name in STAY}
        return {name: value for name, value in to.annotations.items() if name not in STAY} | stay

    async def _patch(
        self, workload: Workload, notes: Mapping[str, str], operations: tuple[Mapping[str, object], ...]
    ) -> Workload:
        changes = [{"op": "add", "path": "/metadata/annotations", "value": notes}, *operations]
        path, what = await self._view.path(), await self._view.what()
        return read(await self._view.api.patch(path, workload.metadata, changes, what, self._manager), Workload, what)

    async def _let_go(self, order: RevertOrder, look: Look) -> None:
        """Somebody else deployed while the rollout was paused by us: what they want must not wait for us."""
        workload = look.workload
        notes = dict(workload.metadata.annotations)
        if notes.pop(PAUSING, None) == order.key:
            await self._patch(workload, notes, _paused(False) if workload.spec.paused else ())
            log.info("rollout_resumed", service=self._service, version=look.version)

    # -- a StatefulSet does not replace a pod that never became ready (kubernetes/kubernetes#67250)

    async def _delete_stuck(self, to: Revision) -> None:
        workload = await self._taken_up(to)
        for pod in self._unready(workload, await self._view.pods(workload, ()), to):
            await self._delete(pod)

    async def unblock(self, look: Look) -> None:
        """A pod that was ready when the old revision was put back may break before its turn, and then block it.

        Whoever looks again and again must not take down a service that goes back well: one pod a look, after a while
        of being unready, and none while another is on its way.
        """
        if not self.completes or look.workload.spec.pod_management_policy == "Parallel":
            return
        pods = await self._view.pods(look.workload, ())
        self._seen_to &= {pod.metadata.uid for pod in pods}
        if any(self._on_its_way(pod, look.current) for pod in pods):
            return
        unready = self._unready(look.workload, pods, look.current)
        blocking = [pod for pod in unready if stuck(pod, self._clock.now(), STUCK_AFTER_S)]
        left = [pod for pod in blocking if pod.metadata.uid not in self._seen_to]
        if left and await self._still_as_in(look):
            await self._see_to(left[0])

    def _on_its_way(self, pod: Pod, to: Revision) -> bool:
        """Whether the controller waits for this pod anyway."""
        return pod.metadata.deletion_timestamp is not None or (self._view.is_of(pod, to) and not pod.ready)

    async def _still_as_in(self, look: Look) -> bool:
        """Whether nobody deployed since: a pod that only starts may be one of a newer release."""
        now, before = await self._view.workload(), look.workload
        return now is not None and _spec_of(now) == _spec_of(before)

    async def _see_to(self, pod: Pod) -> None:
        with suppress(Stale):  # it has changed: perhaps it is well again
            try:
                await self._delete(pod)
            except Permanent as error:  # the rollback may well succeed without
                log.warning("stuck_pod_stays", service=self._service, pod=pod.metadata.name, error=str(error))
            self._seen_to.add(pod.metadata.uid)

    def _unready(self, workload: Workload, pods: Sequence[Pod], to: Revision) -> list[Pod]:
        """Those of other revisions that have to be replaced, are not ready, and that nobody deletes yet."""
        meant = [pod for pod in pods if self._view.kind.counts(workload, pod) and not self._view.is_of(pod, to)]
        return [pod for pod in meant if not pod.ready and pod.metadata.deletion_timestamp is None]

    async def _taken_up(self, to: Revision) -> Workload:
        """The workload once its controller knows what was put back: before, it would make the same broken pod again."""
        until = self._clock.monotonic() + TAKEN_UP_S
        while True:
            workload = await self._view.workload()
            if workload is not None and workload.observed and workload.status.update_revision == to.own:
                return workload
            if self._clock.monotonic() > until:
                raise Temporary(f"{await self._view.what()}: its controller does not take up what was put back")
            await self._clock.sleep(0.2)

    async def _delete(self, pod: Pod) -> None:
        meta = pod.metadata
        path = f"/api/v1/namespaces/{await self._view.namespace()}/pods/{meta.name}"
        preconditions = {"uid": meta.uid, "resourceVersion": meta.resource_version}
        try:
            await self._view.api.delete(path, {"preconditions": preconditions}, f"pod {meta.name}")
        except NotThere:
            return
        log.info("stuck_pod_deleted", service=self._service, pod=meta.name)


def _paused(value: bool) -> tuple[Mapping[str, object], ...]:
    return ({"op": "add", "path": "/spec/paused", "value": value},)


def _spec_of(workload: Workload) -> tuple[str, int, str]:
    """Which spec it has, and what its controller made of that."""
    return workload.metadata.uid, workload.metadata.generation, workload.status.update_revision
