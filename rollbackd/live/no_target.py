"""Stands where a target must not be touched, for a rollback that was left unfinished: it can only be escalated."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rollbackd.errors import Permanent
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, TargetChange


class NoTarget:
    """Answers every question with the reason, a sentence."""

    def __init__(self, reason: str) -> None:
        self._error = Permanent(reason)

    async def current(self) -> Release | None:
        raise self._error

    async def history(self) -> list[Release]:
        raise self._error

    async def readiness(self, to: str) -> Readiness:  # noqa: ARG002  the interface has it
        raise self._error

    async def revert(self, order: RevertOrder) -> None:  # noqa: ARG002  the interface has it
        raise self._error

    async def settled(self, to: str) -> bool:  # noqa: ARG002  the interface has it
        raise self._error

    async def changes(self) -> AsyncIterator[TargetChange]:
        raise self._error
        yield  # an async generator, as the interface wants

    async def close(self) -> None:
        return
