"""A Docker engine that has one container, as far as its logs go: quick to break and to heal."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

from aiohttp import web

from tests.support.clock import settle
from tests.support.servers import Handler

CONTAINER = {
    "Id": "c0ffee",
    "Name": "/shop",
    "Image": "sha256:" + "0" * 64,
    "Config": {"Image": "shop:v1", "Labels": {}, "Tty": False},
    "State": {"Running": True},
}
STARTED = b'{"Type":"container","Action":"start","Actor":{"ID":"c0ffee","Attributes":{"image":"shop:v1"}}}\n'
LISTED = {"Id": "c0ffee", "Names": ["/shop"], "Image": "shop:v1", "Labels": {}, "State": "running", "Created": 1}


class FakeEngine:
    """Listens on a unix socket in the folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "docker.sock"
        self.lines: list[tuple[int, bytes]] = []
        self.reads = 0
        self.running = True
        self.starts_meanwhile = False
        """Whether the container starts again while somebody still hears that it does not run."""
        self.answers: dict[str, tuple[int, bytes]] = {}
        """What is answered instead, by path."""
        self.held: dict[str, asyncio.Event] = {}
        """What is not answered before this happens, by path."""
        self.asked: list[str] = []
        """The paths, in the order in which they were asked for."""
        self._raw = b""
        self._waiting: set[asyncio.Queue[None]] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/_ping", self._ping)
        app.router.add_get("/events", self._events)
        app.router.add_get("/containers/json", self._list)
        app.router.add_get("/containers/c0ffee/json", self._inspect)
        app.router.add_get("/containers/c0ffee/logs", self._logs)
        app.middlewares.append(self._instead)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.path.unlink(missing_ok=True)

    def print(self, text: str, stamp: int | None = None) -> None:
        """Let the container print a line, so many nanoseconds after a certain moment."""
        stamp = 1_800_000_000 * 10**9 + (len(self.lines) if stamp is None else stamp)
        self.lines.append((stamp, text.encode() + b"\n"))
        self.send(b"")

    async def tell(self, event: bytes) -> None:
        """Let who listens to its events hear one."""
        await self._events_to.write(event)

    def send(self, raw: bytes) -> None:
        """Let its readers have these bytes, and be sent away."""
        self._raw = raw
        for waiting in self._waiting:
            waiting.put_nowait(None)

    @web.middleware
    async def _instead(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked.append(request.path)
        if (held := self.held.get(request.path)) is not None:
            await held.wait()
        if (answer := self.answers.get(request.path)) is not None:
            return web.Response(status=answer[0], body=answer[1])
        return await handler(request)

    async def _ping(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="OK")

    async def _list(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response([LISTED])

    async def _inspect(self, _request: web.Request) -> web.StreamResponse:
        running = self.running
        if self.starts_meanwhile:
            self.starts_meanwhile = False
            await self._events_to.write(STARTED)
            await settle()
        return web.json_response({**CONTAINER, "State": {"Running": running}})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self._events_to = response
        await asyncio.Event().wait()
        return response

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        self.reads += 1
        response = web.StreamResponse()
        await response.prepare(request)
        seconds, _, rest = request.query.get("since", "0").partition(".")
        since = int(seconds) * 10**9 + int(rest or 0)
        told = max(len(self.lines) - int(request.query.get("tail", len(self.lines))), 0)
        waiting: asyncio.Queue[None] = asyncio.Queue()
        self._waiting.add(waiting)
        try:
            while True:
                for stamp, text in self.lines[told:]:
                    if stamp >= since:
                        line = b"2027-01-15T08:00:00.%09dZ " % (stamp % 10**9) + text
                        await response.write(struct.pack(">BxxxI", 1, len(line)) + line)
                told = len(self.lines)
                if "follow" not in request.query:
                    return response
                if not self.running:
                    return response
                if self._raw:
                    raw, self._raw = self._raw, b""
                    await response.write(raw)
                    return response
                await waiting.get()
        finally:
            self._waiting.discard(waiting)
