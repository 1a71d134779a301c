"""A daemon that dies, or an engine that fails, at a call that has an effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from rollbackd.docker.commands import Commands, Method
from rollbackd.docker.engine import ANSWER_WITHIN_S
from rollbackd.targets.base import RevertOrder, Target


class Cut(Exception):
    """The daemon died."""


class CutOff:
    """At the `at`th call with an effect (0: at none), `error` is raised: before the engine hears of it, or after it
    `heard`.

    With `instead`, that is done right before the call, and nothing is raised.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        at: int,
        *,
        heard: bool,
        error: Exception | None = None,
        instead: Callable[[], None] | None = None,
    ) -> None:
        original = Commands.call
        self.calls = 0
        self.made: list[tuple[Method, str]] = []

        async def call(
            commands: Commands,
            method: Method,
            path: str,
            params: Mapping[str, str] | None = None,
            body: object = None,
            within: float = ANSWER_WITHIN_S,
        ) -> bytes:
            self.calls += method != "GET"
            self.made += [] if method == "GET" else [(method, path)]
            now = method != "GET" and self.calls == at
            if now and instead is not None:
                await asyncio.to_thread(instead)
            elif now and not heard:
                raise error or Cut
            answer = await original(commands, method, path, params, body, within)
            if now and heard:
                raise error or Cut
            return answer

        monkeypatch.setattr(Commands, "call", call)


async def dies(monkeypatch: pytest.MonkeyPatch, target: Target, order: RevertOrder, at: int, *, heard: bool) -> None:
    """The daemon does, at the `at`th call with an effect that the revert makes; nothing cuts off what comes later."""
    with monkeypatch.context() as patch:
        CutOff(patch, at, heard=heard)
        with pytest.raises(Cut):
            await target.revert(order)
