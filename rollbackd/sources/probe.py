"""Source `probe`: black-box checks of a service over HTTP or TCP."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import aclosing
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from yarl import URL

from rollbackd.adapter import Adapter
from rollbackd.errors import ConfigError
from rollbackd.fields import Duration
from rollbackd.model import Probe as ProbeEvent
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.http import Answer, BadAnswer, HttpClient, HttpOptions, Unreachable, masked, refusal
from rollbackd.sources.schedule import Schedule

MAX_BODY_BYTES = 64 * 1024
"""How much of an answer `body` is looked for in."""

STALL_S = 1.0
"""A check that overran its time limit by more than this was held up on our side, and says nothing."""


def _probe_url(value: str) -> str:
    try:
        url = URL(value)
        known = url.scheme in ("http", "https") or (url.scheme == "tcp" and url.port is not None)
    except ValueError:
        known = False
        url = URL()
    if not known or not url.host:
        raise ValueError("this is no URL that can be probed: write http://host:port/path or tcp://host:port")
    return value


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
    """What is checked: `http://host:port/path`, `https://...`, or `tcp://host:port` for a connection alone."""
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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.body is not None and self.method == "HEAD":
            raise ValueError("`body` wants an answer with a body: use `method: GET`")
        http_only = {"headers", "bearer", "basic", "tls", "method", "expect_status", "body"} & self.model_fields_set
        if URL(self.url).scheme == "tcp" and http_only:
            raise ValueError(f"a TCP probe has no {', '.join(f'`{name}`' for name in sorted(http_only))}")
        return self


class Probe:
    """Checks on a fixed rhythm and emits the outcome of each check.

    A refused connection, a time-out, an untrusted certificate or a wrong answer are evidence that the service is down.
    A name that cannot be resolved, a credential that cannot be read, and a machine of ours without descriptors, ports
    or a route are not: then the source is down, and nothing is said of the service.
    """

    def __init__(self, config: ProbeConfig, context: SourceContext) -> None:
        self._config, self._service, self._clock = config, context.service, context.clock
        self._url = URL(config.url)
        self._timeout = config.timeout or min(config.interval, 10.0)
        self._body = re.compile(config.body.encode()) if config.body is not None else None

    async def run(self, sink: Sink) -> None:
        schedule = Schedule(self._clock, self._config.interval)
        async with HttpClient(self._config.url, self._config, self._timeout, keep_alive=False) as http:
            while True:
                await schedule.tick()
                try:
                    await self._resolve()
                    began = self._clock.monotonic()
                    up = await self._check(http)
                except (Unreachable, ConfigError) as error:
                    sink.down(http.scrubbed(str(error)))
                    continue
                duration = self._clock.monotonic() - began
                if not up and duration > self._timeout + STALL_S:
                    sink.down("this process was held up while it checked, so the check says nothing")
                    continue
                sink.up()
                await sink.emit(ProbeEvent(t=self._clock.now(), service=self._service, up=up, duration=duration))

    async def _resolve(self) -> None:
        """See that the name resolves, apart from the check: a resolver that hangs is not a service that is down."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                await loop.getaddrinfo(self._url.host, self._url.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, TimeoutError):
            raise Unreachable(f"the host name of {masked(self._url)} cannot be resolved", own_fault=True) from None

    async def _check(self, http: HttpClient) -> bool:
        """Whether the service is up. Raises Unreachable and ConfigError where we cannot tell."""
        try:
            return await (self._tcp() if self._url.scheme == "tcp" else self._http(http))
        except BadAnswer:
            return False
        except Unreachable as error:
            if error.own_fault:
                raise
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
