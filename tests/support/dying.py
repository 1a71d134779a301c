"""A daemon that dies at one call of many, played within the test's own process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


class Deadly:
    """Counts the calls that go through it, and kills at one: just `before` it is sent, or `after`, before its answer
    is read."""

    def __init__(self, when: str) -> None:
        self._when = when
        self._calls = self._fatal = 0

    def at(self, call: int) -> None:
        """Kill at the call of this number, counted from now on; at none where it is 0."""
        self._calls, self._fatal = 0, call

    def around(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same function, through here."""

        async def mortal(*arguments: Any, **more: Any) -> Any:
            self._calls += 1
            mine = self._calls
            if mine == self._fatal and self._when == "before":
                raise Killed
            got = await real(*arguments, **more)
            if mine == self._fatal:
                raise Killed
            return got

        return mortal
