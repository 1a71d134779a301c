"""DNS probes against a real server, and against what is none."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import dns.asyncresolver
import dns.message
import dns.query
import dns.rcode
import pytest
from pydantic import ValidationError

from rollbackd.sources.probe import ProbeConfig
from tests.support.waiting import eventually_async
from tests.unit.sources.test_probe import gap, outcome

pytestmark = pytest.mark.needs("dnsmasq")

LONG = [f"part-{number}-{'x' * 200}" for number in range(10)]


@dataclass
class Dns:
    """A real server and its port."""

    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        return f"dns://127.0.0.1:{self.port}"


@pytest.fixture
async def server(unused_udp_port: int, unused_tcp_port: int) -> AsyncIterator[Dns]:
    port = unused_tcp_port
    process = await asyncio.create_subprocess_exec(
        *("dnsmasq", "--keep-in-foreground", f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces"),
        *("--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", f"--user={getpass.getuser()}"),
        *("--host-record=shop.test,10.0.0.1", "--host-record=shop.test,10.0.0.2", "--local=/test/"),
        *("--cname=www.test,shop.test", "--mx-host=shop.test,mail.test,10", "--txt-record=shop.test,v=Spf1 ~all"),
        *(f"--txt-record=long.test,{text}" for text in LONG),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def answers() -> bool:
        assert process.returncode is None, "dnsmasq ended"
        query = dns.message.make_query("shop.test", "A")
        try:
            await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 0.2, port)
        except (dns.exception.DNSException, OSError):
            return False
        return True

    try:
        await eventually_async(answers)
        yield Dns(process, port)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    ("question", "answers", "up"),
    [
        ("shop.test", None, True),
        ("shop.test.", ["10.0.0.2", "10.0.0.1"], True),
        ("SHOP.test?type=A", ["10.0.0.1"], False),
        ("shop.test?type=AAAA", None, False),
        ("www.test", ["10.0.0.1", "10.0.0.2"], True),
        ("www.test?type=CNAME", ["Shop.test."], True),
        ("shop.test?type=mx", ["10 mail.test"], True),
        ("shop.test?type=TXT", ["v=spf1 ~all"], True),
        ("long.test?type=TXT", LONG, True),
        ("nobody.test", None, False),
        ("nobody.test", ["10.0.0.1"], False),
        ("refused.example", None, False),
    ],
)
async def test_the_servers_answer_is_judged(server: Dns, question: str, answers: list[str] | None, up: bool) -> None:
    settings = {} if answers is None else {"answers": answers}
    assert await outcome(f"{server.url}/{question}", **settings) is up


async def test_a_server_that_is_gone_is_evidence_since_it_is_what_is_checked(server: Dns) -> None:
    server.process.terminate()
    await server.process.wait()
    assert not await outcome(f"{server.url}/shop.test", timeout=0.2)


async def test_an_answer_that_is_no_dns_is_evidence() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.setblocking(False)

        async def answer() -> None:
            _, asker = await asyncio.get_running_loop().sock_recvfrom(other, 512)
            other.sendto(b"hello", asker)

        answering = asyncio.create_task(answer())
        assert not await outcome(f"dns://127.0.0.1:{other.getsockname()[1]}/shop.test", timeout=1.0)
        await answering


def resolvers(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """As if /etc/resolv.conf named this one alone."""
    own = dns.asyncresolver.Resolver(configure=False)
    own.nameservers, own.port = ["127.0.0.1"], port
    monkeypatch.setattr(dns.asyncresolver, "Resolver", lambda: own)


async def test_by_the_resolvers_a_name_is_judged_and_they_are_not(server: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    resolvers(monkeypatch, server.port)
    assert await outcome("dns:///shop.test")
    assert await outcome("dns:///shop.test", answers=["10.0.0.1", "10.0.0.2"])
    assert not await outcome("dns:///nobody.test")
    assert not await outcome("dns:///shop.test?type=AAAA")
    assert "no resolver of this machine could find out" in await gap("dns:///refused.example")
    server.process.terminate()
    await server.process.wait()
    assert "no resolver of this machine" in await gap("dns:///shop.test", timeout=0.2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "dns://127.0.0.1"}, "no URL that can be probed"),
        ({"url": "dns://127.0.0.1/a..b"}, "no domain name"),
        ({"url": "dns://127.0.0.1/a?type=NOTHING"}, "no type of DNS record"),
        ({"url": "dns://127.0.0.1/a?kind=A"}, "no parameter but `type`"),
        ({"url": "dns:///a", "tls": {}}, "a DNS probe has no `tls`"),
        ({"url": "grpc://h:1", "body": "x"}, "a gRPC probe has no `body`"),
        ({"url": "grpc://h:1", "tls": {}}, "a gRPC probe has no `tls`"),
        ({"url": "grpc://h"}, "no URL that can be probed"),
        ({"url": "grpc://h:1/" + "x" * 200}, "at most 127 characters"),
        ({"url": "http://h:1/", "answers": ["x"]}, "an HTTP probe has no `answers`"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ProbeConfig.model_validate(settings)
