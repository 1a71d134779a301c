"""Asks a gRPC server for its health: grpc.health.v1.Health/Check, over one HTTP/2 connection of its own.

The protocols: github.com/grpc/grpc/blob/master/doc/health-checking.md and doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError
from yarl import URL

import rollbackd
from rollbackd.sources.http import BadAnswer, Unreachable, masked, refusal
from rollbackd.sources.tls import Tls

MAX_ANSWER_BYTES = 64 * 1024
"""An answer of a few bytes is expected; of more than this, nothing is wanted."""

SERVING = 1
UNTELLING: Mapping[int, str] = {
    5: "knows no service of that name: name one that it registers, or none for the server as a whole",
    7: "does not let us ask (PERMISSION_DENIED)",
    12: "has no health service (grpc.health.v1.Health): register one, or probe it by tcp://",
    16: "does not let us ask (UNAUTHENTICATED)",
}
"""Statuses that tell how server and probe were set up, and nothing about how the service is."""


async def check(url: URL, tls: Tls) -> bool:
    """Whether the server says that it serves. The time limit is the caller's.

    Raises BadAnswer where what answered is no gRPC, and Unreachable where no answer came, of our own fault where it
    tells nothing about the service.
    """
    shown = masked(url)
    trust = await asyncio.to_thread(_trust, tls) if url.scheme == "grpcs" else None
    try:
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=trust)
    except ssl.SSLError:
        raise Unreachable(f"{shown}: the TLS handshake failed") from None
    except OSError as error:
        raise refusal(shown, error) from None
    try:
        answer = await _exchange(url, reader, writer)
    except (ProtocolError, OSError):
        raise BadAnswer(f"{shown} did not answer in HTTP/2") from None
    finally:
        writer.transport.abort()
    if answer.status in UNTELLING:
        raise Unreachable(f"{shown} {UNTELLING[answer.status]}", own_fault=True)
    return answer.status == 0 and _serving(answer.body)


def _trust(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file is not None else None)
    except (OSError, ssl.SSLError):
        raise Unreachable(f"cannot read certificates from `tls.ca_file` {tls.ca_file}", own_fault=True) from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


class _Answer:
    """What came of the answer so far. `status` is gRPC's own, which comes last; -1 before it."""

    def __init__(self) -> None:
        self.status = -1
        self.body = b""
        self.over = False

    def take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            headers = {_text(name): _text(value) for name, value in event.headers or ()}
            if headers.get(":status", "200") != "200":
                raise BadAnswer(f"answered with HTTP status {headers[':status'][:3]}, which is no gRPC")
            code = headers.get("grpc-status", "")
            self.status = int(code) if code.isascii() and code.isdigit() and len(code) < 4 else self.status
        elif isinstance(event, DataReceived):
            self.body += event.data or b""
        elif isinstance(event, StreamEnded | StreamReset):
            self.over = True


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


async def _exchange(url: URL, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Answer:
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host
    scheme = "https" if url.scheme == "grpcs" else "http"
    headers = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", f"{host}:{url.port}"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", f"rollbackd/{rollbackd.__version__}"),
    ]
    connection.send_headers(1, headers)
    connection.send_data(1, _request(unquote(url.raw_path.strip("/"))), end_stream=True)
    answer, received = _Answer(), 0
    while not answer.over:
        writer.write(connection.data_to_send())
        data = await reader.read(16 * 1024)
        received += len(data)
        if not data or received > MAX_ANSWER_BYTES:
            raise BadAnswer("the answer broke off" if not data else "the answer does not end")
        for event in connection.receive_data(data):
            answer.take(event)
    return answer


def _request(service: str) -> bytes:
    """HealthCheckRequest{service = 1} in its frame: not compressed, and four bytes of length."""
    name = service.encode()[:127]  # a length of one byte; the settings allow no longer name
    message = bytes([0x0A, len(name)]) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _serving(body: bytes) -> bool:
    """Whether a frame holds HealthCheckResponse{status = 1} with SERVING, whatever fields later servers may add."""
    message = body[5:]
    return body[:1] == b"\0" and len(message) == int.from_bytes(body[1:5], "big") and message[:2] == bytes([8, SERVING])
