"""What the suite for notifiers needs: a receiver on this machine, and how to point each registered notifier at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from rollbackd import registry
from rollbackd.aiokit import Clock
from rollbackd.notify.base import Message, Notifier, NotifierContext

SECRET = "sesame-1c44e0"
SECRET_VARIABLE = "ROLLBACKD_TEST_TOKEN"
T0 = 1_763_898_248.25


@dataclass
class Receiver:
    """Keeps what arrives, and answers as it is told; an answer may be any status, `hang` or `hang up`."""

    url: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    mood: str = ""
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.read()))
        if self.mood == "hang":
            await asyncio.sleep(60)
        if self.mood == "hang up" and request.transport is not None:
            request.transport.abort()
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free loopback port."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Harness:
    """How one notifier is configured for a receiver's URL and a time limit, with every secret it takes.

    `key_of` finds a message's key in what arrived.
    """

    settings: Callable[[str, str], Mapping[str, object]]
    key_of: Callable[[Mapping[str, str], bytes], str]


def _webhook(url: str, timeout: str) -> Mapping[str, object]:
    secret = {"env": SECRET_VARIABLE}
    return {
        "url": f"{url}/{SECRET}",
        "bearer": secret,
        "hmac": secret,
        "headers": {"X-Token": secret},
        "timeout": timeout,
    }


def _posted_key(_headers: Mapping[str, str], body: bytes) -> str:
    return str(msgspec.json.decode(body, type=dict[str, object])["key"])


HARNESSES: Mapping[str, Harness] = {"webhook": Harness(settings=_webhook, key_of=_posted_key)}
"""A notifier without a line here fails the suite."""


def build(name: str, url: str, clock: Clock, timeout: str = "10s") -> Notifier:
    adapter = registry.load("notifier", name)
    config = adapter.config.model_validate(HARNESSES[name].settings(url, timeout))
    notifier: Notifier = adapter.build(config, NotifierContext(name="ops", clock=clock))
    return notifier


def message(key: str = "checkout-2.0-rollback-1") -> Message:
    return Message(
        key=key,
        t=T0,
        topic="decision",
        service="checkout",
        severity="critical",
        title="checkout: 2.0 made it worse, rolling back to 1.0",
        text="Why: 12 % of requests fail\nMore: rollbackd show x",
        details={"to": msgspec.Raw(b'"1.0"')},
    )
