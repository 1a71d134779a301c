"""Seeing deployments by looking again and again at what is in place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import structlog
from pydantic import Field

from rollbackd.aiokit import Clock
from rollbackd.errors import RollbackdError
from rollbackd.fields import Duration
from rollbackd.targets.base import TargetChange

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets")

Poll: TypeAlias = Annotated[Duration, Field(ge=0.1)]
"""How often to look, in seconds once read; looking without a pause would keep a core busy."""


@dataclass(frozen=True)
class Sighting:
    """The release in place, and since when (Unix seconds) where the target can tell."""

    version: str
    since: float | None = None


async def deployments(
    look: Callable[[], Awaitable[Sighting | None]], clock: Clock, poll: float, service: str
) -> AsyncIterator[TargetChange]:
    """Changes of what is in place, as `started` and at once `finished`: from outside, one moment is all there is.

    The first look yields nothing. A look that fails, or that finds nothing where something was, is no deployment: what
    is found after it is compared with what was there before.
    """
    known: str | None = None
    looked: float | None = None
    failing = False
    while True:
        before = clock.now()
        try:
            seen = await look()
        except RollbackdError as error:
            if not failing:
                log.warning("target_unreadable", service=service, error=str(error))
            failing = True
        else:
            if failing:
                log.info("target_readable", service=service)
            failing = False
            if seen is not None and looked is not None and seen.version != known:
                now = clock.now()
                # where the target cannot tell, the last look bounds it: trouble after that may be the new release's
                t = min(max(seen.since or looked, looked), now)
                log.info("deployment_seen", service=service, version=seen.version, previous=known)
                yield TargetChange(t=t, version=seen.version, previous=known, phase="started")
                yield TargetChange(t=t, version=seen.version, previous=known, phase="finished")
            known = known if seen is None else seen.version
            looked = before
        await clock.sleep(poll)
