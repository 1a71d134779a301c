"""Blue/green: a Service that is switched between Deployments, reverted by switching it back.

The old Deployment still runs, so a revert takes one patch of the Service and no pod has to start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.kubernetes.api import Api, Stale
from rollbackd.kubernetes.kinds import progress_of_deployment
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, TargetChange
from rollbackd.targets.disk import Disk
from rollbackd.targets.kubernetes.colours import Colour, Colours, Switch
from rollbackd.targets.kubernetes.noted import spent, with_key
from rollbackd.targets.kubernetes.owners import keeper
from rollbackd.targets.kubernetes.rights import Right, lacking
from rollbackd.targets.watching import Sighting, deployments

LOOK_S = 5.0
"""How often to look which Deployment is live."""
ATTEMPTS = 10
"""How often a switch is worked out anew because somebody else was faster."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


class Switching:
    """One Service."""

    def __init__(self, api: Api, colours: Colours, disk: Disk, clock: Clock, service: str, *, refuse: bool) -> None:
        """`refuse`: leave a Service alone that somebody else looks after."""
        self._api, self._colours, self._disk, self._clock = api, colours, disk, clock
        self._service, self._refuse = service, refuse

    async def current(self) -> Release | None:
        switch = await self._colours.look()
        if switch is None:
            return None
        await switch.live.images.learn(switch.live.look)
        return await switch.live.release()

    async def history(self) -> list[Release]:
        switch = await self._colours.look()
        return [await colour.release() for colour in switch.colours] if switch is not None else []

    async def readiness(self, to: str) -> Readiness:
        try:
            found = await self._problems(to)
        except Permanent as error:
            found = [str(error)]
        return Readiness(problems=tuple(found))

    async def _problems(self, to: str) -> list[str]:
        switch = await self._colours.look()
        if switch is None:
            return [f"nothing is deployed: there is no {await self._colours.what()}"]
        kept_by = self._kept_by(switch)
        found = [kept_by] if kept_by is not None else []
        needed = [
            Right("patch", "", "services", self._colours.name),
            Right("list", "discovery.k8s.io", "endpointslices"),
        ]
        found += await lacking(self._api, await self._colours.namespace(), needed)
        colour = switch.find(to)
        if colour is None:
            found.append(switch.gone(to))
        elif (unfit := unready(colour)) is not None:
            found.append(unfit)
        return found

    def _kept_by(self, switch: Switch) -> str | None:
        kept_by = keeper(switch.service.metadata) if self._refuse else None
        if kept_by is None:
            return None
        # `owners` says how workloads are reverted, and nothing of Services
        return f"{kept_by.what} looks after the Service and would undo it: switch it there, or set `if_managed: revert`"

    async def revert(self, order: RevertOrder) -> None:
        for _ in range(ATTEMPTS):
            switch = await self._colours.look()
            if switch is None:
                raise Conflict(f"{await self._colours.what()} is gone: somebody else deleted it")
            if (kept_by := self._kept_by(switch)) is not None:
                raise Permanent(kept_by)
            try:
                if await self._carry_out(order, switch):
                    return
            except Stale:
                continue
        raise Temporary(f"{await self._colours.what()} changes faster than it can be reverted")

    async def _carry_out(self, order: RevertOrder, switch: Switch) -> bool:
        notes, live = switch.service.metadata.annotations, switch.live.version
        keys, back = spent(notes), switch.live.runs(order.to)
        if order.key in keys:
            if keys[-1] != order.key or not back:
                raise Conflict(f"key {order.key} is spent: the Service was switched since, {live} is live")
            return True
        if not back and not switch.live.runs(order.expect):
            raise Conflict(f"{live} is live, not {order.expect}: somebody else switched the Service")
        colour = switch.live if back else switch.find(order.to)
        if colour is None or switch.label is None:
            raise Permanent(switch.gone(order.to))
        if not back and (unfit := unready(colour)) is not None:
            raise Permanent(unfit)
        await self._patch(switch, {**notes, **with_key(notes, order.key)}, colour)
        log.info("service_switched", service=self._service, version=order.to, was=live, deployment=colour.name)
        return True

    async def _patch(self, switch: Switch, notes: Mapping[str, str], colour: Colour) -> None:
        label = str(switch.label).replace("~", "~0").replace("/", "~1")
        operations: list[Mapping[str, object]] = [
            {"op": "add", "path": "/metadata/annotations", "value": notes},
            {"op": "replace", "path": f"/spec/selector/{label}", "value": colour.value},
        ]
        path, what = await self._colours.path(), await self._colours.what()
        await self._api.patch(path, switch.service.metadata, operations, what)

    async def settled(self, to: str) -> bool:
        switch = await self._colours.look()
        if switch is None or not switch.live.runs(to) or unready(switch.live) is not None:
            return False
        if await self._colours.strays(switch.live):
            return False
        look = switch.live.look
        pods = await switch.live.view.pods(look.workload, look.revisions)
        await switch.live.images.check(look, pods)
        return True

    def changes(self) -> AsyncIterator[TargetChange]:
        return deployments(self._look, self._clock, LOOK_S, self._service)

    async def _look(self) -> Sighting | None:
        switch = await self._colours.look()
        return Sighting(switch.live.version) if switch is not None else None

    async def close(self) -> None:
        await self._api.close()
        self._disk.close()


def unready(colour: Colour) -> str | None:
    """Why traffic cannot go to this Deployment, as a sentence."""
    workload = colour.look.workload
    if workload.spec.replicas == 0:
        return f"Deployment {colour.name} with release {colour.version} has no replicas: scale it up first"
    if colour.look.staged or progress_of_deployment(workload) != "complete":
        has = f"{workload.status.available_replicas} of {workload.spec.replicas} pods available"
        return f"Deployment {colour.name} with release {colour.version} is not ready to take over: {has}"
    return None
