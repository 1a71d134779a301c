"""The API's OpenAPI 3.1 document, made from the table of routes and the types of their bodies and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

import msgspec

from rollbackd import __version__
from rollbackd.web.routes import MOST_LISTED, Query, Route
from rollbackd.web.views import ErrorView

_DESCRIPTION = """\
Times are Unix seconds, durations seconds. Fields may be added within v1, never changed or taken away.
Every answer that is not a success is an ErrorView. The scope that an operation needs stands with its security
requirement; scopes that the operator grants to everybody (`read`, unless configured otherwise) need no credential."""


def document(routes: Sequence[Route], anonymous: Iterable[str]) -> dict[str, object]:
    """The document of these routes; `anonymous` are the scopes that need no credential."""
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    found = _Schemas(types, schemas)
    free = frozenset(anonymous)
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, found, free)
    return {
        "openapi": "3.1.0",
        "info": {"title": "rollbackd", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The token as password, any user name."},
                **{
                    _scheme(name): {"type": "apiKey", "in": "header", "name": name}
                    for route in routes
                    for name in route.signed_headers[:1]
                },
            },
        },
    }


def statuses(route: Route) -> frozenset[int]:
    """Every status that the route can answer with."""
    found = {route.status, 500, *route.errors}
    if route.query is not None:
        found |= {400}
    if route.scope is not None:
        found |= {401, 403, 421, 429}
    if route.method == "POST":
        found |= {400, 403, 408, 413, 415, 503}
    return frozenset(found)


def _scheme(header: str) -> str:
    """The name of the security scheme of a credential in a header of its sender's own."""
    return f"header-{header}"


class _Schemas:
    """JSON Schemas by the type they describe; types need not be hashable."""

    def __init__(self, types: Sequence[object], schemas: Sequence[dict[str, object]]) -> None:
        self._pairs = list(zip(types, schemas, strict=True))

    def of(self, wanted: object) -> dict[str, object]:
        return next(schema for known, schema in self._pairs if known == wanted)


def _types(routes: Sequence[Route]) -> list[object]:
    found: list[object] = [ErrorView]
    for route in routes:
        for wanted in (route.answer, route.body, *route.shapes.values()):
            if wanted is not None and wanted not in found:
                found.append(wanted)
    return found


def _operation(route: Route, schemas: _Schemas, free: frozenset[str]) -> dict[str, object]:
    operation: dict[str, object] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {str(status): _response(route, status, schemas) for status in sorted(statuses(route))},
    }
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)]
    parameters += [_query_parameter(query) for query in route.query or ()]
    if parameters:
        operation["parameters"] = parameters
    if route.method == "POST":
        schema = schemas.of(route.body) if route.body is not None else {}
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": schema} for kind in route.body_types},
        }
    if route.scope is not None:
        anyone: list[dict[str, list[str]]] = [{}] if route.scope in free else []
        own = [{_scheme(name): list[str]() for name in route.signed_headers[:1]}] if route.signed_headers else []
        operation["security"] = [*anyone, {"bearer": [route.scope]}, {"basic": [route.scope]}, *own]
    return operation


def _response(route: Route, status: int, schemas: _Schemas) -> dict[str, object]:
    described: dict[str, object] = {"description": HTTPStatus(status).phrase}
    if status != route.status:
        shape = schemas.of(route.shapes.get(status, ErrorView))
        described["content"] = {"application/json": {"schema": shape}}
    elif status == HTTPStatus.NO_CONTENT:
        pass
    elif route.answer is not None:
        described["content"] = {"application/json": {"schema": schemas.of(route.answer)}}
    else:
        described["content"] = {kind: {"schema": {"type": "string"}} for kind in sorted(route.answer_types)}
    return described


def _path_parameter(name: str) -> dict[str, object]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameter(query: Query) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    if query.kind == "limit":
        schema = {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": query.default}
    return {"name": query.name, "in": "query", "required": False, "description": query.summary, "schema": schema}
