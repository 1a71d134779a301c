"""Both roads, `flux` and `git`: the bleeding is stopped at once, and git is corrected before Flux goes on.

In this order: what applies the workload is suspended, the workload is reverted, the commit is pushed, and once Flux has
fetched that, it is resumed. Each step can be done again, so it does not matter where the daemon dies.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import structlog

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.kubernetes.flux import FluxRoad, Hands
from rollbackd.targets.kubernetes.gitops import GitRoad
from rollbackd.targets.kubernetes.owners import Keeper
from rollbackd.targets.kubernetes.view import Look

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")

FETCHED_S = 60.0
"""How long Flux may take to fetch the commit that was pushed, before that is the executor's to wait out."""


class FluxGitRoad:
    """One Kustomization."""

    def __init__(self, kept: Keeper, hands: Hands, flux: FluxRoad, git: GitRoad) -> None:
        self._kept, self._hands, self._flux, self._git = kept, hands, flux, git

    async def problems(self, look: Look, to: str) -> list[str]:
        return [*await self._flux.problems(look, to), *await self._git.problems(look, to)]

    async def carry_out(self, order: RevertOrder) -> None:
        wanted = await self._or_let_go(order, self._git.wanted(order))
        # once Flux goes on, it takes our key off the workload: from then on it is the commit that remembers
        if wanted or not await self._in_place(order):
            await self._flux.stop(order)
        where = await self._hands.place(self._kept)
        try:
            await self._or_let_go(order, self._git.push(order))
        except Conflict:
            raise
        except Permanent as error:
            held = f"the workload is back at {order.to}, and {where.what} suspended"
            raise Permanent(f"{error}; {held}: correct git, then `{where.resume}`") from None
        if not self._git.waits_for_people and await self._fetched():
            await self._flux.resume(order)
            return
        cure = f"once the revert is in git, `{where.resume}`"
        log.warning("flux_stays_suspended", service=self._hands.service, object=where.what, cure=cure)

    async def _in_place(self, order: RevertOrder) -> bool:
        look = await self._hands.view.look_once_taken_up(self._hands.clock)
        return look is not None and look.version == order.to

    async def _or_let_go(self, order: RevertOrder, step: Awaitable[T]) -> T:
        """Where git says by now what somebody else wants, Flux has to go by it again."""
        try:
            return await step
        except Conflict:
            await self._flux.resume(order)
            raise

    async def _fetched(self) -> bool:
        """Return True once Flux has the commit, and False where that cannot be told: then a human has to resume it."""
        clock = self._hands.clock
        until = clock.monotonic() + FETCHED_S
        while True:
            fetched = await self._git.fetched()
            if fetched is None or fetched:
                return fetched is True
            if clock.monotonic() > until:
                raise Temporary("the revert is pushed, but Flux has not fetched it yet, and stays suspended until then")
            await clock.sleep(1.0)

    async def settled(self, look: Look) -> bool:
        """Where people have to merge first, the workload is in place and held meanwhile."""
        if self._git.waits_for_people:
            return True
        return await self._git.settled(look)

    async def close(self) -> None:
        await self._flux.close()
        await self._git.close()
