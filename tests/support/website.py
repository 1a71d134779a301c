"""The web application, really served on a free port of loopback, over a backend in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from prometheus_client import CollectorRegistry

from rollbackd import registry
from rollbackd.aiokit import Clock
from rollbackd.intake.base import Intake, IntakeContext, Scope, ServiceNames
from rollbackd.intake.desk import Desk
from rollbackd.web.app import build_app
from rollbackd.web.auth import Authenticator, Token
from rollbackd.web.body import Limits
from rollbackd.web.server import WebServer
from tests.support.backend import NOW, FakeBackend
from tests.support.clock import ManualClock

SECRETS: Mapping[str, Scope] = {
    "deploy-secret": "deploy",
    "ingest-secret": "ingest",
    "operate-secret": "operate",
    "read-secret": "read",
}
"""Tokens the site knows, each named after the one scope it has."""


def bearer(scope: Scope) -> dict[str, str]:
    """The header of the token with this scope alone."""
    return {"Authorization": f"Bearer {scope}-secret"}


TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"

NEEDED: Mapping[str, Mapping[str, object]] = {
    "cloudwatch": {"topics": [TOPIC]},
    "generic": {
        "hooks": {
            "checkout": {"items": "problems", "service": "host", "name": "what", "status": "state", "began": "since"}
        }
    },
    "generic_deployments": {
        "hooks": {"checkout": {"items": "runs", "service": "app", "version": "tag", "phase": "result"}}
    },
    "sentry": {"client_secret": {"env": "SENTRY_CLIENT_SECRET"}},
}
"""Settings of the intakes that have none by default."""


def build_intake(name: str, services: ServiceNames, settings: Mapping[str, object] | None = None) -> Intake:
    """A registered intake, with its default configuration but for `settings`."""
    adapter = registry.load("intake", name)
    wanted = NEEDED.get(name, {}) if settings is None else settings
    intake: Intake = adapter.build(adapter.config.model_validate(wanted), IntakeContext(services=services))
    return intake


def authenticator(anonymous: frozenset[Scope] = frozenset({"read"})) -> Authenticator:
    """Knows SECRETS."""
    tokens = [Token(f"the-{scope}-token", str(secret).strip, frozenset({scope})) for secret, scope in SECRETS.items()]
    return Authenticator(tokens, anonymous)


class Site:
    """A served application and a client of it."""

    def __init__(self, backend: FakeBackend, server: WebServer, client: aiohttp.ClientSession) -> None:
        self.backend, self.server, self.client = backend, server, client

    @property
    def url(self) -> str:
        return self.server.url


@asynccontextmanager
async def served(
    backend: FakeBackend | None = None,
    *,
    auth: Authenticator | None = None,
    limits: Limits | None = None,
    allowed_hosts: frozenset[str] = frozenset(),
    clock: Clock | None = None,
    metrics: CollectorRegistry | None = None,
    intakes: Mapping[str, Intake] | None = None,
    deliveries_per_second: float = 0.0,
) -> AsyncIterator[Site]:
    """Serve with every registered intake, unless others are given."""
    behind = backend or FakeBackend()
    if intakes is None:
        intakes = {name: build_intake(name, behind) for name in registry.names("intake")}
    desk = Desk(intakes)
    app = build_app(
        behind,
        desk,
        auth or authenticator(),
        metrics or CollectorRegistry(),
        clock=clock or ManualClock(NOW),
        limits=limits,
        allowed_hosts=lambda: allowed_hosts,
        deliveries_per_second=lambda: deliveries_per_second,
    )
    server = WebServer(app, "127.0.0.1", 0, grace_s=5.0)
    await server.start()
    try:
        async with aiohttp.ClientSession(server.url) as client:
            yield Site(behind, server, client)
    finally:
        await server.stop()
        desk.close()
