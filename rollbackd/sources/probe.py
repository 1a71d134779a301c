"""Source `probe`: black-box checks of a service over HTTP, TCP, gRPC or DNS."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping
from contextlib import aclosing
from types import ModuleType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from yarl import URL

from rollbackd import extras
from rollbackd.adapter import Adapter
from rollbackd.errors import ConfigError
from rollbackd.fields import Duration
from rollbackd.model import Probe as ProbeEvent
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.http import Answer, BadAnswer, HttpClient, HttpOptions, Unreachable, masked, refusal
from rollbackd.sources.schedule import Schedule

MAX_BODY_BYTES = 64 * 1024
"""How much of an answer `body` is looked for in."""

MAX_GRPC_SERVICE = 128

STALL_S = 1.0
"""A check that overran its time limit by more than this was held up on our side, and says nothing."""


OPTIONAL: Mapping[str, tuple[str, str]] = {
    "grpc": ("rollbackd.sources.probe_grpc", "probe-grpc"),
    "grpcs": ("rollbackd.sources.probe_grpc", "probe-grpc"),
    "dns": ("rollbackd.sources.probe_dns", "probe-dns"),
}
"""Schemes whose check needs a package of an extra: its module, and the extra."""

_CALLED = {"tcp": "a TCP", "grpc": "a gRPC", "grpcs": "a gRPC", "dns": "a DNS", "http": "an HTTP", "https": "an HTTP"}
_HTTP_ONLY = frozenset({"headers", "bearer", "basic", "tls", "method", "expect_status", "body"})


def _probe_url(value: str) -> str:
    try:
        url = URL(value)
    except ValueError:
        url = URL()
    with_port = url.scheme in ("tcp", "grpc", "grpcs") and url.port is not None
    fits = bool(url.host) and (url.scheme in ("http", "https") or with_port)
    if not fits and not (url.scheme == "dns" and len(url.path) > 1):
        raise ValueError(
            "this is no URL that can be probed: write http://host:port/path, tcp://host:port, "
            "grpc://host:port/service or dns://server/name?type=A"
        )
    if url.scheme in OPTIONAL:
        _fits_its_module(url)
    return value


def _fits_its_module(url: URL) -> None:
    try:
        module = _optional(url.scheme)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if url.scheme == "dns":
        if set(url.query) - {"type"}:
            raise ValueError("a DNS probe's URL has no parameter but `type`")
        fault: str | None = module.fault(url.path.strip("/"), url.query.get("type", "A"))
        if fault is not None:
            raise ValueError(fault)
    elif len(url.raw_path) > MAX_GRPC_SERVICE:
        raise ValueError(f"the name of a gRPC service has at most {MAX_GRPC_SERVICE - 1} characters")


def _is_address(host: str) -> bool:
    """Whether it is one without a name in it; the interface behind `%` is a name, which may be gone."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _optional(scheme: str) -> ModuleType:
    module, extra = OPTIONAL[scheme]
    return extras.load(module, f"{_CALLED[scheme]} probe", extra)


def _status(value: str | int) -> str | int:
    if isinstance(value, str) and not re.fullmatch(r"[1-5]xx", value):
        raise ValueError(f"`{value}` is no status: write 200 or 2xx")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value.encode())
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from None
    return value


Status = Annotated[Annotated[int, Field(ge=100, le=599)] | str, AfterValidator(_status)]


class ProbeConfig(HttpOptions):
    """A check made from outside, again and again."""

    url: Annotated[str, AfterValidator(_probe_url)] = Field(repr=False)
    """What is checked: `http://...`, `https://...`, `tcp://host:port` for a connection alone, `grpc://host:port/service`
    or `grpcs://...` for gRPC's health service, `dns://server:port/name?type=A`, or `dns:///name` by our resolvers."""
    interval: Annotated[Duration, Field(ge=0.05)] = 10.0
    """How often."""
    timeout: Annotated[Duration, Field(gt=0)] | None = None
    """How long the service may take; left out, the interval, but at most 10s."""
    method: Literal["GET", "HEAD"] = "GET"
    """The HTTP method."""
    expect_status: Annotated[tuple[Status, ...], Field(min_length=1)] = ("2xx", "3xx")
    """HTTP statuses that mean up: numbers or classes such as `2xx`. Redirects are not followed."""
    body: Annotated[str, AfterValidator(_pattern)] | None = None
    """A regular expression to be found in the first 64 KiB of the answer."""
    answers: tuple[str, ...] | None = None
    """What a DNS name must have, no more and no less, in any order; left out, anything of the type."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.body is not None and self.method == "HEAD":
            raise ValueError("`body` wants an answer with a body: use `method: GET`")
        scheme = URL(self.url).scheme
        others = {"answers"} if scheme != "dns" else set()
        if scheme not in ("http", "https"):
            others |= _HTTP_ONLY - ({"tls"} if scheme == "grpcs" else set())
        if others := others & self.model_fields_set:
            raise ValueError(f"{_CALLED[scheme]} probe has no {', '.join(f'`{name}`' for name in sorted(others))}")
        return self


class Probe:
    """Checks on a fixed rhythm and emits the outcome of each check.

    A refused connection, a time-out, an untrusted certificate or a wrong answer are evidence that the service is down.
    A host that cannot be resolved, a credential that cannot be read, a machine of ours without descriptors, ports or a
    route, and a server that was never set up to be asked are not: then the source is down, and nothing is said of the
    service.
    """

    def __init__(self, config: ProbeConfig, context: SourceContext) -> None:
        self._config, self._service, self._clock = config, context.service, context.clock
        self._commons = context.commons
        self._url = URL(config.url)
        self._timeout = config.timeout or min(config.interval, 10.0)
        self._body = re.compile(config.body.encode()) if config.body is not None else None

    async def run(self, sink: Sink) -> None:
        schedule = Schedule(self._clock, self._config.interval, self._commons)
        async with HttpClient(self._config.url, self._config, self._timeout, keep_alive=False) as http:
            while True:
                await schedule.tick()
                try:
                    address = await self._resolve()
                    began = self._clock.monotonic()
                    up = await self._check(http, address)
                except (Unreachable, ConfigError) as error:
                    sink.down(http.scrubbed(str(error)))
                    continue
                duration = self._clock.monotonic() - began
                if not up and duration > self._timeout + STALL_S:
                    sink.down("this process was held up while it checked, so the check says nothing")
                    continue
                sink.up()
                await sink.emit(ProbeEvent(t=self._clock.now(), service=self._service, up=up, duration=duration))

    async def _resolve(self) -> str | None:
        """The host's address, looked up apart from the check: a resolver that hangs is not a service that is down."""
        if not self._url.host:
            return None
        if _is_address(self._url.host):
            return self._url.host  # a look-up would wait for a thread, and may wait long on a busy machine
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                found = await loop.getaddrinfo(self._url.host, self._url.port, type=socket.SOCK_STREAM)
            return str(found[0][4][0])
        except TimeoutError:
            message = f"the host name of {masked(self._url)} was not resolved within {self._timeout:g} s"
            raise Unreachable(message, own_fault=True) from None
        except socket.gaierror:
            raise Unreachable(f"the host name of {masked(self._url)} cannot be resolved", own_fault=True) from None

    async def _check(self, http: HttpClient, address: str | None) -> bool:
        """Whether the service is up. Raises Unreachable and ConfigError where we cannot tell."""
        try:
            if self._url.scheme in OPTIONAL:
                return await self._by_module(address)
            return await (self._tcp() if self._url.scheme == "tcp" else self._http(http))
        except BadAnswer:
            return False
        except Unreachable as error:
            if error.own_fault:
                raise
            return False

    async def _by_module(self, address: str | None) -> bool:
        module, url = _optional(self._url.scheme), self._url
        try:
            async with asyncio.timeout(self._timeout):
                if url.scheme == "dns":
                    return bool(await module.check(url, address, self._config.answers))
                return bool(await module.check(url, self._config.tls))
        except TimeoutError:
            if address is None:
                raise Unreachable(
                    f"{self._config.url}: no resolver of this machine answers in time", own_fault=True
                ) from None
            return False

    async def _http(self, http: HttpClient) -> bool:
        async with http.ask(self._config.method, "*/*", follow=False) as answer:
            if not {answer.status, f"{answer.status // 100}xx"} & set(self._config.expect_status):
                return False
            return self._body is None or self._body.search(await _beginning(answer)) is not None

    async def _tcp(self) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                _, writer = await asyncio.open_connection(self._url.host, self._url.port)
        except TimeoutError:
            return False
        except OSError as error:
            raise refusal(masked(self._url), error) from None
        writer.transport.abort()
        return True


async def _beginning(answer: Answer) -> bytes:
    body = b""
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) >= MAX_BODY_BYTES:
                break
    return body[:MAX_BODY_BYTES]


def build(config: ProbeConfig, context: SourceContext) -> Source:
    """Make the source; nothing is asked before it runs."""
    return Probe(config, context)


ADAPTER = Adapter(config=ProbeConfig, build=build, shorthand="url")
