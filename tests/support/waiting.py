"""Waiting for a condition with a deadline, never for luck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], object], within: float = 10.0, every: float = 0.01) -> None:
    """Return once the condition holds; fail after `within` seconds of real time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {within} s")
        await asyncio.sleep(every)


async def eventually_async(
    condition: Callable[[], Awaitable[object]], within: float = 10.0, every: float = 0.02
) -> None:
    """The same for a condition that has to be awaited."""
    deadline = time.monotonic() + within
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {within} s")
        await asyncio.sleep(every)
