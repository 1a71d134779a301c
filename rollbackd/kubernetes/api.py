"""Requests to an API server: bounded in time and size, with every refusal in our own errors.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

import aiohttp
import msgspec
from yarl import URL

import rollbackd
from rollbackd.errors import Permanent, Temporary
from rollbackd.kubernetes.access import Access, Credentials
from rollbackd.kubernetes.objects import Meta, Page, read
from rollbackd.kubernetes.refusals import told

MAX_ANSWER = 32 * 1024 * 1024
"""What a list of pods may take: etcd keeps no object above 1.5 MiB, and pages hold at most PAGE of them."""
MAX_REFUSAL = 1024 * 1024
"""A refusal quotes the whole object twice over, and half of it cannot be read."""
PAGE = 250
MAX_ITEMS = 20_000
_QUOTED = 300

JSON_PATCH = "application/json-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

Query: TypeAlias = Mapping[str, str]
T = TypeVar("T")


class NotThere(Permanent):
    """404: no such object, or no such kind of object."""


class Forbidden(Permanent):
    """403: the rights are missing."""


class Stale(Temporary):
    """409: the object was changed since it was read."""


class Gone(Temporary):
    """410: what the request goes on from is too old to be known."""


class BrokeOff(Temporary):
    """The connection ended before the answer did, or no more of it came."""


class Api:
    """One API server, asked by one target or source."""

    def __init__(self, credentials: Credentials, timeout: float) -> None:
        """`timeout` is how long one answer may take, in seconds."""
        self._credentials, self._timeout = credentials, timeout
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def namespace(self) -> str:
        """The one that the credentials stand for where none is configured."""
        return (await self._credentials.access()).namespace

    async def get(self, path: str, kind: type[T], what: str, *, accept: str = "application/json") -> T:
        """One object. `what` names it in messages."""
        return read(await self._answer("GET", path, what, accept=accept), kind, what)

    async def all(self, path: str, kind: type[T], what: str, query: Query) -> tuple[list[T], str]:
        """All objects of a list, piece by piece, and its resourceVersion."""
        found: list[T] = []
        more = ""
        while True:
            asked = {**query, "limit": str(PAGE)} | ({"continue": more} if more else {})
            page = read(await self._answer("GET", path, what, query=asked), Page, what)
            found += [read(item, kind, what) for item in page.items or ()]
            more = page.metadata.continue_
            if not more:
                return found, page.metadata.resource_version
            if len(found) > MAX_ITEMS:
                raise Permanent(f"there are more than {MAX_ITEMS} {what}")

    async def some(self, path: str, kind: type[T], what: str, query: Query, most: int) -> list[T]:
        """The first objects of a list."""
        page = read(await self._answer("GET", path, what, query={**query, "limit": str(most)}), Page, what)
        return [read(item, kind, what) for item in page.items or ()]

    async def patch(
        self, path: str, seen: Meta, operations: Sequence[Mapping[str, object]], what: str, manager: str | None = None
    ) -> bytes:
        """Apply a JSON Patch (RFC 6902), all or nothing; the object after it.

        It holds the resourceVersion of the object that was `seen`, so that nobody's later change is overwritten: Stale
        where there was one. `manager` is whose the changed fields are from then on, where that is not to be us.
        """
        guard = {"op": "replace", "path": "/metadata/resourceVersion", "value": seen.resource_version}
        query = {"fieldManager": manager} if manager is not None else None
        return await self._answer("PATCH", path, what, query=query, body=[guard, *operations], content_type=JSON_PATCH)

    async def post(self, path: str, body: Mapping[str, object], kind: type[T], what: str) -> T:
        """Create an object, or ask a question that is put as one."""
        return read(await self._answer("POST", path, what, body=body), kind, what)

    async def delete(self, path: str, body: Mapping[str, object], what: str) -> None:
        """Delete an object; `body` is its DeleteOptions."""
        await self._answer("DELETE", path, what, body=body)

    async def _answer(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Query | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        data = msgspec.json.encode(body) if body is not None else None
        headers = {"Accept": accept} | ({"Content-Type": content_type} if data is not None else {})
        try:
            async with asyncio.timeout(self._timeout), self.open(method, path, what, query or {}, headers, data) as one:
                return await self._body(one, what)
        except TimeoutError:
            raise Temporary(f"{method} {what}: the API server's answer took longer than {self._timeout:g} s") from None

    async def _body(self, response: aiohttp.ClientResponse, what: str) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_chunked(256 * 1024):
            body += piece
            if len(body) > MAX_ANSWER:
                raise Permanent(f"the API server's answer about {what} is larger than {MAX_ANSWER} bytes")
        return bytes(body)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        what: str,
        query: Query,
        headers: Mapping[str, str],
        data: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer, whose body is still to be read: what goes wrong with that is told in our own errors, too.

        Where the credentials are refused, they are read anew and tried once more.
        """
        access = await self._credentials.access()
        for last in (False, True):
            try:
                async with asyncio.timeout(self._timeout):
                    response = await self._send(access, method, path, query, headers, data)
                try:
                    if response.status < 300:
                        yield response
                        return
                    body = await _beginning(response, MAX_REFUSAL)
                finally:
                    response.close()  # gives up an unread rest; one that was read to its end has let go already
            except (aiohttp.ClientError, ssl.SSLError, OSError, TimeoutError) as error:
                raise _unreachable(error, access, self._timeout) from None
            if response.status == 401:
                self._credentials.refused()
            if response.status != 401 or last:
                raise _refusal(response, body.decode("utf-8", "replace"), f"{method} {what}", access)
            access = await self._credentials.access()

    async def _send(
        self,
        access: Access,
        method: str,
        path: str,
        query: Query,
        headers: Mapping[str, str],
        data: bytes | None,
    ) -> aiohttp.ClientResponse:
        if self._closed:
            raise Temporary("this target is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=8),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=256 * 1024,
            )
        return await self._session.request(
            method,
            URL(access.server + path, encoded=False),
            params=query,
            headers={"User-Agent": f"rollbackd/{rollbackd.__version__}", **access.headers, **headers},
            data=data,
            allow_redirects=False,
            ssl=access.tls,
            server_hostname=access.server_name,
        )

    async def close(self) -> None:
        """Close every connection. Safe to call twice."""
        self._closed = True
        if self._session is not None:
            await self._session.close()


# -- what went wrong, in our words


def _unreachable(error: Exception, access: Access, within: float) -> Temporary:
    """What libraries say may hold what was sent, so nothing of it is passed on."""
    where = f"{URL(access.server).with_user(None)} ({access.shown})"
    if isinstance(error, TimeoutError):
        return Temporary(f"{where}: no answer within {within:g} s")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Temporary(f"{where}: its certificate is not accepted; is the certificate authority the right one?")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Temporary(f"{where}: the TLS handshake failed")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Temporary(f"{where}: the host name cannot be resolved")
    if isinstance(error, OSError):
        cause = getattr(error, "os_error", error)
        return Temporary(f"{where}: {getattr(cause, 'strerror', None) or 'cannot connect'}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return BrokeOff(f"{where}: the answer broke off")
    return Temporary(f"{where}: no proper answer ({type(error).__name__})")


def _refusal(response: aiohttp.ClientResponse, body: str, doing: str, access: Access) -> Temporary | Permanent:
    code = response.status
    message = f"{doing}: {said(body, access.secrets)} ({code})"
    match code:
        case 401:
            # a token that is being replaced is refused for a moment, so trying again can help
            return Temporary(f"{doing}: the API server does not accept the credentials of {access.shown} (401)")
        case 403:
            return Forbidden(f"{message}; docs/targets/kubernetes.md lists the rights that are needed")
        case 404:
            return NotThere(message)
        case 409:
            return Stale(message)
        case 410:
            return Gone(message)
        case 408 | 425 | 429:
            return Temporary(message, retry_after=_retry_after(response))
        case _ if code >= 500:
            return Temporary(message, retry_after=_retry_after(response))
        case _ if code < 400:
            return Permanent(f"{doing}: the API server redirects ({code}), which is not followed; is `server` right?")
        case _:
            return Permanent(message)


def said(body: str, secrets: Sequence[str]) -> str:
    """The server's own words: short, on one line, without values and without what we sent to prove who we are."""
    words = told(body)
    for secret in secrets:
        words = words.replace(secret, "***").replace(json.dumps(secret)[1:-1], "***")
    words = re.sub(r"\s+", " ", words).strip()
    return "".join(sign if sign.isprintable() else "?" for sign in words[:_QUOTED]) or "no reason was given"


async def _beginning(response: aiohttp.ClientResponse, most: int) -> bytes:
    body = bytearray()
    while len(body) < most and (piece := await response.content.read(most - len(body))):
        body += piece
    return bytes(body)


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 300.0) if text.isascii() and text.isdigit() and len(text) < 6 else None
