"""What a target tells of deployments while a test looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rollbackd.targets.base import Target, TargetChange


@asynccontextmanager
async def watching(target: Target) -> AsyncIterator[list[TargetChange]]:
    """Collects what `changes` yields for the time of a block; the first look may still be to come when it begins."""
    found: list[TargetChange] = []

    async def collect() -> None:
        async for change in target.changes():
            found.append(change)  # noqa: PERF401  it never ends, and we look meanwhile

    task = asyncio.create_task(collect())
    try:
        await asyncio.sleep(0)
        yield found
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def seen(changes: list[TargetChange]) -> list[tuple[str, str | None, str]]:
    """Version, previous one and phase of each."""
    return [(change.version, change.previous, change.phase) for change in changes]
