"""Serves the application on an address, and stops without cutting off who is being served."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError

from rollbackd.errors import Permanent
from rollbackd.web.connections import Gate, most_connections

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.web")

_IDLE_S = 75.0
_LINGER_S = 2.0
_WAITING = 512
"""How many connections may wait to be taken; further ones try again by themselves, after a second or more."""
_TAKEN_AT_ONCE = 16
"""So many are taken before the event loop turns to others: a flood of them must not hold up what is being served."""

_CURES = {
    errno.EADDRINUSE: "another process listens there: stop it, or listen elsewhere",
    errno.EACCES: "the system does not allow it: use a port above 1023, or grant CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


class WebServer:
    """One listening address. Port 0 takes a free one; `address` tells which.

    A client that hangs up does not cancel its request: what was being accepted is accepted to the end.
    """

    def __init__(
        self, app: web.Application, host: str, port: int, *, grace_s: float = 10.0, gate: Gate | None = None
    ) -> None:
        """`grace_s` is how long requests may take to finish at the end; `gate` bounds the connections kept open."""
        self._host, self._port = host, port
        self._gate = gate or Gate(most_connections())
        app.middlewares.insert(0, self._gate.middleware)
        self._listener: asyncio.Server | None = None
        self._address = (host, port)
        # Bodies are decompressed by the application, which bounds them; a connection that sends no whole request
        # head is closed after the idle time.
        self._runner = web.AppRunner(
            app,
            logger=_Faults("rollbackd.web"),
            access_log=None,
            auto_decompress=False,
            handler_cancellation=False,
            keepalive_timeout=_IDLE_S,
            lingering_time=_LINGER_S,
            shutdown_timeout=grace_s,
        )

    async def start(self) -> None:
        """Listen. Raises Permanent where that is impossible; nothing is left open then."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101  setting up made it
        try:
            protocol = self._gate.protocol(server)
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(protocol, self._host, self._port, backlog=_TAKEN_AT_ONCE)
            for one in self._listener.sockets:
                with one.dup() as same:
                    same.listen(_WAITING)  # asyncio has one number for both
        except (OSError, OverflowError) as error:
            await self._runner.cleanup()
            raise Permanent(f"cannot listen on {self._host}:{self._port}: {_why(error)}") from error
        host, port, *_ = self._listener.sockets[0].getsockname()
        self._address = (str(host), int(port))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on, once started."""
        return self._address

    @property
    def url(self) -> str:
        """The root, once started, such as `http://127.0.0.1:9797`."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Accept nothing new, let requests finish for at most the grace time, close. Safe to call twice."""
        if self._listener is not None:
            self._listener.close()
        await self._runner.cleanup()


def _why(error: OSError | OverflowError) -> str:
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    if isinstance(error, OverflowError):
        return "ports go from 0 to 65535"
    return _CURES.get(error.errno or 0, error.strerror or "the system refused")


class _Faults(logging.Logger):
    """Takes what aiohttp logs. Of a request that is no HTTP it says no more than that: its bytes may hold secrets."""

    def handle(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            log.debug("http_request_unreadable", reason=type(error).__name__)
        elif record.levelno >= logging.WARNING:
            log.error("http_server_fault", message=record.getMessage(), exc_info=error)
