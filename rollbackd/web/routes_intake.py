"""Serves every intake in the same way: who is it, is there room, read the body, understand it, and answer once it is
durable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from http import HTTPStatus
from typing import Literal

from aiohttp import web

from rollbackd.aiokit import Clock
from rollbackd.errors import Temporary
from rollbackd.intake.base import Delivery, Intake, Rejected, Reply, Told
from rollbackd.intake.desk import Desk
from rollbackd.web.auth import UNVERIFIED, Authenticator, Identity
from rollbackd.web.backend import Backend
from rollbackd.web.body import Bodies, BulkBodies, Limits
from rollbackd.web.errors import RETRY_AFTER_S, HttpError
from rollbackd.web.meter import Meter
from rollbackd.web.rate import RateLimit
from rollbackd.web.routes import Handler, Route, answer
from rollbackd.web.views import IntakeView

_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


class IntakeRoutes:
    """Handlers of deliveries."""

    def __init__(
        self,
        backend: Backend,
        desk: Desk,
        bodies: Bodies,
        limits: Limits,
        auth: Authenticator,
        rate: RateLimit,
        clock: Clock,
        meter: Meter,
    ) -> None:
        self._backend, self._desk, self._auth, self._clock, self._meter = backend, desk, auth, clock, meter
        self._bodies, self._bulk = bodies, BulkBodies(limits)
        self._rate = rate

    def routes(self) -> list[Route]:
        """One route for each method of an intake."""
        return [
            self._route(name, intake, method)
            for name, intake in self._desk.intakes.items()
            for method in intake.methods
        ]

    def _route(self, name: str, intake: Intake, method: Literal["POST", "PUT"]) -> Route:
        signature = intake.signature
        return Route(
            method=method,
            path=intake.path,
            name=f"intake.{name}" if method == "POST" else f"intake.{name}.{method.lower()}",
            summary=f"Deliver to the intake `{name}`. Facts are on disk before the answer is sent.",
            scope=intake.scope,
            handler=self._handler(name, intake),
            answer=IntakeView if intake.answer_types == {"application/json"} and intake.success == 200 else None,
            answer_types=intake.answer_types,
            status=intake.success,
            body=intake.body,
            body_types=intake.content_types,
            bodies=intake.bodies,
            needed_headers=intake.needed_headers,
            query=None,
            signed=(lambda request: signature.presented(_headers(request))) if signature is not None else None,
            signed_headers=tuple(signature.headers) if signature is not None else (),
            errors=frozenset({404, 422, 429, 503}),
        )

    def _handler(self, name: str, intake: Intake) -> Handler:
        async def deliver(request: web.Request, identity: Identity) -> web.Response:
            try:
                return await self._deliver(name, intake, request, identity)
            except Temporary as error:
                if intake.busy == 503:
                    raise
                wait = math.ceil(RETRY_AFTER_S if error.retry_after is None else error.retry_after)
                raise HttpError(429, "busy", str(error), [("Retry-After", str(max(wait, 1)))]) from error

        return deliver

    async def _deliver(self, name: str, intake: Intake, request: web.Request, identity: Identity) -> web.Response:
        peer = request.remote or "local"
        known = not identity.anonymous and identity is not UNVERIFIED
        self._rate.take(f"token {identity.name}" if known else f"peer {peer}")
        if intake.bulk:
            self._backend.ready_for(name)
        with self._bulk.held(request, intake.max_bytes) if intake.bulk else nullcontext(_held) as hold:
            delivery = await self._received(intake, request)
            hold(delivery.body)
            actor = identity.name if identity is not UNVERIFIED else await self._verified(intake, delivery, peer)
            reading = await self._desk.read(name, delivery, lambda: self._ready(name, intake))
        view = await self._backend.deliver(name, reading, delivery.received_at, actor)
        self._meter.delivery(name, view.accepted, view.duplicates, view.dropped)
        newest = reading.observed[-1].t if reading.observed else reading.newest
        if newest is not None:
            self._meter.behind(name, delivery.received_at - newest)
        reply = intake.reply(delivery, reading, Told(accepted=view.accepted, duplicates=view.duplicates))
        return answer(view) if reply is None else _response(reply)

    def _ready(self, name: str, intake: Intake) -> None:
        if intake.bulk:
            self._backend.ready_for(name)

    async def _received(self, intake: Intake, request: web.Request) -> Delivery:
        bodies = self._bulk if intake.bulk else self._bodies
        return Delivery(
            body=await bodies.read(request, intake.max_bytes, intake.content_types, intake.decoders),
            headers=_headers(request),
            query=dict(request.query),
            received_at=self._clock.now(),
            params=dict(request.match_info),
        )

    async def _verified(self, intake: Intake, delivery: Delivery, peer: str) -> str:
        """Who sent it, by a credential of the sender's own form. Raises what the signature raises."""
        assert intake.signature is not None  # noqa: S101  the route let pass only what presents one
        try:
            return await intake.signature.verify(delivery)
        except Rejected:
            self._auth.refused(peer)
            raise


def _held(_body: bytes) -> None:
    """A body that is no telemetry is held whatever else is."""


def _headers(request: web.Request) -> Mapping[str, str]:
    return {key.lower(): value for key, value in request.headers.items() if key.lower() not in _SECRET_HEADERS}


def _response(reply: Reply) -> web.Response:
    kind = reply.content_type if reply.status != HTTPStatus.NO_CONTENT else None
    return web.Response(status=reply.status, body=reply.body or None, content_type=kind, headers=reply.headers)
