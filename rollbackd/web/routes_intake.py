"""Serves every intake in the same way: read the body, let the intake understand it, and answer once it is durable."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from rollbackd.aiokit import Clock
from rollbackd.intake.base import Delivery, Intake
from rollbackd.web.auth import Identity
from rollbackd.web.backend import Backend
from rollbackd.web.body import Bodies
from rollbackd.web.meter import Meter
from rollbackd.web.routes import Handler, Route, answer
from rollbackd.web.views import IntakeView

_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


class IntakeRoutes:
    """Handlers of deliveries. Each request looks its intake up by name, so a reload may put another in its place."""

    def __init__(
        self, backend: Backend, intakes: Mapping[str, Intake], bodies: Bodies, clock: Clock, meter: Meter
    ) -> None:
        self._backend, self._intakes, self._bodies = backend, intakes, bodies
        self._clock, self._meter = clock, meter

    def routes(self) -> list[Route]:
        """One route an intake."""
        return [
            Route(
                method="POST",
                path=intake.path,
                name=f"intake.{name}",
                summary=f"Deliver to the intake `{name}`. The events are on disk before the answer is sent.",
                scope=intake.scope,
                handler=self._handler(name),
                answer=IntakeView,
                body=intake.body,
                body_types=intake.content_types,
                query=None,
                errors=frozenset({404, 422, 503}),
            )
            for name, intake in self._intakes.items()
        ]

    def _handler(self, name: str) -> Handler:
        async def deliver(request: web.Request, identity: Identity) -> web.Response:
            intake = self._intakes[name]
            body = await self._bodies.read(request, intake.max_bytes, intake.content_types)
            delivery = Delivery(
                body=body,
                headers={
                    key.lower(): value for key, value in request.headers.items() if key.lower() not in _SECRET_HEADERS
                },
                query=dict(request.query),
                received_at=self._clock.now(),
            )
            reading = intake.read(delivery)
            view = await self._backend.deliver(name, reading, delivery.received_at, identity.name)
            self._meter.delivery(name, view.accepted, view.duplicates, view.dropped)
            return answer(view)

        return deliver
