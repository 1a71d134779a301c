"""Bounds how many connections are open at once, so that callers cannot use up what sources and commands need."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Sequence
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
_LOOK_AGAIN_S = 0.05
_COME_BACK = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def most_connections(descriptors: int | None = None) -> int:
    """A quarter of the descriptors this process may open; the rest is for sources, commands and the ledger."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors
    return MOST if allowed == resource.RLIM_INFINITY else max(_LEAST, min(MOST, allowed // 4))


@dataclass
class _Connection:
    peer: str
    transport: asyncio.Transport
    since: float
    """Monotonic moment at which its request under way began, or else at which it fell idle."""
    busy: bool = False
    asked: bool = False

    @property
    def open(self) -> bool:
        return not self.transport.is_closing() or int(self.transport.get_extra_info("socket").fileno()) >= 0


class Gate:
    """Takes connections for an aiohttp server. Where it is full, the address that holds most of them has to make room.

    Of its connections the oldest that has been idle for a while leaves, or else the oldest whose request takes longer
    than any should: that one may finish, within 30 s, and beyond half as many again not even that. Where there is
    neither, all of them are being served as fast as can be: another one of that address is told to come back, since to
    break off what is under way would leave nobody served, and one of another address gets in all the same.

    `on_turned_away` is called for each that is told to come back; `idle_s` is how long a connection is left alone
    between two requests, `patience_s` how long a request may take.
    """

    def __init__(
        self,
        most: int,
        on_turned_away: Callable[[], None] = lambda: None,
        *,
        idle_s: float = 1.0,
        patience_s: float = 30.0,
    ) -> None:
        self._most, self._on_turned_away = most, on_turned_away
        self._idle_s, self._patience_s = idle_s, patience_s
        self._server: web.Server | None = None
        self._connections: dict[RequestHandler, _Connection] = {}
        self._told_at: float | None = None
        self._turned_away: tuple[str, float] | None = None

    @property
    def middleware(self) -> Middleware:
        """Goes around every handler of the application, and tells the gate which requests are under way."""

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = self._connections.get(request.protocol)
            if connection is None:
                return await handler(request)
            connection.busy, connection.since = True, _now()
            try:
                return await handler(request)
            finally:
                connection.busy, connection.since = False, _now()

        return note

    def protocol(self, server: web.Server) -> Callable[[], asyncio.Protocol]:
        """What makes the protocol of each connection that comes for this server."""
        self._server = server
        return lambda: _Newcomer(self)

    def enter(self, transport: asyncio.Transport) -> None:
        """Hand the connection over to the server, or turn it away."""
        assert self._server is not None  # noqa: S101  only what `protocol` made comes here
        peername = transport.get_extra_info("peername")
        peer = str(peername[0]) if peername else ""
        if not self._has_room_for(peer):
            self._on_turned_away()
            transport.write(_COME_BACK)
            transport.close()
            return
        handler: RequestHandler = self._server()
        self._connections[handler] = _Connection(peer, transport, _now())
        transport.set_protocol(handler)
        handler.connection_made(transport)

    def _has_room_for(self, peer: str) -> bool:
        """Whether one more of that address gets in, which somebody else may have been asked to leave for."""
        if len(self._connections) < self._most:
            return True
        if self._turned_away is not None and self._turned_away[0] == peer and _now() < self._turned_away[1]:
            return False  # to look at all connections again for each of a flood would take from those being served
        self._connections = {handler: one for handler, one in self._connections.items() if one.open}
        if len(self._connections) < self._most:
            return True
        self._tell()
        staying = [(handler, one) for handler, one in self._connections.items() if not one.asked]
        held = Counter(one.peer for _handler, one in staying)
        held[peer] += 1
        greediest = held.most_common(1)[0][0]
        theirs = [(handler, one) for handler, one in staying if one.peer == greediest]
        leaving = self._expendable(theirs)
        if leaving is None:
            if peer == greediest:
                self._turned_away = peer, _now() + _LOOK_AGAIN_S
                return False
            leaving = theirs[0]
        if len(self._connections) >= self._most + self._most // 2:
            self._break_off()
        self._ask(*leaving)
        return True

    def _expendable(
        self, some: Sequence[tuple[RequestHandler, _Connection]]
    ) -> tuple[RequestHandler, _Connection] | None:
        """The one that is idle, or else the one whose request takes too long."""
        now = _now()
        for busy, limit in ((False, self._idle_s), (True, self._patience_s)):
            for handler, one in some:
                if one.busy is busy and now - one.since >= limit:
                    return handler, one
        return None

    def _break_off(self) -> None:
        """Wait no longer for the one that was asked first."""
        for handler, one in self._connections.items():
            if one.asked:
                one.transport.abort()
                del self._connections[handler]  # it ends in the next turn of the loop, and others come in this one
                return

    def _ask(self, handler: RequestHandler, one: _Connection) -> None:
        one.asked = True
        if one.busy:
            handler.close()
        else:
            handler.force_close()
        asyncio.get_running_loop().call_later(_LEAVE_S, one.transport.abort)

    def _tell(self) -> None:
        now = _now()
        if self._told_at is None or now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            log.warning("connections_full", open=len(self._connections), most=self._most)


def _now() -> float:
    return asyncio.get_running_loop().time()


class _Newcomer(asyncio.Protocol):
    """A connection until the gate has let it in."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._gate.enter(transport)
