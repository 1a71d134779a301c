"""What a request to the API server needs right now: its address, TLS and the headers that say who asks.

Files are read outside the event loop and anew every few seconds, since a pod's token is replaced while it runs; what a
plugin printed is kept until it expires. An answer 401 makes both be asked for again at once.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace

from rollbackd.aiokit import Clock
from rollbackd.errors import ConfigError, Permanent, Temporary
from rollbackd.kubernetes.kubeconfig import ClusterOptions, Identity, identity, read_small
from rollbackd.kubernetes.plugin import Credential, credential

READ_AGAIN_S = 10.0
"""A replaced token is valid for minutes together with the one before it."""
EARLIER_S = 30.0
"""How long before its end a credential is no longer used."""
_WITHIN_S = 10.0


@dataclass(frozen=True)
class Access:
    """`tls` stays the same object while what it was made of does, so that connections are used again."""

    server: str
    namespace: str
    shown: str
    tls: ssl.SSLContext | bool
    server_name: str | None
    headers: Mapping[str, str]
    secrets: tuple[str, ...]


class Credentials:
    """The access of one target or source."""

    def __init__(self, options: ClusterOptions, clock: Clock, environment: Mapping[str, str] | None = None) -> None:
        self._options, self._clock = options, clock
        self._environment = os.environ if environment is None else environment
        self._access: Access | None = None
        self._read_at = 0.0
        self._printed: Credential | None = None
        self._made_of: tuple[object, ...] = ()
        self._tls: ssl.SSLContext | bool = True
        self._one_at_a_time = asyncio.Lock()

    async def access(self) -> Access:
        """What holds now. Raises ConfigError and Permanent for what an operator has to cure, Temporary otherwise."""
        async with self._one_at_a_time:
            fresh = self._clock.monotonic() - self._read_at < READ_AGAIN_S and not self._expired()
            if self._access is None or not fresh:
                self._access = await self._found()
                self._read_at = self._clock.monotonic()
            return self._access

    def refused(self) -> None:
        """The server did not accept what it got: nothing that was kept is used again."""
        self._access = self._printed = None

    def _expired(self) -> bool:
        expires = self._printed.expires if self._printed is not None else None
        return expires is not None and self._clock.now() > expires - EARLIER_S

    async def _found(self) -> Access:
        try:
            async with asyncio.timeout(_WITHIN_S):
                who, token = await asyncio.to_thread(self._read)
        except TimeoutError:
            raise Temporary("the files with Kubernetes credentials cannot be read in time") from None
        if who.plugin is not None:
            if self._printed is None or self._expired():
                self._printed = await credential(who, who.plugin)
            token = self._printed.token or token
            if self._printed.client_certificate_data and self._printed.client_key_data:
                certificate, key = self._printed.client_certificate_data, self._printed.client_key_data
                who = replace(who, certificate=certificate.encode(), key=key.encode())
        if token is not None and not token.isprintable():
            raise Permanent(f"{who.shown}: the token holds signs that no token has")
        return Access(
            server=who.server,
            namespace=who.namespace,
            shown=who.shown,
            tls=self._trust(who),
            server_name=who.server_name,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            secrets=(token,) if token else (),
        )

    def _read(self) -> tuple[Identity, str | None]:
        who = identity(self._options, self._environment)
        if who.token_file is None:
            return who, who.token
        return who, read_small(who.token_file).decode("utf-8", "replace").strip()

    def _trust(self, who: Identity) -> ssl.SSLContext | bool:
        made_of = (who.ca, who.verify, who.certificate, who.key)
        if made_of != self._made_of:
            self._tls = _context(who)
            self._made_of = made_of
        return self._tls


def _context(who: Identity) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=who.ca.decode("ascii") if who.ca is not None else None)
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"{who.shown}: its certificate authority is no PEM certificate") from None
    if not who.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if who.certificate is not None and who.key is not None:
        _show(context, who, who.certificate, who.key)
    return context


def _show(context: ssl.SSLContext, who: Identity, certificate: bytes, key: bytes) -> None:
    """`ssl` loads certificates from files only: one that lives in memory leaves no key on a disk."""
    memory = os.memfd_create("client-certificate")
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{memory}", password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError):
        raise ConfigError(f"{who.shown}: its client certificate and key are no PEM pair without a passphrase") from None
    finally:
        os.close(memory)
