"""Real certificates, made by openssl: an authority of our own, and what it signs."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates for 127.0.0.1, to be shown by servers and clients."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._name = folder, name
        self.cert, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        openssl(*new, "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.cert)

    def signed(self, name: str) -> Pair:
        pair = Pair(self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key")
        request, extra = pair.cert.with_suffix(".csr"), pair.cert.with_suffix(".ext")
        extra.write_text("subjectAltName=IP:127.0.0.1\n")
        new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}")
        openssl(*new, "-keyout", pair.key, "-out", request)
        signing = ("-CA", self.cert, "-CAkey", self._key, "-CAcreateserial", "-days", "2", "-extfile", extra)
        openssl("x509", "-req", "-in", request, *signing, "-out", pair.cert)
        return pair


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    came: list[str]

    def setup(self) -> None:
        try:
            self.request.do_handshake()
        except OSError:
            with suppress(OSError):  # OpenSSL has sent its alert; closing at once could overtake it
                self.request.shutdown(socket.SHUT_WR)
        super().setup()

    def do_GET(self) -> None:
        self.came.append(self.request.getpeercert()["subject"][0][0][1])
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_said: object) -> None:
        return


class _Server(ThreadingHTTPServer):
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        return


@contextmanager
def mutual_tls_server(shown: Pair, trusted: Path) -> Iterator[tuple[str, list[str]]]:
    """An HTTPS server that answers those alone who show a certificate of the trusted authority; gives its address and
    the names of those who came. On blocking sockets: asyncio's servers end a handshake without telling why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.cert, shown.key)
    context.load_verify_locations(trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    came: list[str] = []
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"came": came}))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/", came
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
