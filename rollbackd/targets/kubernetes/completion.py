"""What is left to do once an owner has put the old release there, and its controller would not do by itself."""

from __future__ import annotations

import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict
from rollbackd.kubernetes.subject import NotTakenUp
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.kubernetes.road import Straight
from rollbackd.targets.kubernetes.view import View

PUT_THERE_S = 120.0
"""How long an owner may take to put the old release into the workload, before what is left is a human's to do."""
LOOK_EVERY_S = 0.5

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


class Completion:
    """Of one workload: pods that a StatefulSet is stuck on are deleted, and a Rollout is promoted fully."""

    def __init__(self, view: View, straight: Straight, clock: Clock, service: str) -> None:
        self._view, self._straight, self._clock, self._service = view, straight, clock, service

    async def problems(self) -> list[str]:
        """The rights that it needs and we lack, a sentence each."""
        return await self._straight.unable_to_complete()

    async def carry_out(self, order: RevertOrder) -> None:
        """Wait for the owner, and do it; again does no harm. Raises Conflict where something else got there."""
        if not self._straight.completes:
            return
        if await self._is_there(order):
            await self._straight.complete(order)
        else:
            log.warning(
                "revert_not_completed",
                service=self._service,
                version=order.to,
                key=order.key,
                cure=f"its owner takes long to put {order.to} there; then {self._straight.by_hand}",
            )

    async def _is_there(self, order: RevertOrder) -> bool:
        until = self._clock.monotonic() + PUT_THERE_S
        while True:
            try:
                look = await self._view.look()
            except NotTakenUp:
                look = None
            else:
                if look is None:
                    raise Conflict(f"{await self._view.what()} is gone: somebody else deleted it")
                if look.version == order.to:
                    return True
                if look.version != order.expect:
                    raise Conflict(f"{look.version} was put in place since the revert to {order.to} began")
            if self._clock.monotonic() > until:
                return False
            await self._clock.sleep(LOOK_EVERY_S)
