"""The way by which an earlier release gets back in place: straight into the workload, or over who looks after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from rollbackd.errors import Permanent, Temporary
from rollbackd.kubernetes.workloads import Workload
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.kubernetes.owners import Keeper, Tool, keeper
from rollbackd.targets.kubernetes.view import Look

IfManaged: TypeAlias = Literal["owner", "refuse", "revert"]


class Road(Protocol):
    """One way to carry an order out. Whatever way, what is in place is told by the workload itself."""

    async def problems(self, look: Look, to: str) -> list[str]:
        """What is in the way of a revert to release `to`, a sentence each, found out without changing anything."""

    async def carry_out(self, order: RevertOrder) -> None:
        """As Target.revert: idempotent for the order's key, and Conflict where somebody else deployed."""

    async def settled(self, look: Look) -> bool:
        """Whether the owner is done, too, once the workload and its pods are those of the release in `look`."""

    async def close(self) -> None:
        """Release everything. Safe to call twice."""


class Straight(Road, Protocol):
    """The road into the workload itself. Some controllers leave something to do once the old release is there."""

    completes: bool
    """Whether `complete` does anything for this workload."""
    by_hand: str
    """What a human would do in its place."""

    async def unable_to_complete(self) -> list[str]:
        """The rights that `complete` needs and we lack, a sentence each."""

    async def unblock(self, look: Look) -> None:
        """Do what only turns up later, while the release in `look`, which was put back, is not fully in place yet."""

    async def complete(self, order: RevertOrder) -> None:
        """Do what is left, whoever put `order.to` there; again does no harm. Raises Conflict where it is not there."""


Opens: TypeAlias = Callable[[Keeper], Road]
"""Makes the road over one owner; nothing is asked before it is used."""

Claims: TypeAlias = Callable[[Workload], Awaitable[Keeper | None]]
"""Asks the owners that are configured whether a workload is theirs that bears no mark of theirs alone."""


class Closed:
    """No road: somebody looks after the workload, and we know no way over them."""

    def __init__(self, kept_by: Keeper) -> None:
        self._why = kept_by.problem

    async def problems(self, _look: Look, _to: str) -> list[str]:
        return [self._why]

    async def carry_out(self, _order: RevertOrder) -> None:
        raise Permanent(self._why)

    async def settled(self, _look: Look) -> bool:
        """A release that somebody put back is in place all the same."""
        return True

    async def close(self) -> None: ...


class Roads:
    """Which road leads to a workload: `straight`, or by tool `over` the owner that it names itself."""

    def __init__(self, if_managed: IfManaged, straight: Road, over: Mapping[Tool, Opens], claims: Claims) -> None:
        self._if_managed, self._straight, self._over, self._claims = if_managed, straight, over, claims
        self._opened: dict[Keeper, Road] = {}
        self._last: tuple[str, Mapping[str, str], Road] | None = None
        """The road that was found last, with the uid and labels of the workload."""

    async def of(self, workload: Workload) -> Road:
        """The road to it as it is now: an owner may come and go. Raises what asking the owners raises."""
        if self._if_managed == "revert":
            return self._straight
        road = await self._found(workload)
        self._last = (workload.metadata.uid, workload.metadata.labels, road)
        return road

    async def of_late(self, workload: Workload) -> Road:
        """As `of`, but what the owners said last counts where they cannot be asked now. Not for reverting."""
        try:
            return await self.of(workload)
        except Temporary:
            meta, last = workload.metadata, self._last
            if last is None or last[:2] != (meta.uid, meta.labels):
                raise
            return last[2]

    async def _found(self, workload: Workload) -> Road:
        kept_by = keeper(workload.metadata)
        if kept_by is None or not kept_by.name:
            # charts that Argo CD renders bear Helm's label, and there is no release of Helm's
            kept_by = await self._claims(workload) or kept_by
        if kept_by is None:
            return self._straight
        if kept_by not in self._opened:
            known = self._over.get(kept_by.tool) if self._if_managed == "owner" else None
            self._opened[kept_by] = known(kept_by) if known is not None else Closed(kept_by)
        return self._opened[kept_by]

    async def close(self) -> None:
        """Release everything. Safe to call twice."""
        for road in (self._straight, *self._opened.values()):
            await road.close()
