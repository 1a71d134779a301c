"""gRPC probes against a real gRPC server, and against what is none."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # it comes without types
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # it comes without types
from h2.exceptions import ProtocolError
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from rollbackd.sources.http import BadAnswer
from rollbackd.sources.probe_grpc import _exchange
from tests.support.servers import raw_server
from tests.unit.sources.test_probe import gap, outcome

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "shop.v1.Checkout"


class Grpc:
    """A real server with the usual health service, which says what is set."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, *, with_health: bool = True) -> None:
        self.health = health.HealthServicer()
        self._pool = ThreadPoolExecutor(2)
        self._server = grpc.server(self._pool)
        if with_health:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.stop(0).wait)
        self._pool.shutdown()


@pytest.fixture
async def server() -> AsyncIterator[Grpc]:
    one = Grpc()
    yield one
    await one.stop()


async def test_the_servers_word_is_taken(server: Grpc) -> None:
    url = f"grpc://127.0.0.1:{server.port}"
    assert await outcome(url), "the health of the server as a whole is SERVING from its start"
    server.health.set("", NOT_SERVING)
    assert not await outcome(url)
    server.health.set(SERVICE, SERVING)
    assert await outcome(f"{url}/{SERVICE}")
    server.health.set(SERVICE, NOT_SERVING)
    assert not await outcome(f"{url}/{SERVICE}")
    server.health.set(SERVICE, health_pb2.HealthCheckResponse.UNKNOWN)
    assert not await outcome(f"{url}/{SERVICE}")


async def test_a_service_that_was_never_registered_is_a_gap(server: Grpc) -> None:
    assert "knows no service of that name" in await gap(f"grpc://127.0.0.1:{server.port}/nobody.Here")


async def test_a_server_without_health_service_is_a_gap() -> None:
    bare = Grpc(with_health=False)
    try:
        assert "has no health service (grpc.health.v1.Health)" in await gap(f"grpc://127.0.0.1:{bare.port}")
    finally:
        await bare.stop()


async def test_a_server_that_is_gone_is_evidence(server: Grpc) -> None:
    url = f"grpc://127.0.0.1:{server.port}"
    await server.stop()
    assert not await outcome(url)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0" * 9, b"SSH-2.0-x\r\n", b"\0\0\0\4\0\0\0\0\0" * 20_000]
)
async def test_what_answers_in_another_protocol_is_evidence(answer: bytes) -> None:
    async with raw_server(answer) as port:
        assert not await outcome(f"grpc://127.0.0.1:{port}", timeout=1.0)


async def test_no_answer_in_time_is_evidence() -> None:
    async with raw_server(b"", then_close=False) as port:
        assert not await outcome(f"grpc://127.0.0.1:{port}", timeout=1.0)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[bytes, bytes, Path]:
    """A key, its certificate for 127.0.0.1, and that one's file."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return key.read_bytes(), cert.read_bytes(), cert


@pytest.mark.needs("openssl")
async def test_certificates_are_checked(certificate: tuple[bytes, bytes, Path]) -> None:
    key, cert, path = certificate
    secure = Grpc(grpc.ssl_server_credentials([(key, cert)]))
    try:
        url = f"grpcs://127.0.0.1:{secure.port}"
        assert await outcome(url, tls={"ca_file": str(path)})
        assert await outcome(url, tls={"verify": False})
        assert not await outcome(url)
        missing = path.with_name("none.pem")
        assert await gap(url, tls={"ca_file": str(missing)}) == (
            f"down: cannot read certificates from `tls.ca_file` {missing}"
        )
    finally:
        await secure.stop()


@given(st.binary(max_size=300))
def test_a_hostile_answer_is_a_bad_one(data: bytes) -> None:
    async def exchange() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"\0\0\0\4\0\0\0\0\0" + data)
        reader.feed_eof()
        with pytest.raises((BadAnswer, ProtocolError)):
            await _exchange(URL("grpc://h:1"), reader, _Nowhere())  # type: ignore[arg-type]  # a stub

    asyncio.run(exchange())


class _Nowhere:
    def write(self, data: bytes) -> None:
        return
