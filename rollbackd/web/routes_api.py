"""Our own API: how things stand, what was decided and done, and the operator's commands."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from rollbackd.ledger.base import AuditEntry
from rollbackd.web.auth import Identity
from rollbackd.web.backend import Backend
from rollbackd.web.body import Bodies
from rollbackd.web.routes import Query, Route, answer, limit_of
from rollbackd.web.views import (
    DecisionView,
    DeploymentView,
    PauseRequest,
    ResumeRequest,
    RollbackRequest,
    RollbackView,
    ServiceView,
    StatusView,
)

_LISTED = 50
_AUDITED = 100
_SERVICE = Query("service", "string", "Only what concerns this service.")
_LIMIT = Query("limit", "limit", "How many, newest first.", _LISTED)
_STORE = frozenset({503})


class Api:
    """Handlers of the API; each asks the backend and gives its answer as it is."""

    def __init__(self, backend: Backend, bodies: Bodies) -> None:
        self._backend = backend
        self._bodies = bodies

    def routes(self) -> list[Route]:
        """The table."""
        return [*self._standing(), *self._history(), *self._commands()]

    def _standing(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path="/api/v1/status",
                name="status",
                summary="The daemon and everything it watches.",
                scope="read",
                handler=self.status,
                answer=StatusView,
            ),
            Route(
                method="GET",
                path="/api/v1/services",
                name="services",
                summary="All services, as things stand.",
                scope="read",
                handler=self.services,
                answer=list[ServiceView],
            ),
            Route(
                method="GET",
                path="/api/v1/services/{service}",
                name="service",
                summary="One service, as things stand.",
                scope="read",
                handler=self.service,
                answer=ServiceView,
                errors=frozenset({404}),
            ),
        ]

    def _history(self) -> list[Route]:
        return [
            Route(
                method="GET",
                path="/api/v1/deployments",
                name="deployments",
                summary="Watched deployments, newest first.",
                scope="read",
                handler=self.deployments,
                answer=list[DeploymentView],
                query=(_SERVICE, _LIMIT),
                errors=_STORE,
            ),
            Route(
                method="GET",
                path="/api/v1/decisions",
                name="decisions",
                summary="Decisions and what they rest on, newest first.",
                scope="read",
                handler=self.decisions,
                answer=list[DecisionView],
                query=(_SERVICE, _LIMIT),
                errors=_STORE,
            ),
            Route(
                method="GET",
                path="/api/v1/decisions/{id}",
                name="decision",
                summary="One decision.",
                scope="read",
                handler=self.decision,
                answer=DecisionView,
                errors=_STORE | {404},
            ),
            Route(
                method="GET",
                path="/api/v1/rollbacks",
                name="rollbacks",
                summary="Rollbacks and their journals, newest first.",
                scope="read",
                handler=self.rollbacks,
                answer=list[RollbackView],
                query=(_SERVICE, _LIMIT),
                errors=_STORE,
            ),
            Route(
                method="GET",
                path="/api/v1/rollbacks/{id}",
                name="rollback",
                summary="One rollback and its journal.",
                scope="read",
                handler=self.rollback,
                answer=RollbackView,
                errors=_STORE | {404},
            ),
            Route(
                method="GET",
                path="/api/v1/audit",
                name="audit",
                summary="Who did what, newest first.",
                scope="read",
                handler=self.audit,
                answer=list[AuditEntry],
                query=(Query("limit", "limit", "How many, newest first.", _AUDITED),),
                errors=_STORE,
            ),
        ]

    def _commands(self) -> list[Route]:
        return [
            Route(
                method="POST",
                path="/api/v1/services/{service}/rollback",
                name="requestRollback",
                summary="Put a release back: the last known good one, unless `to` names another. "
                "The answer comes once the plan is journaled; the rollback itself then runs.",
                scope="operate",
                handler=self.request_rollback,
                answer=RollbackView,
                status=202,
                body=RollbackRequest,
                errors=_STORE | {404, 409},
            ),
            Route(
                method="POST",
                path="/api/v1/pause",
                name="pause",
                summary="Stop acting, for one service or for all; watching and deciding go on.",
                scope="operate",
                handler=self.pause,
                answer=StatusView,
                body=PauseRequest,
                errors=_STORE | {404},
            ),
            Route(
                method="POST",
                path="/api/v1/resume",
                name="resume",
                summary="Act again, for one service or for all.",
                scope="operate",
                handler=self.resume,
                answer=StatusView,
                body=ResumeRequest,
                errors=_STORE | {404},
            ),
        ]

    async def status(self, _request: web.Request, _identity: Identity) -> web.Response:
        return answer(self._backend.status())

    async def services(self, _request: web.Request, _identity: Identity) -> web.Response:
        return answer(self._backend.status().services)

    async def service(self, request: web.Request, _identity: Identity) -> web.Response:
        return answer(self._backend.service(request.match_info["service"]))

    async def deployments(self, request: web.Request, _identity: Identity) -> web.Response:
        return answer(await self._backend.deployments(request.query.get("service"), limit_of(request, _LISTED)))

    async def decisions(self, request: web.Request, _identity: Identity) -> web.Response:
        return answer(await self._backend.decisions(request.query.get("service"), limit_of(request, _LISTED)))

    async def decision(self, request: web.Request, _identity: Identity) -> web.Response:
        return answer(await self._backend.decision(request.match_info["id"]))

    async def rollbacks(self, request: web.Request, _identity: Identity) -> web.Response:
        return answer(await self._backend.rollbacks(request.query.get("service"), limit_of(request, _LISTED)))

    async def rollback(self, request: web.Request, _identity: Identity) -> web.Response:
        return answer(await self._backend.rollback(request.match_info["id"]))

    async def audit(self, request: web.Request, _identity: Identity) -> web.Response:
        return answer(await self._backend.audit_trail(limit_of(request, _AUDITED)))

    async def request_rollback(self, request: web.Request, identity: Identity) -> web.Response:
        wish = await self._bodies.read_json(request, RollbackRequest)
        service = request.match_info["service"]
        planned = await self._backend.request_rollback(service, wish.to, wish.reason, identity.name)
        return answer(planned, 202, {"Location": f"/api/v1/rollbacks/{quote(planned.id, safe='')}"})

    async def pause(self, request: web.Request, identity: Identity) -> web.Response:
        wish = await self._bodies.read_json(request, PauseRequest)
        await self._backend.pause(wish.service, wish.reason, identity.name)
        return answer(self._backend.status())

    async def resume(self, request: web.Request, identity: Identity) -> web.Response:
        wish = await self._bodies.read_json(request, ResumeRequest)
        await self._backend.resume(wish.service, identity.name)
        return answer(self._backend.status())
