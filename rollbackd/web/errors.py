"""Every answer that is not a success: one JSON shape, a stable code, and a sentence that names the cure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import structlog
from aiohttp import web

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.intake.base import Rejected
from rollbackd.web.backend import Refused, Unknown
from rollbackd.web.views import ErrorView

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.web")

RETRY_AFTER_S = 5.0
"""What a client is asked to wait where the fault itself names no time."""

_NO_MORE_ON_THIS_CONNECTION = frozenset({408, 413})  # the rest of the request may still be under way


class HttpError(Permanent):
    """A request that cannot be granted; becomes the answer with that status, code and headers."""

    def __init__(self, status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


def error_response(error: Exception, method: str, path: str) -> web.Response:
    """The answer to a request that failed like this. What nobody foresaw is logged, and tells the client nothing."""
    if isinstance(error, RollbackdError):
        return _ours(error)
    if isinstance(error, web.HTTPException):
        return _aiohttps(error, method, path)
    log.error("http_request_crashed", method=method, path=path, exc_info=error)
    return _respond(500, "internal", "rollbackd failed to answer; its log says why")


def _ours(error: RollbackdError) -> web.Response:
    message = str(error)
    if isinstance(error, HttpError):
        return _respond(error.status, error.code, message, error.headers)
    if isinstance(error, Rejected):
        return _respond(error.status, error.code, message)
    if isinstance(error, Temporary):
        wait = math.ceil(RETRY_AFTER_S if error.retry_after is None else error.retry_after)
        return _respond(503, "unavailable", message, [("Retry-After", str(max(wait, 1)))])
    if isinstance(error, Unknown):
        return _respond(404, "unknown", message)
    if isinstance(error, Refused):
        return _respond(409, "refused", message)
    if isinstance(error, Conflict):
        return _respond(409, "conflict", message)
    log.error("http_request_failed", error=message)
    return _respond(500, "failed", message)


def _aiohttps(error: web.HTTPException, method: str, path: str) -> web.Response:
    if isinstance(error, web.HTTPNotFound):
        return _respond(404, "not_found", f"there is nothing at {path}: see /api/v1/openapi.json for what there is")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{method} is not possible at {path}: use {allowed}"
        return _respond(405, "method_not_allowed", message, [("Allow", allowed)])
    return _respond(error.status, "bad_request", error.reason)


def _respond(status: int, code: str, message: str, headers: Sequence[tuple[str, str]] = ()) -> web.Response:
    body = msgspec.json.encode(ErrorView(error=code, message=message))
    response = web.Response(status=status, body=body, content_type="application/json")
    for name, value in headers:
        response.headers.add(name, value)
    if status in _NO_MORE_ON_THIS_CONNECTION:
        response.force_close()
    return response
