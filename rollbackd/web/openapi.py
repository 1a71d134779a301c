"""The API's OpenAPI 3.1 document, made from the table of routes and the types of their bodies and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TypeAlias

import msgspec

from rollbackd import __version__
from rollbackd.web.routes import MOST_LISTED, Query, Route
from rollbackd.web.views import ErrorView

_DESCRIPTION = """\
Times are Unix seconds, durations seconds. Fields may be added within v1, never changed or taken away.
Every answer that is not a success is an ErrorView. The scope that an operation needs stands with its security
requirement; scopes that the operator grants to everybody (`read`, unless configured otherwise) need no credential."""

_SIGNED = "A credential in the sender's own form: a signature of the body, or a secret."
_TEXTS = frozenset({"application/x-ndjson", "application/jsonl"})
_JsonObject: TypeAlias = dict[str, object]


def document(routes: Sequence[Route], anonymous: Iterable[str]) -> _JsonObject:
    """The document of these routes; `anonymous` are the scopes that need no credential."""
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    found = _Schemas(types, schemas)
    free = frozenset(anonymous)
    paths: dict[str, _JsonObject] = {}
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
                    _scheme(name): {"type": "apiKey", "in": "header", "name": name, "description": _SIGNED}
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
    if route.method != "GET":
        found |= {400, 403, 408, 413, 415, 503}
    return frozenset(found)


def _scheme(header: str) -> str:
    """The name of the security scheme of a credential in a header of its sender's own."""
    return f"header-{header}"


class _Schemas:
    """JSON Schemas by the type they describe; types need not be hashable."""

    def __init__(self, types: Sequence[object], schemas: Sequence[_JsonObject]) -> None:
        self._pairs = list(zip(types, schemas, strict=True))

    def of(self, wanted: object) -> _JsonObject:
        return next(schema for known, schema in self._pairs if known == wanted)


def _types(routes: Sequence[Route]) -> list[object]:
    found: list[object] = [ErrorView]
    for route in routes:
        for wanted in (route.answer, route.body, *route.bodies.values(), *route.shapes.values()):
            if wanted is not None and wanted not in found:
                found.append(wanted)
    return found


def _operation(route: Route, schemas: _Schemas, free: frozenset[str]) -> _JsonObject:
    operation: _JsonObject = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {str(status): _response(route, status, schemas) for status in sorted(statuses(route))},
    }
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)]
    parameters += [_query_parameter(query) for query in route.query or ()]
    parameters += [_header_parameter(name, says) for name, says in route.needed_headers.items()]
    if parameters:
        operation["parameters"] = parameters
    if route.method != "GET":
        content = {kind: {"schema": _body(route, kind, schemas)} for kind in sorted(route.body_types)}
        operation["requestBody"] = {"required": True, "content": content}
    if route.scope is not None:
        anyone: list[dict[str, list[str]]] = [{}] if route.scope in free else []
        own = [{_scheme(name): list[str]() for name in route.signed_headers[:1]}] if route.signed_headers else []
        operation["security"] = [*anyone, {"bearer": [route.scope]}, {"basic": [route.scope]}, *own]
    return operation


def _response(route: Route, status: int, schemas: _Schemas) -> _JsonObject:
    described: _JsonObject = {"description": HTTPStatus(status).phrase}
    if status != route.status:
        shape = schemas.of(route.shapes.get(status, ErrorView))
        described["content"] = {"application/json": {"schema": shape}}
    elif status == HTTPStatus.NO_CONTENT:
        pass
    elif route.answer is not None:
        described["content"] = {"application/json": {"schema": schemas.of(route.answer)}}
    else:
        described["content"] = {kind: {"schema": _untyped(kind)} for kind in sorted(route.answer_types)}
    headers = _headers(route, status)
    if headers:
        described["headers"] = headers
    return described


def _headers(route: Route, status: int) -> _JsonObject:
    """The headers of an answer that say something, and whether they are always there."""
    if status == HTTPStatus.ACCEPTED:
        return {"Location": _header("Where what was begun can be looked at.", {"type": "string"})}
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": _header("How to show a credential.", {"type": "string"}, always=not route.signed)}
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        encodings = _header("The encodings a body may have, where it had another.", {"type": "string"}, always=False)
        return {"Accept-Encoding": encodings}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE) and status not in route.shapes:
        return {"Retry-After": _header("Seconds to wait.", {"type": "integer", "minimum": 1})}
    return {}


def _header(says: str, schema: _JsonObject, *, always: bool = True) -> _JsonObject:
    return {"description": says, "required": always, "schema": schema}


def _body(route: Route, kind: str, schemas: _Schemas) -> _JsonObject:
    """What a request of this media type holds. JSON under another name is told as text that holds it."""
    wanted = route.bodies.get(kind, route.body)
    if wanted is None:
        return _untyped(kind)
    if _is_json(kind):
        return schemas.of(wanted)
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schemas.of(wanted)}


def _untyped(kind: str) -> _JsonObject:
    """What there is to say of a media type alone."""
    if _is_json(kind):
        return {"type": "object"}
    if kind.startswith("text/") or kind.endswith("-text") or kind in _TEXTS:
        return {"type": "string"}
    return {"type": "string", "format": "binary"}


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _path_parameter(name: str) -> _JsonObject:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _header_parameter(name: str, says: str) -> _JsonObject:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "header", "required": True, "description": says, "schema": schema}


def _query_parameter(query: Query) -> _JsonObject:
    schema: _JsonObject = {"type": "string"}
    if query.kind == "limit":
        schema = {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": query.default}
    return {"name": query.name, "in": "query", "required": False, "description": query.summary, "schema": schema}
