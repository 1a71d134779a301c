"""Connections at once: those who hold most of them make room, and what is being served is not broken off for more."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import aiohttp
import pytest
from aiohttp import web

from rollbackd.web.connections import MOST, Gate, most_connections
from rollbackd.web.server import WebServer
from tests.support.waiting import eventually, eventually_async

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Crowd:
    """A server that keeps eight connections, and those who connect to it."""

    def __init__(self, server: WebServer, stack: AsyncExitStack) -> None:
        self.server = server
        self.begun, self.go = asyncio.Semaphore(0), asyncio.Event()
        self._stack = stack

    async def connect(self, come_from: str = "127.0.0.1", says: bytes = b"") -> Connection:
        reader, writer = await asyncio.open_connection(*self.server.address, local_addr=(come_from, 0))
        self._stack.push_async_callback(hang_up, writer)
        writer.write(says)
        return reader, writer

    async def asks_slowly(self, come_from: str = "127.0.0.1") -> Connection:
        """A connection whose request is under way."""
        connection = await self.connect(come_from, b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await self.begun.acquire()
        return connection

    async def status(self, come_from: str = "127.0.0.1") -> int:
        connector = aiohttp.TCPConnector(local_addr=(come_from, 0))
        async with aiohttp.ClientSession(connector=connector) as client, client.get(self.server.url) as response:
            return response.status

    async def answers(self, come_from: str = "127.0.0.1") -> bool:
        return await self.status(come_from) == 200


class Turned:
    """Counts who was turned away."""

    def __init__(self) -> None:
        self.away = 0

    def __call__(self) -> None:
        self.away += 1


@pytest.fixture
def turned() -> Turned:
    return Turned()


@pytest.fixture
def patience_s() -> float:
    return 60.0


@pytest.fixture
async def crowd(turned: Turned, patience_s: float) -> AsyncIterator[Crowd]:
    app = web.Application()
    gate = Gate(8, turned, idle_s=0.0, patience_s=patience_s)
    server = WebServer(app, "127.0.0.1", 0, gate=gate, grace_s=0.1)
    async with AsyncExitStack() as stack:
        one = Crowd(server, stack)

        async def quick(_request: web.Request) -> web.Response:
            return web.Response()

        async def slow(_request: web.Request) -> web.Response:
            one.begun.release()
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


async def test_those_that_are_idle_make_room_before_one_with_a_request_under_way(crowd: Crowd) -> None:
    reader, _writer = await crowd.asks_slowly()
    silent = [await crowd.connect() for _ in range(30)]
    await eventually(lambda: left(silent) <= 7)
    crowd.go.set()
    assert await reader.readuntil(b"done")


@pytest.mark.parametrize("patience_s", [0.0])
async def test_a_request_that_takes_too_long_is_finished_before_its_connection_makes_room(crowd: Crowd) -> None:
    served = [await crowd.asks_slowly() for _ in range(8)]
    assert await crowd.answers()
    crowd.go.set()
    assert (await served[0][0].read()).endswith(b"done"), "and then it is closed"


@pytest.mark.parametrize("patience_s", [0.0])
async def test_many_requests_that_never_end_shut_nobody_out(crowd: Crowd) -> None:
    """Neither connection is idle, and none leaves by itself; but each has taken longer than it may."""
    endless = [await crowd.asks_slowly() for _ in range(60)]
    assert await crowd.answers()
    await eventually(lambda: left(endless) <= 12)


class Line(asyncio.Transport):
    """A connection from an address, whose end takes until the next turn of the event loop."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1), "socket": self})
        self.aborted = False

    family = socket.AF_UNIX  # aiohttp sets no option of TCP then

    def setsockopt(self, *_option: object) -> None:
        pass

    def fileno(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        pass  # what was asked of it is still under way

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


async def test_many_that_come_in_one_turn_of_the_loop_are_bounded_too() -> None:
    gate = Gate(8, idle_s=0.0)
    protocol = gate.protocol(web.Server(lambda _request: asyncio.sleep(0, web.Response())))
    lines = [Line(f"192.0.2.{n}") for n in range(100)]
    for line in lines:
        protocol().connection_made(line)
    assert sum(not line.aborted for line in lines) <= 12
    assert not lines[-1].aborted


async def test_what_is_being_served_is_not_broken_off_for_more_of_the_same_address(
    crowd: Crowd, turned: Turned
) -> None:
    """Else, under a flood, each is broken off by the next one, and nobody is served."""
    served = [await crowd.asks_slowly() for _ in range(8)]
    assert [await crowd.status() for _ in range(20)] == [503] * 20
    assert turned.away == 20
    assert left(served) == 8
    crowd.go.set()
    assert [(await reader.readuntil(b"done"))[9:12] for reader, _writer in served] == [b"200"] * 8
    await eventually_async(crowd.answers)  # they are idle now, and one makes room


async def test_another_address_gets_in_while_one_is_served_on_all_connections(crowd: Crowd, turned: Turned) -> None:
    served = [await crowd.asks_slowly() for _ in range(8)]
    assert await crowd.answers("127.0.0.2")
    assert turned.away == 0
    crowd.go.set()
    for reader, _writer in served:
        assert await reader.readuntil(b"done"), "the one that made room was served to its end"


async def test_who_is_turned_away_is_told_to_come_back(crowd: Crowd) -> None:
    for _ in range(8):
        await crowd.asks_slowly()
    reader, _writer = await crowd.connect()
    told = await reader.read()
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in told


@pytest.mark.parametrize(
    ("descriptors", "expected"), [(1024, 256), (1_048_576, MOST), (resource.RLIM_INFINITY, MOST), (20, 16)]
)
def test_most_descriptors_are_kept_for_what_the_daemon_itself_opens(descriptors: int, expected: int) -> None:
    assert most_connections(descriptors) == expected
