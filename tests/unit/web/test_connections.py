"""Connections at once: those who hold most of them make room, and nobody is shut out."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import aiohttp
import pytest
from aiohttp import web

from rollbackd.web.connections import MOST, most_connections
from rollbackd.web.server import WebServer
from tests.support.waiting import eventually

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Crowd:
    """A server that keeps eight connections, and those who connect to it."""

    def __init__(self, server: WebServer, stack: AsyncExitStack) -> None:
        self.server = server
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self._stack = stack

    async def connect(self, come_from: str = "127.0.0.1", says: bytes = b"") -> Connection:
        reader, writer = await asyncio.open_connection(*self.server.address, local_addr=(come_from, 0))
        self._stack.push_async_callback(hang_up, writer)
        writer.write(says)
        return reader, writer

    async def answers(self, come_from: str = "127.0.0.1") -> bool:
        connector = aiohttp.TCPConnector(local_addr=(come_from, 0))
        async with aiohttp.ClientSession(connector=connector) as client, client.get(self.server.url) as response:
            return response.status == 200


@pytest.fixture
async def crowd() -> AsyncIterator[Crowd]:
    app = web.Application()
    server = WebServer(app, "127.0.0.1", 0, most=8, grace_s=0.1)
    async with AsyncExitStack() as stack:
        one = Crowd(server, stack)

        async def quick(_request: web.Request) -> web.Response:
            return web.Response()

        async def slow(_request: web.Request) -> web.Response:
            one.begun.set()
            await one.go.wait()
            return web.Response(text="done")

        app.router.add_get("/", quick)
        app.router.add_get("/slow", slow)
        await server.start()
        stack.push_async_callback(server.stop)
        yield one


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def left(connections: list[Connection]) -> int:
    """How many the server has not closed."""
    return sum(not reader.at_eof() and reader.exception() is None for reader, _writer in connections)


async def test_silent_connections_shut_nobody_out_and_are_bounded(crowd: Crowd) -> None:
    silent = [await crowd.connect() for _ in range(60)]
    assert await crowd.answers()
    await eventually(lambda: left(silent) <= 8)


async def test_who_holds_most_makes_room(crowd: Crowd) -> None:
    others = [await crowd.connect("127.0.0.2") for _ in range(2)]
    silent = [await crowd.connect() for _ in range(60)]
    assert await crowd.answers("127.0.0.2")
    await eventually(lambda: left(silent) <= 8)
    assert left(others) == 2


async def test_a_request_under_way_is_finished_before_its_connection_makes_room(crowd: Crowd) -> None:
    reader, _writer = await crowd.connect(says=b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await crowd.begun.wait()
    silent = [await crowd.connect() for _ in range(10)]
    await eventually(lambda: left(silent) <= 8)
    crowd.go.set()
    assert (await reader.read()).endswith(b"done"), "and then it is closed"


async def test_many_requests_that_never_end_shut_nobody_out(crowd: Crowd) -> None:
    """Neither connection is idle, and none leaves by itself."""
    endless = [await crowd.connect(says=b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(60)]
    assert await crowd.answers()
    await eventually(lambda: left(endless) <= 12)


@pytest.mark.parametrize(
    ("descriptors", "expected"), [(1024, 256), (1_048_576, MOST), (resource.RLIM_INFINITY, MOST), (20, 16)]
)
def test_most_descriptors_are_kept_for_what_the_daemon_itself_opens(descriptors: int, expected: int) -> None:
    assert most_connections(descriptors) == expected
