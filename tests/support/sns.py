"""Amazon SNS on loopback: signs messages as SNS does, and serves its certificate and confirmations over HTTPS."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from rollbackd.intake.sns import HttpsCaller, signed_text
from tests.support.deliveries import NOW

Key = rsa.RSAPrivateKey


def new_key() -> Key:
    """A key as large as SNS's."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(
    key: Key, name: str, *, begins: float = NOW - 86400, ends: float = NOW + 86400, ca: bool = False
) -> x509.Certificate:
    """A self-signed certificate of that name, also for 127.0.0.1."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(begins, UTC))
        .not_valid_after(datetime.fromtimestamp(ends, UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
        .sign(key, hashes.SHA256())
    )


def pem(found: x509.Certificate) -> bytes:
    """The certificate as SNS serves it."""
    return found.public_bytes(serialization.Encoding.PEM)


class LoopbackSns:
    """Serves what `pages` hold by path, over TLS that `caller` trusts and nobody else does."""

    def __init__(self, folder: Path, key: Key) -> None:
        self.key = key
        self.pages: dict[str, bytes] = {"/sns.pem": pem(certificate(key, "sns.amazonaws.com"))}
        self.status = 200
        self.in_two = False
        """Whether each answer comes in two parts, one after the other."""
        self.asked: list[str] = []
        today = datetime.now(UTC).timestamp()
        tls = certificate(key, "loopback", begins=today - 60, ends=today + 3600, ca=True)
        self._chain, self._private = folder / "tls.pem", folder / "tls.key"
        self._chain.write_bytes(pem(tls))
        self._private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.port = 0

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        page = self.pages.get(request.path, b"<ConfirmSubscriptionResponse/>" if request.path == "/" else None)
        if page is None:
            return web.Response(status=404)
        if not self.in_two:
            return web.Response(status=self.status, body=page)
        answer = web.StreamResponse(status=self.status)
        await answer.prepare(request)
        await answer.write(page[:100])
        await asyncio.sleep(0.1)  # so that the first part does not wait for the second in a buffer
        await answer.write(page[100:])
        return answer

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._chain, self._private)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._runner.cleanup()

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def caller(self) -> HttpsCaller:
        """Calls this server, and believes its certificate."""
        trust = ssl.create_default_context(cafile=str(self._chain))
        return HttpsCaller(re.compile(rf"127\.0\.0\.1:{self.port}"), trust)

    def signed(self, message: Mapping[str, Any], version: str = "2", key: Key | None = None) -> bytes:
        """The message as SNS would post it."""
        told = {"SigningCertURL": self.url("/sns.pem"), **message, "SignatureVersion": version}
        digest = hashes.SHA1() if version == "1" else hashes.SHA256()
        signature = (key or self.key).sign(signed_text(json.dumps(told).encode()), padding.PKCS1v15(), digest)
        return json.dumps({**told, "Signature": base64.b64encode(signature).decode()}).encode()
