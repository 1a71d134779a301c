"""A limit on time, by the injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from rollbackd.aiokit import Clock
from rollbackd.errors import Permanent

T = TypeVar("T")


class TimedOut(Permanent):
    """Something took longer than it may; whether it took effect is not known."""


async def within(clock: Clock, seconds: float, what: str, work: Callable[[], Coroutine[object, object, T]]) -> T:
    """The result of `work`, which is cancelled, and has ended, when TimedOut is raised after so many seconds.

    `what` completes the sentence "... took longer than N s".
    """
    task = asyncio.ensure_future(work())
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((task, alarm), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (task, alarm):
            one.cancel()
        await asyncio.gather(task, alarm, return_exceptions=True)
    if task.cancelled():
        raise TimedOut(f"{what} took longer than {seconds:g} s")
    return task.result()
