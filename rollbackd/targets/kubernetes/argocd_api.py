"""Requests to Argo CD's REST API: bounded in time and size, with every refusal in our own errors.

Source: https://argo-cd.readthedocs.io/en/stable/developer-guide/api-docs/ and the swagger.json that it serves; the
statuses are those that grpc-gateway gives to gRPC codes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import aiohttp
import msgspec
from pydantic import AfterValidator, Field
from yarl import URL

import rollbackd
from rollbackd.errors import ConfigError, Permanent, Temporary
from rollbackd.fields import Duration, Model
from rollbackd.kubernetes.api import said
from rollbackd.kubernetes.kubeconfig import read_small

MAX_ANSWER = 32 * 1024 * 1024
"""What an application with thousands of resources, or its manifests, may take."""

Query: TypeAlias = Sequence[tuple[str, str]]
T = TypeVar("T")


def _address(value: str) -> str:
    try:
        url = URL(value)
    except ValueError:
        raise ValueError("this is no URL: write https://argocd.example.org") from None
    if url.scheme not in ("http", "https") or not url.host or url.raw_query_string or url.raw_fragment:
        raise ValueError("this is no plain HTTP URL: write https://argocd.example.org")
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("a URL with a user is not taken: write the token into `token_file`")
    return value.rstrip("/")


class ArgoCDOptions(Model):
    """Which Argo CD to revert by, and as whom."""

    url: Annotated[str, AfterValidator(_address)]
    """Its address, as in https://argocd.example.org, with the root path where it has one."""
    token_file: Path
    """A file that holds a token of an account or a project's role; it is read anew for each request."""
    ca_file: Path | None = None
    """The certificate authority (PEM) that signed its certificate; left out, the system's are trusted."""
    timeout: Duration = Field(default=30.0, gt=0)
    """How long it may take for one answer; it renders manifests for some."""


class NotThere(Permanent):
    """404: there is none. Where no project is named, Argo CD says 403 instead."""


class Denied(Permanent):
    """403: the token has not the right, or there is no such application: Argo CD does not tell the two apart."""


class ArgoApi:
    """One Argo CD, asked by one target."""

    def __init__(self, options: ArgoCDOptions) -> None:
        self._options = options
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._tls: tuple[bytes | None, ssl.SSLContext] | None = None

    async def get(self, path: str, kind: type[T], what: str, query: Query = ()) -> T:
        """What it says about `what`, which names it in messages."""
        return self._read(await self._answer("GET", path, what, query), kind, what)

    async def patch(self, path: str, body: Mapping[str, object], kind: type[T], what: str) -> T:
        """Change an object; what it is after that."""
        return self._read(await self._answer("PATCH", path, what, (), body), kind, what)

    async def post(self, path: str, body: Mapping[str, object], what: str) -> None:
        """Have something done."""
        await self._answer("POST", path, what, (), body)

    async def close(self) -> None:
        """Close every connection. Safe to call twice."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _read(self, raw: bytes, kind: type[T], what: str) -> T:
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise Permanent(
                f"{self._shown}: the answer about {what} is none of Argo CD's; is `owners.argocd.url` right?"
            ) from None

    @property
    def _shown(self) -> str:
        return f"Argo CD at {self._options.url}"

    async def _answer(
        self, method: str, path: str, what: str, query: Query, body: Mapping[str, object] | None = None
    ) -> bytes:
        data = msgspec.json.encode(body) if body is not None else None
        token, trust = await self._outfit()
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {token}",
            "User-Agent": f"rollbackd/{rollbackd.__version__}",
        } | ({"Content-Type": "application/json"} if data is not None else {})
        url = URL(self._options.url + path, encoded=True).with_query(list(query))
        try:
            async with (
                asyncio.timeout(self._options.timeout),
                self._open().request(method, url, headers=headers, data=data, allow_redirects=False, ssl=trust) as one,
            ):
                whole = bytearray()
                async for piece in one.content.iter_chunked(256 * 1024):
                    whole += piece
                    if len(whole) > MAX_ANSWER:
                        raise Permanent(f"{self._shown}: the answer about {what} is larger than {MAX_ANSWER} bytes")
        except (aiohttp.ClientError, ssl.SSLError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from None
        if one.status >= 300:
            words = said(whole[: 64 * 1024].decode("utf-8", "replace"), (token,))
            raise self._refusal(one, f"{method} {what}", words)
        return bytes(whole)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Temporary("this target is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=4),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=256 * 1024,
            )
        return self._session

    # -- credentials

    async def _outfit(self) -> tuple[str, ssl.SSLContext]:
        """The token and whom to trust, read outside the event loop: a file system may hang."""
        try:
            async with asyncio.timeout(self._options.timeout):
                token, authority = await asyncio.to_thread(self._files)
        except TimeoutError:
            raise Temporary("the files with Argo CD's credentials cannot be read in time") from None
        if not token or not token.isascii() or not token.isprintable():
            raise Permanent(f"{self._options.token_file}: this holds no token of Argo CD's")
        if self._tls is None or self._tls[0] != authority:
            self._tls = (authority, self._context(authority))
        return token, self._tls[1]

    def _files(self) -> tuple[str, bytes | None]:
        token = read_small(self._options.token_file).decode("utf-8", "replace").strip()
        return token, read_small(self._options.ca_file) if self._options.ca_file is not None else None

    def _context(self, authority: bytes | None) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cadata=authority.decode("ascii") if authority is not None else None)
        except (ssl.SSLError, ValueError):
            raise ConfigError(f"{self._options.ca_file}: this is no PEM certificate") from None

    # -- what went wrong, in our words

    def _unreachable(self, error: Exception) -> Temporary:
        """What libraries say may hold what was sent, so nothing of it is passed on."""
        if isinstance(error, TimeoutError):
            return Temporary(f"{self._shown}: no answer within {self._options.timeout:g} s")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Temporary(f"{self._shown}: its certificate is not accepted; is `owners.argocd.ca_file` right?")
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
            return Temporary(f"{self._shown}: the TLS handshake failed")
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return Temporary(f"{self._shown}: the host name cannot be resolved")
        if isinstance(error, OSError):
            cause = getattr(error, "os_error", error)
            return Temporary(f"{self._shown}: {getattr(cause, 'strerror', None) or 'cannot connect'}")
        return Temporary(f"{self._shown}: no proper answer ({type(error).__name__})")

    def _refusal(self, response: aiohttp.ClientResponse, doing: str, words: str) -> Temporary | Permanent:
        code = response.status
        message = f"{self._shown}: {doing}: {words} ({code})"
        match code:
            case 401:
                # a token that is being replaced is refused for a moment, so trying again can help
                return Temporary(f"{self._shown} does not accept the token in {self._options.token_file} (401)")
            case 403:
                return Denied(f"{message}: there is none, or the token lacks a right that docs/targets/argocd.md lists")
            case 404:
                return NotThere(message)
            case 408 | 409 | 425 | 429:
                return Temporary(message, retry_after=_retry_after(response))
            case _ if code >= 500:
                return Temporary(message, retry_after=_retry_after(response))
            case _ if code < 400:
                return Permanent(
                    f"{self._shown} redirects ({code}), which is not followed; is `owners.argocd.url` right?"
                )
            case _:
                return Permanent(message)


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 300.0) if text.isascii() and text.isdigit() and len(text) < 6 else None
