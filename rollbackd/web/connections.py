"""Bounds how many connections are open at once, so that callers cannot use up what sources and commands need."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestHandler

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.web")

MOST = 512
"""How many connections are kept at most, however many descriptors there are."""
_LEAST = 16
_LEAVE_S = 30.0
_TOLD_EVERY_S = 60.0


def most_connections(descriptors: int | None = None) -> int:
    """A quarter of the descriptors this process may open; the rest is for sources, commands and the ledger."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors
    return MOST if allowed == resource.RLIM_INFINITY else max(_LEAST, min(MOST, allowed // 4))


@dataclass
class _Connection:
    peer: str
    transport: asyncio.Transport
    handler: RequestHandler
    asked: bool = False

    @property
    def open(self) -> bool:
        return int(self.transport.get_extra_info("socket").fileno()) >= 0


class Busy:
    """Which connections have a request under way, as a middleware sees it."""

    def __init__(self) -> None:
        self._handlers: set[RequestHandler] = set()

    def __contains__(self, handler: RequestHandler) -> bool:
        return handler in self._handlers

    @property
    def middleware(self) -> Middleware:
        """Goes around every handler of an application."""

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._handlers.add(request.protocol)
            try:
                return await handler(request)
            finally:
                self._handlers.discard(request.protocol)

        return note


class Gate:
    """Takes connections for an aiohttp server. A newcomer always gets in; where it is full, somebody else has to leave.

    That is the oldest connection of the address that holds most of them. It may finish the request under way, within
    30 s; beyond half as many again it may not even do that.
    """

    def __init__(self, server: web.Server, most: int, busy: Busy) -> None:
        self._server, self._most, self._busy = server, most, busy
        self._connections: list[_Connection] = []
        self._told_at: float | None = None

    def __call__(self) -> asyncio.Protocol:
        return _Newcomer(self)

    def enter(self, transport: asyncio.Transport) -> None:
        """Make room, and hand the connection over to the server."""
        self._connections = [one for one in self._connections if one.open]
        self._make_room()
        handler: RequestHandler = self._server()
        peername = transport.get_extra_info("peername")
        self._connections.append(_Connection(str(peername[0]) if peername else "", transport, handler))
        transport.set_protocol(handler)
        handler.connection_made(transport)

    def _make_room(self) -> None:
        if len(self._connections) < self._most:
            return
        self._tell()
        asked = [one for one in self._connections if one.asked]
        if len(self._connections) >= self._most + self._most // 2:
            asked[0].transport.abort()
        held = Counter(one.peer for one in self._connections if not one.asked)
        if held:
            greediest = held.most_common(1)[0][0]
            self._ask(next(one for one in self._connections if one.peer == greediest and not one.asked))

    def _ask(self, one: _Connection) -> None:
        one.asked = True
        if one.handler in self._busy:
            one.handler.close()
        else:
            one.handler.force_close()
        asyncio.get_running_loop().call_later(_LEAVE_S, one.transport.abort)

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._told_at is None or now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            log.warning("connections_full", open=len(self._connections), most=self._most)


class _Newcomer(asyncio.Protocol):
    """A connection until the gate has let it in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._gate.enter(transport)
