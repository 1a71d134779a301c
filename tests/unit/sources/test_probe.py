"""The probe source: what is evidence against a service, and what only says that we could not look."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import ValidationError

from rollbackd.model import Probe
from rollbackd.sources.base import Source, SourceContext
from rollbackd.sources.probe import ADAPTER, ProbeConfig
from tests.support.clock import ManualClock
from tests.support.servers import Handler, Server, raw_server, running, text
from tests.support.waiting import eventually


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(text("all is well")) as server:
        yield server


def probe(url: str, clock: ManualClock, **settings: object) -> Source:
    config = ProbeConfig.model_validate({"url": url, **settings})
    return ADAPTER.build(config, SourceContext("shop", clock))


async def outcome(url: str, **settings: object) -> bool:
    """What one check of the URL says; it must be evidence, not a gap."""
    clock = ManualClock()
    async with running(probe(url, clock, **settings), clock) as (_, sink):
        assert sink.history == ["up"]
    assert sink.invalid() == []
    return [event.up for event in sink.of(Probe)] == [True]


async def gap(url: str, **settings: object) -> str:
    """Why one check of the URL said nothing; it must give no evidence."""
    clock = ManualClock()
    async with running(probe(url, clock, **settings), clock) as (_, sink):
        assert sink.events == []
    return sink.state


@pytest.mark.parametrize(
    ("handler", "settings", "up"),
    [
        (text("ok"), {}, True),
        (text("", status=302, Location="/elsewhere"), {}, True),
        (text("", status=302, Location="/elsewhere"), {"expect_status": ["2xx"]}, False),
        (text("", status=404), {}, False),
        (text("", status=404), {"expect_status": [404]}, True),
        (text("", status=401), {"expect_status": ["2xx", 401]}, True),
        (text("", status=500), {}, False),
        (text("all is well"), {"body": "is (well|fine)"}, True),
        (text("on fire"), {"body": "is (well|fine)"}, False),
        (text("x" * 70_000 + "well"), {"body": "well"}, False),
        (text("x" * 60_000 + "well"), {"body": "well"}, True),
        (text("ok", Content_Encoding="gzip"), {"body": "ok"}, False),
        (text("ok"), {"method": "HEAD"}, True),
    ],
)
async def test_an_http_answer_is_judged(
    server: Server, handler: Handler, settings: dict[str, object], up: bool
) -> None:
    server.handler = handler
    assert await outcome(server.url("/healthz"), **settings) is up
    assert server.requests[0].method == settings.get("method", "GET")


async def test_checks_follow_each_other_with_the_time_they_took(server: Server) -> None:
    clock = ManualClock()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await clock.advance(0.25)
        return web.Response()

    server.handler = slow
    async with running(probe(server.url(), clock, interval=5.0), clock) as (run, sink):
        server.handler = text("", status=500)
        await run.after(4.75)
    assert [(event.up, event.duration) for event in sink.of(Probe)] == [(True, 0.25), (False, 0.0)]
    assert [event.t for event in sink.events] == [clock.now() - 4.75, clock.now()]


async def test_each_check_is_a_new_connection(server: Server) -> None:
    clock = ManualClock()
    async with running(probe(server.url(), clock), clock) as (run, _):
        await run.after(10)
    assert len(server.callers) == 2


async def test_a_refused_connection_is_evidence(unused_tcp_port: int) -> None:
    assert not await outcome(f"http://127.0.0.1:{unused_tcp_port}/")
    assert not await outcome(f"tcp://127.0.0.1:{unused_tcp_port}")


async def test_no_answer_in_time_is_evidence() -> None:
    async with raw_server(b"", then_close=False) as port:
        assert not await outcome(f"http://127.0.0.1:{port}/", timeout=1.0)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
async def test_a_broken_answer_is_evidence(answer: bytes) -> None:
    async with raw_server(answer) as port:
        assert not await outcome(f"http://127.0.0.1:{port}/", body="x")


async def test_an_open_port_is_up() -> None:
    async with raw_server(b"") as port:
        assert await outcome(f"tcp://127.0.0.1:{port}")


async def test_a_port_that_lets_nobody_in_is_evidence() -> None:
    """A listener whose queue is full answers nothing, as a dropped packet does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        queued = []
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
            queued.append(waiting)
        try:
            assert not await outcome(f"tcp://127.0.0.1:{port}", timeout=1.0)
        finally:
            for waiting in queued:
                waiting.close()


@pytest.fixture
async def hanging_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is resolved, nor refused."""

    async def wait(*_arguments: object, **_options: object) -> object:
        return await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", wait)


@pytest.mark.usefixtures("hanging_resolver")
async def test_an_address_needs_no_resolver(server: Server) -> None:
    assert await outcome(server.url("/healthz"))


@pytest.mark.usefixtures("hanging_resolver")
async def test_a_resolver_that_hangs_is_a_gap_of_its_own() -> None:
    assert "was not resolved within 0.05 s" in await gap("http://shop.test/", timeout=0.05)


@pytest.mark.parametrize(
    "url",
    [
        "http://no-such-host.invalid/",
        "tcp://no-such-host.invalid:80",
        "tcp://[fe80::1%25gone9]:80",
        "http://[fe80::1%25gone9]/",
    ],
)
async def test_a_name_that_does_not_resolve_is_a_gap(url: str) -> None:
    assert "the host name of" in await gap(url)


async def test_a_missing_credential_is_a_gap(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    state = await gap(server.url(), bearer={"file": str(token)})
    assert state == f"down: secret: cannot read file {token}: No such file or directory"
    token.write_text("s3cret")
    assert await outcome(server.url(), bearer={"file": str(token)})
    assert server.requests[0].headers["Authorization"] == "Bearer s3cret"


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """This process may open no further file."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe_socket:
        highest = probe_socket.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("scheme", ["http", "tcp"])
async def test_a_machine_of_ours_without_descriptors_is_a_gap(
    server: Server, no_descriptors: None, scheme: str
) -> None:
    assert "Too many open files" in await gap(f"{scheme}://127.0.0.1:{server.port}")


async def test_a_check_that_we_held_up_ourselves_is_a_gap(server: Server) -> None:
    """The process slept far beyond the time limit, so that the time limit says nothing about the service."""
    clock = ManualClock()

    async def frozen(_request: web.Request) -> web.StreamResponse:
        await clock.advance(60)
        return web.Response(status=500)

    server.handler = frozen
    async with running(probe(server.url(), clock, timeout=1.0), clock) as (_, sink):
        assert (sink.events, sink.state) == (
            [],
            "down: this process was held up while it checked, so the check says nothing",
        )


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1, signed by itself."""
    key, pem = str(tmp_path / "key.pem"), tmp_path / "cert.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        *name,
        "-keyout",
        key,
        "-out",
        str(pem),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return pem


@pytest.mark.needs("openssl")
async def test_certificates_are_checked_against_the_operators_choice(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert not await outcome(url)
        assert await outcome(url, tls={"ca_file": str(certificate)})
        assert await outcome(url, tls={"verify": False})
        missing = certificate.with_name("none.pem")
        assert await gap(url, tls={"ca_file": str(missing)}) == (
            f"down: cannot read certificates from `tls.ca_file` {missing}"
        )


async def test_cancelling_in_the_middle_of_a_check_leaves_nothing_open(server: Server) -> None:
    clock = ManualClock()
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    server.handler = hang
    source = probe(server.url(), clock)
    task = asyncio.create_task(source.run(_Nowhere()))
    await eventually(lambda: server.requests)
    transport = server.requests[0].transport
    assert transport is not None
    task.cancel()
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    await eventually(transport.is_closing)


class _Nowhere:
    """A sink that must not be told anything."""

    async def emit(self, event: object) -> None:
        raise AssertionError(event)

    def up(self) -> None:
        raise AssertionError

    def down(self, reason: str) -> None:
        raise AssertionError(reason)

    def dropped(self, reason: str, count: int = 1) -> None:
        raise AssertionError(reason)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "tcp://host"}, "no URL that can be probed"),
        ({"url": "ftp://host/"}, "no URL that can be probed"),
        ({"url": "host:80"}, "no URL that can be probed"),
        ({"url": "http://x:99999/"}, "no URL that can be probed"),
        ({"url": "tcp://x:1", "body": "y"}, "a TCP probe has no `body`"),
        ({"expect_status": []}, "expect_status"),
        ({"expect_status": ["6xx"]}, "no status"),
        ({"expect_status": [99]}, "expect_status"),
        ({"body": "["}, "no regular expression"),
        ({"method": "HEAD", "body": "x"}, "use `method: GET`"),
        ({"timeout": "0s"}, "timeout"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ProbeConfig.model_validate({"url": "http://x/", **settings})
