"""Puts the web application together: one table of routes, each guarded in the same way, and one shape of errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from rollbackd.aiokit import Clock
from rollbackd.intake.desk import Desk
from rollbackd.web.auth import UNVERIFIED, Authenticator, Identity
from rollbackd.web.backend import Backend
from rollbackd.web.body import Bodies, Limits
from rollbackd.web.errors import HttpError, error_response
from rollbackd.web.meter import Meter
from rollbackd.web.openapi import document
from rollbackd.web.origin import HostPolicy
from rollbackd.web.page import Page
from rollbackd.web.rate import RateLimit
from rollbackd.web.routes import Route, check_query
from rollbackd.web.routes_api import Api
from rollbackd.web.routes_intake import IntakeRoutes
from rollbackd.web.routes_self import SelfRoutes

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.web")

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer that does not set its own."""


def build_app(
    backend: Backend,
    desk: Desk,
    auth: Authenticator,
    registry: CollectorRegistry,
    *,
    clock: Clock,
    limits: Limits | None = None,
    allowed_hosts: Callable[[], frozenset[str]] = frozenset,
    deliveries_per_second: Callable[[], float] = float,
    meter: Meter | None = None,
) -> web.Application:
    """The application; serve it with `rollbackd.web.server.WebServer`, which leaves decompression to it.

    The intakes of the desk are served at the paths they have now; `allowed_hosts` tells, at each request, the names we
    go by beside localhost and addresses, and `deliveries_per_second` how often one credential may deliver (0: as often
    as it likes). `meter` is one on this registry that others count on too.
    """
    limits, meter = limits or Limits(), meter or Meter(registry)
    bodies, rate = Bodies(limits), RateLimit(deliveries_per_second, clock.monotonic)
    guard = _Guard(auth, HostPolicy(allowed_hosts))
    routes: list[Route] = []
    itself = SelfRoutes(backend, registry, Page(), lambda: document(routes, auth.anonymous))
    routes += itself.routes()
    routes += Api(backend, bodies).routes()
    routes += IntakeRoutes(backend, desk, bodies, limits, auth, rate, clock, meter).routes()

    app = web.Application(middlewares=[_observer(meter, clock)])
    app.on_response_prepare.append(_add_headers)
    for route in routes:
        app.router.add_route(route.method, route.path, guard.around(route))
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, guard.around(route))
    return app


class _Guard:
    """Asks, before a handler runs, who is there and whether they may."""

    def __init__(self, auth: Authenticator, hosts: HostPolicy) -> None:
        self._auth, self._hosts = auth, hosts

    def around(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if route.method != "GET":
                self._hosts.check_origin(request)
            identity = self._admitted(route, request)
            check_query(route, request)
            return await route.handler(request, identity)

        return handle

    def _admitted(self, route: Route, request: web.Request) -> Identity:
        if route.scope is None:
            return self._perhaps(request)
        if route.signed is not None and "Authorization" not in request.headers and route.signed(request):
            return UNVERIFIED
        identity = self._identify(request)
        self._auth.permit(identity, route.scope)
        return identity

    def _identify(self, request: web.Request) -> Identity:
        identity = self._auth.identify(request.headers.get("Authorization"), request.remote or "local")
        if identity.anonymous:
            self._hosts.check_host(request)
        return identity

    def _perhaps(self, request: web.Request) -> Identity:
        """Who it is where everybody may pass; nobody in particular if the credential is no good."""
        try:
            return self._identify(request)
        except HttpError:
            return Identity("anonymous", frozenset(), anonymous=True)


def _observer(meter: Meter, clock: Clock) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def observe(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began = clock.monotonic()
        try:
            response = await handler(request)
        except Exception as error:
            response = error_response(error, request.method, request.path)
        resource = request.match_info.route.resource
        meter.request(resource.canonical if resource is not None else None, request.method, response.status)
        log.debug(
            "http_request",
            method=request.method,
            path=request.path,
            status=response.status,
            seconds=round(clock.monotonic() - began, 6),
            peer=request.remote,
        )
        return response

    return observe


async def _add_headers(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers["Server"] = "rollbackd"
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
