"""What is ordered of a Docker engine, beside what is asked: calls with an effect, and its refusals told apart.

The statuses: https://docs.docker.com/reference/api/engine/version/v1.41/
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Literal, TypeAlias

import aiohttp
import msgspec

from rollbackd.docker.engine import ANSWER_WITHIN_S, MAX_ANSWER, Engine, EngineFault, EngineTls
from rollbackd.errors import Permanent

Json: TypeAlias = dict[str, object]
"""An object of the API as it is, for what is handed back to the engine without being understood."""

Method: TypeAlias = Literal["GET", "POST", "DELETE"]

_LONGEST_WORDS = 300
_MAX_EVENT = 1024 * 1024


class Missing(Permanent):
    """What was asked for does not exist (404)."""


class Refused(Permanent):
    """The engine understood, and does not do it (400, 403 and the like)."""


class Commands(Engine):
    """An engine that is told what to do. Inside `async with` only, as `Engine`.

    What is in `hidden` is never repeated from the engine's own words.
    """

    def __init__(self, address: str, tls: EngineTls | None = None) -> None:
        super().__init__(address, tls)
        self.hidden: set[str] = set()

    async def ask(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """The answer to a GET. Raises Missing, Refused and EngineFault."""
        return await self.call("GET", path, params)

    async def call(
        self,
        method: Method,
        path: str,
        params: Mapping[str, str] | None = None,
        body: object = None,
        within: float = ANSWER_WITHIN_S,
    ) -> bytes:
        """One call and its answer; 304 (it is so already) is no fault. Bytes are sent as the archive they are.

        Raises Missing and Refused where trying the same again cannot help, EngineFault where it can: no answer, one of
        status 5xx, or 409 (something else is being done to it).
        """
        if self._session is None:
            raise RuntimeError("call inside `async with` only")
        content = body if isinstance(body, bytes | None) else msgspec.json.encode(body)
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        headers = {} if content is None else {"Content-Type": kind}
        try:
            async with (
                asyncio.timeout(within),
                self._session.request(
                    method,
                    self._url.with_path(path),
                    params=params,
                    data=content,
                    headers=headers,
                    allow_redirects=False,
                ) as answer,
            ):
                said = await self._whole(answer, path)
        except TimeoutError:
            raise EngineFault(f"{self.shown}: no answer to {method} {path} within {within:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._explained(error) from None
        if answer.status >= 400:
            raise self._fault(answer.status, method, path, said)
        return said

    async def events(self, filters: Mapping[str, list[str]]) -> AsyncGenerator[bytes, None]:
        """The engine's events as they happen, a JSON object each. Raises EngineFault when the stream ends."""
        async with self.stream("/events", {"filters": msgspec.json.encode(filters).decode()}) as answer:
            yield b""  # from here on nothing is missed
            rest = b""
            async for chunk in answer.chunks():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line
                if len(rest) > _MAX_EVENT:
                    raise EngineFault(f"{self.shown}: an event is longer than {_MAX_EVENT} bytes")
        raise EngineFault(f"{self.shown}: the engine closed the connection")

    def presentable(self, text: str) -> str:
        """The text on one line, without what is hidden."""
        for secret in sorted(self.hidden, key=len, reverse=True):
            text = text.replace(secret, "***")
        return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())

    async def _whole(self, answer: aiohttp.ClientResponse, path: str) -> bytes:
        body = bytearray()
        while chunk := await answer.content.readany():
            body += chunk
            if len(body) > MAX_ANSWER:
                raise EngineFault(f"{self.shown}: the answer to {path} is larger than {MAX_ANSWER} bytes")
        return bytes(body)

    def _fault(self, status: int, method: Method, path: str, said: bytes) -> Permanent | EngineFault:
        words = self.presentable(_message(said))[:_LONGEST_WORDS]
        if status == 404:
            return Missing(f"{self.shown}: {words or f'{path} does not exist'}")
        if status in (401, 403):
            return Refused(f"{self.shown} may not be asked for {method} {path}: let the proxy before it pass that")
        if status < 500 and status not in (409, 429):
            return Refused(f"{self.shown} refused {method} {path}: {words or status}")
        return EngineFault(f"{self.shown} answered {status}: {words or 'no reason given'}", status)


def _message(said: bytes) -> str:
    """The engine's own words."""
    try:
        return str(msgspec.json.decode(said, type=dict[str, object]).get("message", ""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
