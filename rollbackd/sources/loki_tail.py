"""The live tail of Loki: what one WebSocket sends, until it ends."""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiohttp

from rollbackd.aiokit import Clock
from rollbackd.logs.loki import Entries, Foreign, read_frame
from rollbackd.sources.http import BadAnswer

TICK_S = 1.0
"""How often the listener is called where nothing comes."""

SILENT_S = 30.0
"""Loki pings every second, so a tail that is silent for so long is dead."""

HARDLY_BEGUN_S = 5.0
"""A tail that the server ends so soon was refused."""


class Listener(Protocol):
    """Who is told what the tail sends."""

    async def take(self, page: Entries) -> None:
        """Some lines."""

    async def attend(self) -> None:
        """The tail stands. Called after lines, and every TICK_S."""


async def listen(socket: aiohttp.ClientWebSocketResponse, to: Listener, clock: Clock, shown: str) -> None:
    """Take what is sent until the tail ends, as each does after an hour. Raises BadAnswer where it was refused.

    While `to` waits nothing is read, and Loki leaves out what it cannot send.
    """
    began = waiting_since = clock.monotonic()
    incoming: asyncio.Task[aiohttp.WSMessage] | None = None
    tick: asyncio.Task[None] | None = None
    try:
        while clock.monotonic() - waiting_since < SILENT_S:
            incoming = incoming or asyncio.create_task(socket.receive())
            tick = tick or asyncio.create_task(clock.sleep(TICK_S))
            await asyncio.wait({incoming, tick}, return_when=asyncio.FIRST_COMPLETED)
            if incoming.done():
                message, incoming = incoming.result(), None
                if not await _hear(message, socket, to, shown):
                    if clock.monotonic() - began < HARDLY_BEGUN_S:
                        raise _refused(message, shown)
                    return
                waiting_since = clock.monotonic()
            if tick.done():
                tick = None
                await to.attend()
    finally:
        await _ended(incoming, tick)


async def _hear(message: aiohttp.WSMessage, socket: aiohttp.ClientWebSocketResponse, to: Listener, shown: str) -> bool:
    """Deal with one message; false where it is the last."""
    if message.type is aiohttp.WSMsgType.PING:
        await socket.pong(message.data)
    elif message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        try:
            page = read_frame(message.data)
        except Foreign as error:
            raise BadAnswer(f"{shown}: {error}") from None
        await to.take(page)
        await to.attend()
    else:
        return message.type is aiohttp.WSMsgType.PONG
    return True


def _refused(message: aiohttp.WSMessage, shown: str) -> BadAnswer:
    said = message.extra if message.type is aiohttp.WSMsgType.CLOSE and isinstance(message.extra, str) else ""
    why = f": {said:.200}" if said else ""
    return BadAnswer(f"{shown} ended the tail as soon as it began{why}")


async def _ended(*tasks: asyncio.Task[aiohttp.WSMessage] | asyncio.Task[None] | None) -> None:
    """Have no task left, whatever became of it."""
    left = [task for task in tasks if task is not None]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)
        for task in left:
            if not task.cancelled():
                task.exception()
