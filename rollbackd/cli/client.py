"""A small client of the daemon's HTTP API, on the standard library so that commands start fast."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec

from rollbackd import __version__
from rollbackd.cli.command import RefusedByDaemon, Unreachable, Usage
from rollbackd.web.views import ErrorView

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:9797"
TIMEOUT_S = 30.0
LARGEST_ANSWER = 64 * 1024 * 1024
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding an answer can raise: it need not come from a daemon of ours."""


class NotFound(RefusedByDaemon):
    """The daemon knows no such thing."""


class Client:
    """Speaks to one daemon. `token` is sent as a bearer token and shown nowhere."""

    def __init__(self, url: str = DEFAULT_URL, token: str | None = None, timeout: float = TIMEOUT_S) -> None:
        self._url = _split(url)
        self._token = token
        self._timeout = timeout

    @property
    def address(self) -> str:
        """The daemon's address without any credential, for people."""
        return f"{self._url.scheme}://{self._url.netloc}{self._url.path.rstrip('/')}"

    def get(self, *path: str, **query: str | int | None) -> bytes:
        """The body of a GET. Raises NotFound, RefusedByDaemon, Unreachable."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return self._ask("GET", _join(path) + (f"?{urlencode(given)}" if given else ""), None)

    def post(self, *path: str, body: msgspec.Struct) -> bytes:
        """The body of the answer to a POST. Raises NotFound, RefusedByDaemon, Unreachable."""
        return self._ask("POST", _join(path), msgspec.json.encode(body))

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            status, answer = self._exchange(method, path, body)
        except TimeoutError:
            raise Unreachable(f"{self.address} did not answer within {self._timeout:g} s: is it overloaded?") from None
        except ConnectionRefusedError:
            raise Unreachable(
                f"no daemon listens at {self.address}: start one with `rollbackd run -c FILE`, "
                "or say where it is with --url or ROLLBACKD_URL"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or error.__class__.__name__
            raise Unreachable(f"cannot talk to {self.address}: {reason}; is the address right?") from None
        if 200 <= status < 300:
            return answer
        message = f"{self._refusal(status, answer)}{_cure(status)}"
        raise NotFound(message) if status == 404 else RefusedByDaemon(message)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout)
        try:
            connection.request(method, self._url.path.rstrip("/") + path, body, self._headers(body))
            response = connection.getresponse()
            answer = response.read(LARGEST_ANSWER + 1)
            if len(answer) > LARGEST_ANSWER:
                raise http.client.HTTPException(f"its answer is larger than {LARGEST_ANSWER // 1024**2} MiB")
            return response.status, answer
        finally:
            connection.close()

    def _headers(self, body: bytes | None) -> Mapping[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"rollbackd/{__version__}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _refusal(self, status: int, answer: bytes) -> str:
        try:
            return msgspec.json.decode(answer, type=ErrorView).message
        except _UNREADABLE:
            return f"{self.address} answered {status} and not as rollbackd does: is it the right address?"


def decode(answer: bytes, kind: type[T]) -> T:
    """An answer as its type. Raises Unreachable where it is something else: then it was no daemon of ours."""
    try:
        return msgspec.json.decode(answer, type=kind)
    except _UNREADABLE as error:
        raise Unreachable(f"the answer is not what rollbackd {__version__} understands: {error}") from None


def read_token(file: Path | None) -> str | None:
    """The token from a file, else from ROLLBACKD_TOKEN, else none. Raises Usage."""
    if file is None:
        place, token = "ROLLBACKD_TOKEN", os.environ.get("ROLLBACKD_TOKEN", "").strip()
        if not token:
            return None
    else:
        place, token = f"the token file {file}", _read(file).strip()
    if len(token.split()) != 1 or not (token.isascii() and token.isprintable()):
        raise Usage(f"{place} must hold one token and nothing else")
    return token


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Usage(f"cannot read the token file {file}: {reason}") from None


def _split(url: str) -> SplitResult:
    cure = f"write it like {DEFAULT_URL}"
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Usage(f"the daemon's address cannot be read: {cure}") from None
    if parts.username is not None or parts.password is not None:
        raise Usage("the daemon's address must hold no credential: use --token-file or ROLLBACKD_TOKEN")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Usage(f"that is no address of a daemon: {cure}")
    return parts


def _join(path: tuple[str, ...]) -> str:
    return "/api/v1/" + "/".join(quote(part, safe="") for part in path)


def _cure(status: int) -> str:
    made = "`auth.tokens` in the configuration makes one, see docs/api.md#credentials"
    if status == 401:
        return f" (give the token with --token-file FILE or in ROLLBACKD_TOKEN; {made})"
    return f" ({made})" if status == 403 else ""
