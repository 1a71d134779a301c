"""Serving: the address, what is wrong with it, and an end that cuts nobody off."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import aiohttp
import pytest
from aiohttp import web

from rollbackd.errors import Permanent
from rollbackd.web.server import WebServer
from tests.support.waiting import eventually


def application(handler: object = None) -> web.Application:
    app = web.Application()
    if handler is not None:
        app.router.add_get("/", handler)  # type: ignore[arg-type]  # each test's own coroutine function
    return app


async def test_port_0_takes_a_free_port_and_tells_which() -> None:
    server = WebServer(application(), "127.0.0.1", 0)
    await server.start()
    try:
        host, port = server.address
        assert host == "127.0.0.1"
        assert port > 0
        assert server.url == f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


async def test_an_address_in_use_is_said_plainly_and_nothing_is_left_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        app, closed = application(), []

        async def close(_app: web.Application) -> None:
            closed.append(True)

        app.on_cleanup.append(close)
        server = WebServer(app, "127.0.0.1", port)
        with pytest.raises(Permanent, match=rf"cannot listen on 127\.0\.0\.1:{port}: another process"):
            await server.start()
        assert closed == [True]
    await server.stop()


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("192.0.2.1", 0, "no such address"),
        ("no-such-host.invalid", 0, "no such host"),
        ("127.0.0.1", 70000, "0 to 65535"),
    ],
)
async def test_an_impossible_address_is_said_plainly(host: str, port: int, says: str) -> None:
    server = WebServer(application(), host, port)
    with pytest.raises(Permanent, match=says):
        await server.start()


async def test_requests_under_way_are_finished_before_the_end() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        begun.set()
        await go.wait()
        return web.Response(text="done")

    server = WebServer(application(slow), "127.0.0.1", 0, grace_s=5)
    await server.start()
    url = server.url
    async with aiohttp.ClientSession() as client:
        request = asyncio.create_task(client.get(url))
        await begun.wait()
        stopping = asyncio.create_task(server.stop())
        await eventually(lambda: _refuses(url))
        go.set()
        async with await request as response:
            assert await response.text() == "done"
        await stopping


def _refuses(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


async def test_the_end_does_not_wait_for_ever() -> None:
    begun = asyncio.Event()
    ends: list[str] = []

    async def endless(_request: web.Request) -> web.Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return web.Response()

    server = WebServer(application(endless), "127.0.0.1", 0, grace_s=0.05)
    await server.start()
    async with aiohttp.ClientSession() as client:
        request = asyncio.create_task(client.get(server.url))
        await begun.wait()
        await asyncio.wait_for(server.stop(), 30)
        with pytest.raises(aiohttp.ClientConnectionError):
            await request
    await eventually(lambda: ends)


async def test_a_client_that_hangs_up_does_not_cancel_what_it_asked_for() -> None:
    begun, go, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()
    requests: list[web.Request] = []

    async def slow(request: web.Request) -> web.Response:
        requests.append(request)
        begun.set()
        await go.wait()
        finished.set()
        return web.Response()

    server = WebServer(application(slow), "127.0.0.1", 0)
    await server.start()
    try:
        _reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await begun.wait()
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: requests[0].transport is None)
        go.set()
        await asyncio.wait_for(finished.wait(), 30)
    finally:
        await server.stop()


async def test_stopping_twice_does_no_harm() -> None:
    server = WebServer(application(), "127.0.0.1", 0)
    await server.start()
    await server.stop()
    await server.stop()


def test_the_shapes_of_answers_can_be_had_without_the_server() -> None:
    """The command line reads answers; it must not pay for importing aiohttp."""
    program = "import rollbackd.web.views, sys; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
