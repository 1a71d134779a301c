"""What the daemon says of itself: metrics, liveness, readiness, the API's document and the page."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from rollbackd.errors import Temporary
from rollbackd.web.auth import Identity
from rollbackd.web.backend import Backend
from rollbackd.web.page import Page
from rollbackd.web.routes import Route, answer
from rollbackd.web.views import DecisionView, HealthView, NotReadyView, RollbackView

_ON_PAGE = 10


class SelfRoutes:
    """Handlers of everything that is neither the API proper nor an intake. `document` makes the OpenAPI document."""

    def __init__(
        self, backend: Backend, registry: CollectorRegistry, page: Page, document: Callable[[], dict[str, object]]
    ) -> None:
        self._backend, self._registry, self._page, self._document = backend, registry, page, document

    def routes(self) -> list[Route]:
        """The table."""
        return [
            Route(
                method="GET",
                path="/api/v1/openapi.json",
                name="openapi",
                summary="This document.",
                scope="read",
                handler=self.openapi,
                answer=dict,
            ),
            Route(
                method="GET",
                path="/metrics",
                name="metrics",
                summary="The daemon's own metrics, in the Prometheus text format or OpenMetrics.",
                scope="read",
                handler=self.metrics,
                answer_types=frozenset({"text/plain", "application/openmetrics-text"}),
                query=None,
            ),
            Route(
                method="GET",
                path="/healthz",
                name="healthz",
                summary="Whether the daemon's loop turns.",
                scope=None,
                handler=self.healthz,
                answer=HealthView,
                query=None,
            ),
            Route(
                method="GET",
                path="/readyz",
                name="readyz",
                summary="Whether the daemon does its whole work; what hinders it is told to whoever may read.",
                scope=None,
                handler=self.readyz,
                answer=HealthView,
                query=None,
                errors=frozenset({503}),
                shapes={503: NotReadyView},
            ),
            Route(
                method="GET",
                path="/",
                name="page",
                summary="How things stand, as a page for people.",
                scope="read",
                handler=self.page,
                answer_types=frozenset({"text/html"}),
                query=None,
            ),
        ]

    async def openapi(self, _request: web.Request, _identity: Identity) -> web.Response:
        return answer(self._document())

    async def metrics(self, request: web.Request, _identity: Identity) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def healthz(self, _request: web.Request, _identity: Identity) -> web.Response:
        return answer(HealthView())

    async def readyz(self, _request: web.Request, identity: Identity) -> web.Response:
        problems = self._backend.problems()
        if not problems:
            return answer(HealthView())
        may_read = "read" in identity.scopes
        told = "; ".join(problems) if may_read else "a token with scope `read` is told why"
        view = NotReadyView(error="not_ready", message=f"not ready: {told}", problems=problems if may_read else ())
        return answer(view, 503)

    async def page(self, _request: web.Request, _identity: Identity) -> web.Response:
        status = self._backend.status()
        decisions: list[DecisionView] = []
        rollbacks: list[RollbackView] = []
        unreadable: str | None = None
        try:
            decisions = await self._backend.decisions(None, _ON_PAGE)
            rollbacks = await self._backend.rollbacks(None, _ON_PAGE)
        except Temporary as error:
            unreadable = str(error)
        return web.Response(
            text=self._page.render(status, decisions, rollbacks, unreadable),
            content_type="text/html",
            headers={"Content-Security-Policy": self._page.policy},
        )
