"""The syslog source, with the programs that really send to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.handlers
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from rollbackd.model import Log
from rollbackd.sources import syslog_port
from rollbackd.sources.base import Commons, SourceContext
from rollbackd.sources.syslog import ADAPTER, POLL_S, SyslogConfig
from tests.support.clock import ManualClock
from tests.support.servers import Run, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually, eventually_async


class Here:
    """A source that listens on free ports of loopback."""

    def __init__(self, clock: ManualClock, udp: int, tcp: int) -> None:
        self.clock, self.udp, self.tcp = clock, udp, tcp
        self.commons = Commons()

    @contextlib.asynccontextmanager
    async def source(self, service: str = "shop", **settings: object) -> AsyncIterator[tuple[Run, RecordingSink]]:
        listen = [f"udp://127.0.0.1:{self.udp}", f"tcp://127.0.0.1:{self.tcp}"]
        config = SyslogConfig.model_validate({"listen": listen, **settings})
        built = ADAPTER.build(config, SourceContext(service, self.clock, commons=self.commons))
        async with running(built, self.clock) as (run, sink):
            yield run, sink

    def datagrams(self, *messages: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for message in messages:
                sender.sendto(message.encode(), ("127.0.0.1", self.udp))


@pytest.fixture
def here(unused_udp_port: int, unused_tcp_port: int) -> Here:
    return Here(ManualClock(), unused_udp_port, unused_tcp_port)


async def polled(run: Run, sink: RecordingSink, count: int) -> list[tuple[str, str]]:
    """Level and message of the first so many records, as soon as they are over."""

    async def over() -> bool:
        await run.after(POLL_S)
        return len(sink.events) >= count

    await eventually_async(over)
    return [(event.level, event.message) for event in sink.of(Log)]


@pytest.mark.needs("logger")
@pytest.mark.parametrize("form", ["--rfc5424", "--rfc3164", "--rfc5424=notime,nohost"])
@pytest.mark.parametrize("transport", [["--udp"], ["--tcp"], ["--tcp", "--octet-count"]])
async def test_what_logger_sends_is_read(here: Here, form: str, transport: list[str]) -> None:
    port = here.udp if transport == ["--udp"] else here.tcp
    there = [*transport, "--server", "127.0.0.1", "--port", str(port)]
    async with here.source() as (run, sink):
        for priority, text in (
            ("user.err", "it broke: again"),
            ("daemon.notice", "ERROR in words"),
            ("user.info", "x"),
        ):
            program = await asyncio.create_subprocess_exec(
                "logger", form, *there, "--tag", "shop", "--id=7", "--priority", priority, "--", text
            )
            assert await program.wait() == 0
        found = await polled(run, sink, 3)
    assert found == [("error", "it broke: again"), ("error", "ERROR in words"), ("info", "x")]
    assert (sink.drops, sink.history, sink.invalid()) == ({}, ["up"], [])


@pytest.mark.needs("logger")
async def test_structured_data_of_logger_names_the_version(here: Here) -> None:
    async with here.source(version_field="app@1.version") as (run, sink):
        program = await asyncio.create_subprocess_exec(
            *("logger", "--rfc5424", "--udp", "--server", "127.0.0.1", "--port", str(here.udp), "--tag", "shop"),
            *("--sd-id", "app@1", "--sd-param", 'version="v2"', "hello"),
        )
        assert await program.wait() == 0
        await polled(run, sink, 1)
    assert [(event.version, event.message) for event in sink.of(Log)] == [("v2", "hello")]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_what_pythons_handler_sends_is_read(here: Here, kind: socket.SocketKind) -> None:
    port = here.udp if kind is socket.SOCK_DGRAM else here.tcp
    async with here.source() as (run, sink):
        handler = await asyncio.to_thread(logging.handlers.SysLogHandler, ("127.0.0.1", port), socktype=kind)
        handler.ident = "shop: "
        if kind is socket.SOCK_STREAM:
            handler.append_nul = False
            handler.setFormatter(logging.Formatter("%(message)s\n"))
        try:
            handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "careful %s", ("now",), None))
        finally:
            handler.close()
        assert await polled(run, sink, 1) == [("warning", "careful now")]


async def test_a_stack_trace_is_one_record_for_each_process(here: Here) -> None:
    async with here.source() as (run, sink):
        here.datagrams(
            "<11>Nov 24 12:00:00 shop[1]: it broke",
            "<11>Nov 24 12:00:00 shop[2]: it broke too",
            "<11>Nov 24 12:00:00 shop[1]:   at a",
            "<11>Nov 24 12:00:00 shop[2]:   at b",
            "<14>Nov 24 12:00:00 shop[3]: in one#012  at c",
        )
        found = await polled(run, sink, 3)
    assert sorted(message for _, message in found) == ["in one\n  at c", "it broke\n  at a", "it broke too\n  at b"]


async def test_json_and_logfmt_bodies_say_their_own_level_and_version(here: Here) -> None:
    async with here.source(version_field="app.version") as (run, sink):
        here.datagrams(
            '<11>Nov 24 12:00:00 shop: {"level":"info","msg":"fine","app":{"version":"v2"}}',
            '<11>Nov 24 12:00:00 shop: {"msg":"no level"}',
            "<11>Nov 24 12:00:00 shop: level=debug msg=quiet app.version=v3",
        )
        assert await polled(run, sink, 3) == [("info", "fine"), ("error", "no level"), ("debug", "quiet")]
    assert [event.version for event in sink.of(Log)] == ["v2", None, "v3"]


async def test_services_share_a_port_and_each_gets_its_own_lines(here: Here) -> None:
    async with here.source("shop") as (run, shop), here.source("cart", app_name=["cart-*", "basket"]) as (_, cart):
        here.datagrams("<14>shop: one", "<14>cart-api: two", "<14>basket: three", "<14>cart: four", "<14>no tag")
        await polled(run, shop, 1)
        await eventually(lambda: shop.drops and cart.drops)
        assert [event.message for event in shop.of(Log)] == ["one"]
        assert [event.message for event in cart.of(Log)] == ["two", "three"]
        assert shop.drops == cart.drops == {"other_sender": 2}
        assert (shop.history, cart.history) == (["up"], ["up"])
    async with here.source("shop") as (_, sink):
        assert sink.history == ["up"], "the last one closed the port"


async def test_one_service_that_leaves_takes_nothing_from_the_others(here: Here) -> None:
    async with here.source("shop") as (run, sink):
        async with here.source("cart"):
            pass
        here.datagrams("<14>shop: still")
        assert await polled(run, sink, 1) == [("info", "still")]


@pytest.mark.parametrize(
    ("hosts", "read"), [("web-*", ["a"]), (["127.0.0.1"], ["c"]), ("*", ["a", "b", "c"]), ("db-1", ["b"])]
)
async def test_hosts_are_told_apart(here: Here, hosts: object, read: list[str]) -> None:
    async with here.source(host=hosts) as (run, sink):
        stamp = "Nov 24 12:00:00"
        here.datagrams(f"<14>{stamp} web-1 shop: a", f"<14>{stamp} db-1 shop: b", f"<14>{stamp} shop: c")
        assert [message for _, message in await polled(run, sink, len(read))] == read


async def test_lines_from_before_are_not_held_against_a_release(here: Here) -> None:
    """As a relay delivers them that could not for a while."""
    async with here.source() as (run, sink):
        here.datagrams("<11>1 2003-10-11T22:14:15Z h shop - - - old", "<11>1 - h shop - - - new")
        assert await polled(run, sink, 1) == [("error", "new")]
    assert sink.drops == {"too_old": 1}


async def test_what_is_no_syslog_is_counted(here: Here) -> None:
    async with here.source() as (run, sink):
        here.datagrams("hello", "<999>x", "<14>shop: ok")
        await polled(run, sink, 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", here.tcp)
        writer.write(b"12 <14>shop: ok!GET / HTTP/1.1\r\n\r\n")
        assert await polled(run, sink, 2) == [("info", "ok"), ("info", "ok")]
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        await run.after(POLL_S)
    assert sink.drops == {"malformed": 3}


async def test_long_messages_are_cut_and_counted(here: Here) -> None:
    async with here.source(max_line=256) as (run, sink):
        here.datagrams("<14>shop: " + "x" * 300)
        await polled(run, sink, 1)
        _, writer = await asyncio.open_connection("127.0.0.1", here.tcp)
        writer.write(b"<14>shop: " + b"y" * 100_000 + b"\n<14>shop: next\n")
        await writer.drain()
        await polled(run, sink, 3)
        writer.close()
    assert [len(event.message) for event in sink.of(Log)] == [256, 256, 4]
    assert sink.drops["line_too_long"] >= 2


async def test_a_service_whose_queue_is_full_loses_its_own_lines_only(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog_port, "BACKLOG_LINES", 10)
    async with here.source("slow") as (run, slow), here.source("shop") as (_, shop):
        slow.hold()
        here.datagrams("<14>slow: first", "<14>slow: second")
        await here.clock.advance(POLL_S)
        await eventually(lambda: slow.waiting)
        here.datagrams(*(f"<14>slow: {number}" for number in range(15)), "<14>shop: hello")
        await polled(run, shop, 1)
        assert [event.message for event in shop.of(Log)] == ["hello"]
        slow.release()
        await polled(run, slow, 10)
        assert slow.drops["backlog_full"] == 5
        assert "backlog_full" not in shop.drops


async def test_what_the_kernel_had_no_room_for_is_counted(here: Here) -> None:
    async with here.source() as (run, sink):
        here.datagrams(*(f"<14>shop: {'x' * 8000}" for _ in range(20_000)))
        await run.after(POLL_S)
        await run.after(POLL_S)
        await eventually(lambda: sink.drops["receive_buffer_full"] > 0)
        await polled(run, sink, 20_000 - sink.drops["receive_buffer_full"])
        lost = sink.drops["receive_buffer_full"] + sink.drops["backlog_full"]
        assert len(sink.events) + lost == 20_000


async def test_more_connections_than_there_is_room_for_are_refused(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog_port, "MAX_CONNECTIONS", 2)
    async with here.source() as (run, sink):
        held = [await asyncio.open_connection("127.0.0.1", here.tcp) for _ in range(3)]
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(held[2][0].read(), 30) == b""
        held[0][1].write(b"<14>shop: hello\n")
        assert await polled(run, sink, 1) == [("info", "hello")]
        held[1][1].close()
        await eventually(lambda: held[1][1].transport.is_closing())
        for _, writer in held:
            writer.close()
    assert sink.drops == {"too_many_connections": 1}


async def test_a_port_that_is_taken_is_a_gap_until_it_is_free(here: Here) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", here.udp))
        async with here.source() as (run, sink):
            assert sink.state == f"down: cannot listen on udp://127.0.0.1:{here.udp}: Address already in use"
            other.close()
            await run.after(POLL_S)
            assert sink.state == "up"


async def test_a_socket_file_that_a_killed_daemon_left_is_taken_over(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(str(path))
    async with here.source(listen=f"unix://{path}") as (run, sink):
        assert sink.state == f"down: cannot listen on unix://{path}: Address already in use"
        left.close()
        await run.after(POLL_S)
        assert sink.state == "up"
    assert not path.exists()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.mark.needs("openssl")
async def test_tls_shows_our_certificate_and_wants_the_senders(
    here: Here, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=cert)
    listen = f"tcp://127.0.0.1:{here.tcp}"
    files = {"cert_file": str(cert), "key_file": str(key)}
    async with here.source(listen=listen, tls=files) as (run, sink):
        _, writer = await asyncio.open_connection("127.0.0.1", here.tcp, ssl=trusting)
        writer.write(b"<14>shop: over TLS\n")
        assert await polled(run, sink, 1) == [("info", "over TLS")]
        writer.transport.abort()
    async with here.source(listen=listen, tls={**files, "ca_file": str(cert)}) as (run, sink):
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", here.tcp, ssl=trusting)
            writer.write(b"<14>shop: from a stranger\n")
            assert await reader.read() == b""
            writer.transport.abort()
        await run.after(POLL_S)
        assert sink.events == []
    async with here.source(listen=listen, tls={**files, "key_file": str(tmp_path / "none")}) as (_, sink):
        assert (
            sink.state == f"down: cannot listen on {listen}: cannot use the files of `tls`: No such file or directory"
        )
    async with here.source(listen=listen, tls={**files, "key_file": str(cert)}) as (_, sink):
        assert "they do not fit or are no PEM" in sink.state


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"listen": "udp://localhost:1"}, "numeric IP address"),
        ({"listen": "http://127.0.0.1:1"}, "no address to listen on"),
        ({"listen": "udp://127.0.0.1"}, "no address to listen on"),
        ({"listen": "unix://relative"}, "no absolute path"),
        ({"listen": []}, "listen"),
        ({"listen": "udp://127.0.0.1:1", "tls": {"cert_file": "a", "key_file": "b"}}, "`tls` is for `tcp://`"),
        ({"max_line": "1MiB"}, "max_line"),
        ({"app_name": ""}, "app_name"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SyslogConfig.model_validate(settings)
