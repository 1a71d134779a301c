"""Targets on real folders, closed when the test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from rollbackd.adapter import Adapter
from rollbackd.aiokit import Clock, SystemClock
from rollbackd.fields import Model
from rollbackd.targets.base import RevertOrder, Target, TargetContext

ConfigT = TypeVar("ConfigT", bound=Model)

ORDER = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-1")


async def version(target: Target) -> str | None:
    """What it says is in place."""
    release = await target.current()
    return release.version if release is not None else None


class Make(Protocol):
    """Builds a target with these settings in the place of the usual ones."""

    def __call__(self, **settings: object) -> Target: ...


@asynccontextmanager
async def making(
    adapter: Adapter[ConfigT, TargetContext, Target],
    usual: dict[str, object],
    state_dir: Path,
    clock: Clock | None = None,
) -> AsyncIterator[Make]:
    """Targets of the service `checkout` that share their state."""
    made: list[Target] = []

    def one(**settings: object) -> Target:
        context = TargetContext(service="checkout", clock=clock or SystemClock(), state_dir=state_dir)
        made.append(adapter.build(adapter.config.model_validate({**usual, **settings}), context))
        return made[-1]

    yield one
    for target in made:
        await target.close()
