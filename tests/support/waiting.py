"""Waiting for a condition with a deadline, never for luck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

WITHIN_S = 40.0
"""How long what takes milliseconds on an idle machine may take on a busy one. Only a test that fails waits for so long:
nothing may rest on its being short, and it is less than what a test has in all."""


async def eventually(condition: Callable[[], object], within: float = WITHIN_S, every: float = 0.01) -> None:
    """Return once the condition holds; fail after `within` seconds of real time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {within} s")
        await asyncio.sleep(every)


async def eventually_async(
    condition: Callable[[], Awaitable[object]], within: float = WITHIN_S, every: float = 0.02
) -> None:
    """The same for a condition that has to be awaited."""
    deadline = time.monotonic() + within
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {within} s")
        await asyncio.sleep(every)
