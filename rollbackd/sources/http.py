"""HTTP for sources that pull: one session, bounded answers, credentials kept to their origin and out of messages."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import re
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Annotated, Self

import aiohttp
from pydantic import AfterValidator, Field, model_validator
from yarl import URL

import rollbackd
from rollbackd.errors import ConfigError, Temporary
from rollbackd.fields import Model, Secret
from rollbackd.sources.tls import CertificateFault, Tls, Trust, refused_certificate

CHUNK_BYTES = 64 * 1024
MAX_REDIRECTS = 5

OWN_FAULTS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EADDRNOTAVAIL,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EACCES,
        errno.EPERM,
    }
)
"""What a failed connection says about this machine and not about the far one: no descriptors, memory, ports, route."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE = re.compile(r"[\r\n\0]")


class Unreachable(Temporary):
    """No answer came. `own_fault` says that the fault is on our side: it tells nothing about the far one."""

    def __init__(self, message: str, *, own_fault: bool = False) -> None:
        super().__init__(message)
        self.own_fault = own_fault


class TimedOut(Unreachable):
    """No answer came in time: it may be there, and busy."""


class BadAnswer(Temporary):
    """An answer came, but not one that can be used."""


def _http_url(value: str) -> str:
    try:
        url = URL(value)
    except ValueError:
        raise ValueError("this is no URL: write http://host:port/path") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("this is no HTTP URL: write http://host:port/path")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Basic(Model):
    """A user name and a password, sent as HTTP Basic authentication."""

    username: str
    """The user's name."""
    password: Secret
    """The password, as where it is kept."""


class HttpOptions(Model):
    """What an HTTP request carries beside its URL."""

    headers: dict[str, str | Secret] = Field(default_factory=dict)
    """Headers to send; a value may be a secret."""
    bearer: Secret | None = None
    """A token to send as `Authorization: Bearer`."""
    basic: Basic | None = None
    """Credentials to send as HTTP Basic authentication."""
    tls: Tls = Tls()
    """How the far side's certificate is checked, and which one is shown to it."""

    @model_validator(mode="after")
    def _sendable(self) -> Self:
        if self.bearer is not None and self.basic is not None:
            raise ValueError("`bearer` and `basic` exclude each other: keep one")
        for name, value in self.headers.items():
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"`{name}` is no header name")
            if isinstance(value, str) and _UNSAFE.search(value):
                raise ValueError(f"header `{name}` holds a line break")
        return self


def _basic(user: str, password: str) -> str:
    """RFC 7617, in UTF-8."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _without_user(url: URL) -> URL:
    return url.with_user(None) if url.host else url


def masked(url: URL) -> str:
    """The URL as it may be shown: without user, password, query and fragment."""
    shown = str(_without_user(url).with_query(None).with_fragment(None))
    return f"{shown}?..." if url.raw_query_string else shown


def _reads_files(options: HttpOptions) -> bool:
    kept = [options.bearer, options.basic.password if options.basic else None, *options.headers.values()]
    return bool(options.tls.files) or any(isinstance(one, Secret) and one.file is not None for one in kept)


def within_origin(asked: URL, url: URL) -> bool:
    """Whether credentials meant for the one may go to the other: one origin, or the TLS of the same host at the usual
    ports. Another port can be another owner's."""
    if (url.scheme, url.host, url.port) == (asked.scheme, asked.host, asked.port):
        return True
    usual = asked.is_default_port() and url.is_default_port()
    return usual and url.host == asked.host and (asked.scheme, url.scheme) == ("http", "https")


class HttpClient:
    """Asks one URL again and again. An async context manager; leaving it closes every connection."""

    def __init__(self, url: str, options: HttpOptions, timeout: float, *, keep_alive: bool = True) -> None:
        parsed = URL(url)
        self.shown = masked(parsed)
        self._url, self._user, self._password = _without_user(parsed), parsed.user, parsed.password
        self._options, self._timeout, self._keep_alive = options, timeout, keep_alive
        self._session: aiohttp.ClientSession | None = None
        self._secrets: list[str] = [parsed.password] if parsed.password else []
        self._reads_files = _reads_files(options)
        self._certificates = Trust(options.tls)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="credentials")  # starts when there is a file to read

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2, force_close=not self._keep_alive),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._session is not None:
            await self._session.close()

    @property
    def url(self) -> URL:
        """Where it is, without a user and password that were in the URL."""
        return self._url

    async def outfit(self) -> tuple[dict[str, str], bool | ssl.SSLContext]:
        """The credentials as headers, and aiohttp's `ssl`, for what `ask` does not do. Raises what `ask` raises."""
        return await self._read()

    def explained(self, error: Exception) -> Temporary:
        """What aiohttp or the operating system raised, as one sentence of ours without secrets."""
        return self._explained(error)

    def scrubbed(self, text: str) -> str:
        """The text without any credential that was sent, in case the far side echoed one."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        accept: str,
        *,
        follow: bool,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """Send one request; the whole exchange, reading the body in the block included, is bounded by the time limit.

        `follow` follows redirects within the same origin; `form` is sent as an HTML form is, `params` as the URL's
        query. Raises Unreachable, BadAnswer, and ConfigError for a credential that cannot be read.
        """
        headers = {"User-Agent": f"rollbackd/{rollbackd.__version__}", "Accept": accept, "Accept-Encoding": "gzip"}
        credentials, trust = await self._read()
        headers |= credentials
        url = self._url.update_query(params) if params else self._url
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._response(method, url, headers, trust, form, follow=follow)
                try:
                    yield Answer(response, self.shown)
                finally:
                    response.close()  # gives up an unread rest; an answer read to its end has let go already
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._explained(error) from None

    async def _read(self) -> tuple[dict[str, str], bool | ssl.SSLContext]:
        """What is read anew for each request, with files read outside the event loop: their file system may hang."""
        if not self._reads_files:
            return self._credentials(), self._trust()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                return await loop.run_in_executor(self._thread, lambda: (self._credentials(), self._trust()))
        except TimeoutError:
            raise Unreachable(
                f"{self.shown}: its credentials or certificates cannot be read in time", own_fault=True
            ) from None

    async def _response(
        self,
        method: str,
        url: URL,
        headers: dict[str, str],
        trust: bool | ssl.SSLContext,
        form: Mapping[str, str] | None,
        *,
        follow: bool,
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("ask inside `async with` only")
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._session.request(
                method, url, headers=headers, data=form, allow_redirects=False, ssl=trust
            )
            target = response.headers.get("Location")
            if not follow or response.status not in (301, 302, 303, 307, 308) or target is None:
                return response
            response.close()
            try:
                url = url.join(URL(target)).with_user(None)
            except ValueError:
                raise BadAnswer(f"{self.shown} redirects to something that is no URL") from None
            if not within_origin(self._url, url):
                raise BadAnswer(
                    f"{self.shown} redirects to another host, port or protocol: configure that URL if it is right"
                )
        raise BadAnswer(f"{self.shown} redirects more than {MAX_REDIRECTS} times")

    def _credentials(self) -> dict[str, str]:
        options = self._options
        headers = {name: value if isinstance(value, str) else value.reveal() for name, value in options.headers.items()}
        secrets = [headers[name] for name, value in options.headers.items() if isinstance(value, Secret)]
        if options.bearer is not None:
            secrets.append(options.bearer.reveal())
            headers["Authorization"] = f"Bearer {secrets[-1]}"
        elif options.basic is not None:
            secrets.append(options.basic.password.reveal())
            headers["Authorization"] = _basic(options.basic.username, secrets[-1])
        elif self._user is not None:
            headers["Authorization"] = _basic(self._user, self._password or "")
        self._secrets = [*secrets, *([self._password] if self._password else [])]
        for name, value in headers.items():
            if _UNSAFE.search(value):
                raise ConfigError(f"the secret for header `{name}` holds a line break")
        return headers

    def _trust(self) -> bool | ssl.SSLContext:
        try:
            return self._certificates.context()
        except CertificateFault as fault:
            raise Unreachable(str(fault), own_fault=True) from None

    def _explained(self, error: Exception) -> Temporary:
        """The error as one sentence of ours: what libraries say may hold the URL with its secrets."""
        if isinstance(error, TimeoutError):
            return TimedOut(f"{self.shown}: no answer within {self._timeout:g} s")
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            cause = getattr(error.certificate_error, "verify_message", "") or "not trusted"
            return Unreachable(f"{self.shown}: its certificate is not accepted: {cause}")
        if (alert := refused_certificate(error)) is not None:
            return Unreachable(f"{self.shown} {alert}")
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
            return Unreachable(f"{self.shown}: the TLS handshake failed")
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return Unreachable(f"{self.shown}: the host name cannot be resolved", own_fault=True)
        if isinstance(error, aiohttp.ClientPayloadError):
            return BadAnswer(f"{self.shown}: the answer broke off")
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return Unreachable(f"{self.shown} closed the connection without an answer")
        if isinstance(error, aiohttp.ClientResponseError):
            return BadAnswer(f"{self.shown} did not answer in HTTP")
        if isinstance(error, OSError):
            return refusal(self.shown, error)
        return Unreachable(f"{self.shown}: {type(error).__name__}")


def refusal(shown: str, error: OSError) -> Unreachable:
    """What a failed connection means, in the operating system's words."""
    cause = getattr(error, "os_error", error)
    number = cause.errno if isinstance(cause, OSError) and cause.errno in errno.errorcode else None
    words = os.strerror(number) if number is not None else "cannot connect"
    return Unreachable(f"{shown}: {words}", own_fault=number in OWN_FAULTS)


def _seconds(retry_after: str) -> float | None:
    """What a Retry-After header asks for (RFC 9110, 10.2.3); a date is not read."""
    text = retry_after.strip()
    return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


class Answer:
    """An answer whose body is still to be read. `retry_after` is the peer's own wish in seconds, if it stated one."""

    def __init__(self, response: aiohttp.ClientResponse, shown: str) -> None:
        self.status, self.reason = response.status, response.reason or ""
        self.content_type = response.headers.get("Content-Type", "")
        self.retry_after = _seconds(response.headers.get("Retry-After", ""))
        self._encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        self._content, self._shown = response.content, shown

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, decompressed, in pieces of at most CHUNK_BYTES. Raises BadAnswer where it cannot be read.

        Everything else gets its turn after each piece: a little gzip is a lot of body, without any wait in between.
        """
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                yield piece
                await asyncio.sleep(0)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        if self._encoding in ("identity", ""):
            async for raw in self._content.iter_chunked(CHUNK_BYTES):
                yield raw
            return
        if self._encoding not in ("gzip", "x-gzip"):
            raise BadAnswer(f"{self._shown} answered in a content encoding that was not asked for")
        unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            async for raw in self._content.iter_chunked(CHUNK_BYTES):
                rest = raw
                while rest:
                    yield unzip.decompress(rest, CHUNK_BYTES)
                    rest = unzip.unconsumed_tail
        except zlib.error:
            raise BadAnswer(f"{self._shown} answered with broken gzip") from None
        if not unzip.eof:
            raise BadAnswer(f"{self._shown}: the answer broke off")
