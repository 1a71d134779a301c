"""What a route is: one row of the table that the application serves and that the API's document is made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec
from aiohttp import web

from rollbackd.intake.base import Scope
from rollbackd.intake.reading import did_you_mean
from rollbackd.web.auth import Identity
from rollbackd.web.body import JSON
from rollbackd.web.errors import HttpError

Handler: TypeAlias = Callable[[web.Request, Identity], Awaitable[web.Response]]

MOST_LISTED = 1000
"""The largest `limit` of a list."""


@dataclass(frozen=True)
class Query:
    """A parameter after the question mark, always optional."""

    name: str
    kind: Literal["string", "limit"]
    summary: str
    default: int | None = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method at one path, and all that the API's document says of it.

    `scope` None lets everybody in. `answer` is the type of a JSON answer, or None where `answer_types` are not JSON.
    `body` is the type of a request's body, and `bodies` of those media types that hold another; `needed_headers` are
    request headers that must be there, with what they say. `signed` tells of a request whether it carries a credential
    of its sender's own form, in `signed_headers`: the handler, which reads the body, verifies it. `errors` are the
    statuses of its own beside those that every route of its kind has; `shapes` gives the type of an error's body where
    it is more than an ErrorView. `query` None means any parameters.
    """

    method: Literal["GET", "POST", "PUT"]
    path: str
    name: str
    summary: str
    scope: Scope | None
    handler: Handler
    answer: object = None
    answer_types: frozenset[str] = JSON
    status: int = 200
    body: object = None
    body_types: frozenset[str] = JSON
    bodies: Mapping[str, object] = field(default_factory=dict)
    needed_headers: Mapping[str, str] = field(default_factory=dict)
    query: tuple[Query, ...] | None = ()
    signed: Callable[[web.Request], bool] | None = None
    signed_headers: tuple[str, ...] = ()
    errors: frozenset[int] = frozenset()
    shapes: Mapping[int, object] = field(default_factory=dict)


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def check_query(route: Route, request: web.Request) -> None:
    """Refuse (HttpError 400) parameters that the route does not know: a misspelt filter must not show everything."""
    if route.query is None:
        return
    known = [query.name for query in route.query]
    for name in request.query:
        if name not in known:
            cure = did_you_mean(name, known) or (f"; known: {', '.join(known)}" if known else "; there are none here")
            raise HttpError(400, "unknown_parameter", f"unknown parameter `{name[:100]}`{cure}")
        if len(request.query.getall(name)) > 1:
            raise HttpError(400, "repeated_parameter", f"parameter `{name}` may be given once")


def limit_of(request: web.Request, default: int) -> int:
    """The `limit` parameter. Raises HttpError 400 for what is no number between 1 and MOST_LISTED."""
    text = request.query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MOST_LISTED):
        raise HttpError(400, "bad_parameter", f"`limit` must be a number from 1 to {MOST_LISTED}")
    return int(text)
