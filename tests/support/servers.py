"""Real servers on loopback that behave as well or as badly as a test asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from aiohttp import web

from rollbackd.sources.base import Sink, Source
from tests.support.clock import ManualClock
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def text(body: str | bytes, **settings: object) -> Handler:
    """A handler that always answers the same; settings are those of aiohttp's Response."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        data = body.encode() if isinstance(body, str) else body
        response = web.Response(body=data)
        for name, value in settings.items():
            if name == "status" and isinstance(value, int):
                response.set_status(value)
            else:
                response.headers[name.replace("_", "-")] = str(value)
        return response

    return answer


class Server:
    """An HTTP server whose `handler` can be changed at any time, and that can stop and start again at its address."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[web.Request] = []
        self.callers: set[object] = set()
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.transport is not None:
            self.callers.add(request.transport.get_extra_info("peername"))
        return await self.handler(request)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def url(self, path: str = "/metrics") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def raw_server(answer: bytes, *, then_close: bool = True) -> AsyncIterator[int]:
    """A port that answers every connection with these bytes, once something was asked; gives the port."""
    hung: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        await writer.drain()
        if then_close:
            writer.close()
        else:
            hung.append(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in hung:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


class Run:
    """A source that runs on a clock moved by hand."""

    def __init__(self, source: Source, clock: ManualClock, sink: Sink) -> None:
        self.clock = clock
        self.sink = sink
        self.task = asyncio.create_task(source.run(sink))

    async def idle(self) -> None:
        """Until the source waits for the clock."""
        await eventually(lambda: self.clock.sleeping or self.task.done())
        if self.task.done():
            self.task.result()

    async def after(self, seconds: float) -> None:
        """Let so much time pass, and what is due then be done."""
        await self.idle()
        await self.clock.advance(seconds)
        await self.idle()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def running(source: Source, clock: ManualClock) -> AsyncIterator[tuple[Run, RecordingSink]]:
    """Run a source until the block ends; inside, it has had its first look."""
    sink = RecordingSink()
    run = Run(source, clock, sink)
    try:
        await run.idle()
        yield run, sink
    finally:
        await run.stop()
