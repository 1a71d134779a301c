"""A client of the Docker Engine API, over its unix socket or TCP with TLS: bounded answers, and streams without end.

The API: https://docs.docker.com/reference/api/engine/. Paths carry no version: the engine then speaks its newest one,
and what is used here has been the same since 1.24.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self, TypeAlias, TypeVar

import aiohttp
import msgspec
from pydantic import AfterValidator
from yarl import URL

import rollbackd
from rollbackd.errors import Temporary
from rollbackd.fields import Model

CHUNK_BYTES = 64 * 1024
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of one answer; a list of a thousand containers takes about two million."""

ANSWER_WITHIN_S = 30.0
CONNECT_WITHIN_S = 10.0

T = TypeVar("T")


class EngineFault(Temporary):
    """The engine gave no answer that can be used. `status` is its HTTP status; 0 where there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def _address(value: str) -> str:
    if value.startswith("unix:///") and len(value) > len("unix:///") and "\0" not in value:
        return value
    try:
        url = URL(value)
        if url.scheme == "tcp" and url.host and url.explicit_port and url.path in ("", "/") and not url.user:
            return value
    except ValueError:
        pass
    raise ValueError("this is no address of an engine: write unix:///var/run/docker.sock or tcp://host:2376")


EngineAddress: TypeAlias = Annotated[str, AfterValidator(_address)]
"""Where an engine listens: `unix:///path` or `tcp://host:port`."""


class EngineTls(Model):
    """TLS to an engine that listens on TCP: without it, the connection is neither private nor trusted."""

    ca_file: Path
    """The certificates that the engine's is checked against, as a PEM file."""
    cert_file: Path | None = None
    """Our own certificate, where the engine wants one (`--tlsverify`)."""
    key_file: Path | None = None
    """The key of our own certificate."""


class Engine:
    """One engine. An async context manager; leaving it closes every connection."""

    def __init__(self, address: str, tls: EngineTls | None = None) -> None:
        self._path = address.removeprefix("unix://") if address.startswith("unix://") else None
        self._tls = tls
        url = URL("http://docker") if self._path is not None else URL(address).with_scheme("https" if tls else "http")
        self._url = url.with_path("/")
        self.shown = self._path or address
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Raises EngineFault where the certificates cannot be read."""
        connector: aiohttp.BaseConnector
        if self._path is not None:
            connector = aiohttp.UnixConnector(self._path, limit=0)
        else:
            trust = await asyncio.to_thread(self._trust)
            connector = aiohttp.TCPConnector(limit=0, ssl=True if trust is None else trust)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN_S, sock_connect=CONNECT_WITHIN_S),
            headers={"User-Agent": f"rollbackd/{rollbackd.__version__}"},
            read_bufsize=CHUNK_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def _trust(self) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        try:
            context = ssl.create_default_context(cafile=str(self._tls.ca_file))
            if self._tls.cert_file is not None:
                context.load_cert_chain(self._tls.cert_file, self._tls.key_file)
        except (OSError, ssl.SSLError):
            raise EngineFault("the certificates or the key named under `tls` cannot be read") from None
        return context

    async def get(self, path: str, kind: type[T], params: Mapping[str, str] | None = None) -> T:
        """One answer, as that type. Raises EngineFault."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), self.stream(path, params) as answer:
                body = bytearray()
                async for chunk in answer.chunks():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise EngineFault(f"{self.shown}: the answer to {path} is larger than {MAX_ANSWER} bytes")
        except TimeoutError:
            raise EngineFault(f"{self.shown}: no answer within {ANSWER_WITHIN_S:g} s") from None
        try:
            return msgspec.json.decode(bytes(body), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise EngineFault(f"{self.shown}: the answer to {path} is not what an engine answers") from None

    async def moment(self) -> int:
        """The engine's own time, in whole Unix seconds. Raises EngineFault where it does not answer."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), self.stream("/_ping") as answer:
                return answer.moment
        except TimeoutError:
            raise EngineFault(f"{self.shown}: no answer within {ANSWER_WITHIN_S:g} s") from None

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[Answer]:
        """An answer of status 200 that is still to be read. Raises EngineFault."""
        if self._session is None:
            raise RuntimeError("ask inside `async with` only")
        try:
            async with self._session.get(self._url.with_path(path), params=params, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise await self._refused(answer, path)
                yield Answer(answer, self._explained)
        except (aiohttp.ClientError, OSError) as error:
            raise self._explained(error) from None

    async def _refused(self, answer: aiohttp.ClientResponse, path: str) -> EngineFault:
        said = (await answer.content.read(4096)).decode(errors="replace")
        try:
            said = str(msgspec.json.decode(said, type=dict[str, object]).get("message", ""))
        except (msgspec.DecodeError, RecursionError):
            said = answer.reason or ""
        said = "".join(sign if sign.isprintable() else " " for sign in said)[:300]
        cure = f"; a proxy before the engine must let GET {path} pass" if answer.status in (401, 403) else ""
        return EngineFault(f"{self.shown} answered {answer.status}: {said}{cure}", answer.status)

    def _explained(self, error: Exception) -> EngineFault:
        """What libraries say, in words that tell what to do."""
        cause = getattr(error, "os_error", error)
        number = cause.errno if isinstance(cause, OSError) else None
        if number in (errno.ENOENT, errno.ECONNREFUSED) and self._path is not None:
            return EngineFault(f"no engine listens on {self.shown}: is Docker running?")
        if number in (errno.EACCES, errno.EPERM) and self._path is not None:
            return EngineFault(
                f"{self.shown} may not be opened: add the user that rollbackd runs as to the group docker (which is as"
                " good as root), or let `host` name a proxy that lets pass what is needed"
            )
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
            return EngineFault(f"{self.shown}: the TLS handshake failed, see `tls`")
        if isinstance(error, TimeoutError):
            return EngineFault(f"{self.shown}: no connection within {CONNECT_WITHIN_S:g} s")
        if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionResetError):
            return EngineFault(f"{self.shown}: the engine closed the connection")
        if isinstance(cause, OSError) and cause.strerror:
            return EngineFault(f"{self.shown}: {cause.strerror}")
        return EngineFault(f"{self.shown} did not answer in HTTP ({type(error).__name__})")


class Answer:
    """An answer whose body is still to be read, if it ever ends."""

    def __init__(self, response: aiohttp.ClientResponse, explained: Callable[[Exception], EngineFault]) -> None:
        self._response, self._explained = response, explained

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def moment(self) -> int:
        """The engine's own time when it answered, in whole Unix seconds. Raises EngineFault where it does not tell."""
        try:
            return int(parsedate_to_datetime(self._response.headers.get("Date", "")).timestamp())
        except (ValueError, OverflowError):
            raise EngineFault("the engine's answer carries no `Date`") from None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces of at most CHUNK_BYTES, as they come. Raises EngineFault where it breaks off."""
        try:
            while data := await self._response.content.readany():
                for at in range(0, len(data), CHUNK_BYTES):
                    yield data[at : at + CHUNK_BYTES]
        except (aiohttp.ClientError, OSError) as error:
            raise self._explained(error) from None
