"""Watching one list of objects: resumed where it broke off, listed anew where that is not possible any more.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

import aiohttp
import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.kubernetes.api import Api, BrokeOff, Gone, Query
from rollbackd.kubernetes.objects import Status, Thing, WatchEvent, read

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.kubernetes")

T = TypeVar("T")

LASTS_S = 120
"""How long one watch is asked for. A connection that died unnoticed is given up soon after that."""
MAX_LINE = 16 * 1024 * 1024
_GRACE_S = 15.0
_SHORT_S = 1.0
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0


@dataclass(frozen=True)
class Listed(Generic[T]):
    """Everything there is, after which changes follow. `since` is when the view before this one ended (Unix seconds);
    None for the first."""

    objects: list[T]
    since: float | None


@dataclass(frozen=True)
class Changed(Generic[T]):
    """An object was added or changed. `since` is when anything was heard before (Unix seconds): it happened after that,
    and just now unless the watch had been broken."""

    object: T
    since: float


@dataclass(frozen=True)
class Deleted(Generic[T]):
    """An object is gone."""

    object: T


@dataclass(frozen=True)
class Quiet:
    """Nothing changed: the API server says so about once a minute."""


class Watch(Generic[T]):
    """Looks at the objects of a kind at a path that match a query, until it is cancelled."""

    def __init__(self, api: Api, path: str, kind: type[T], what: str, query: Query, clock: Clock) -> None:
        self._api, self._path, self._kind, self._what, self._query, self._clock = api, path, kind, what, query, clock
        self._version: str | None = None
        self._seen_at: float | None = None
        self._wait = _FIRST_WAIT
        self._lost = 0
        self.fault: str | None = None

    async def run(self) -> AsyncGenerator[Listed[T] | Changed[T] | Deleted[T] | Quiet | RollbackdError, None]:
        """What is there and how it changes. A fault of the far side is yielded when it begins; then it goes on."""
        while True:
            try:
                if self._version is None:
                    yield await self._list()
                began = self._clock.monotonic()
                async with aclosing(self._changes(self._version or "")) as changes:
                    async for change in changes:
                        yield change
                if self._clock.monotonic() - began < _SHORT_S:
                    raise Temporary(f"the watch of {self._what} ends as soon as it has begun")
            except Gone as error:
                self._version = None
                self._lost += 1
                if self._lost > 1:
                    await self._pause(error)
            except RollbackdError as error:
                if self.fault is None:
                    log.warning("watch_broken", what=self._what, error=str(error))
                    yield error
                self.fault = str(error)
                await self._pause(error)

    async def _list(self) -> Listed[T]:
        since = self._seen_at
        objects, self._version = await self._api.all(self._path, self._kind, self._what, self._query)
        self._well()
        return Listed(objects, since)

    async def _changes(self, version: str) -> AsyncGenerator[Changed[T] | Deleted[T] | Quiet, None]:
        """What changes until the watch ends. That its connection breaks off after a while is nothing worth a word."""
        lasts = LASTS_S + random.randrange(30)  # many watches that begin together do not end together
        query = {
            **self._query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(lasts),
        }
        headers = {"Accept": "application/json"}
        opened: float | None = None
        try:
            async with self._api.open("GET", self._path, f"watch of {self._what}", query, headers) as response:
                opened = self._clock.monotonic()
                self._well()
                async with aclosing(self._lines(response.content, lasts + _GRACE_S)) as lines:
                    async for line in lines:
                        yield self._event(line)
        except BrokeOff:
            if opened is None or self._clock.monotonic() - opened < _SHORT_S:
                raise

    async def _lines(self, content: aiohttp.StreamReader, within: float) -> AsyncGenerator[bytes, None]:
        """The lines of the answer. Nothing may take longer than `within` seconds to come, not even its end."""
        pending = bytearray()
        while True:
            async with asyncio.timeout(within):
                piece = await content.readany()
            if not piece:
                return
            pending += piece
            if len(pending) > MAX_LINE:
                raise Temporary(f"watch of {self._what}: a line is larger than {MAX_LINE} bytes")
            if b"\n" in piece:
                *lines, rest = bytes(pending).split(b"\n")
                pending = bytearray(rest)
                for line in lines:
                    if line.strip():
                        yield line

    def _event(self, line: bytes) -> Changed[T] | Deleted[T] | Quiet:
        event = read(line, WatchEvent, self._what)
        if event.type == "ERROR":
            status = read(event.object, Status, self._what)
            if status.code == 410:
                raise Gone("the watch fell too far behind")
            raise Temporary(f"watch of {self._what}: the API server ended it with {status.code} {status.reason[:80]}")
        self._version = read(event.object, Thing, self._what).metadata.resource_version
        since = self._clock.now() if self._seen_at is None else self._seen_at
        self._lost = 0
        self._well()
        match event.type:
            case "ADDED" | "MODIFIED":
                return Changed(read(event.object, self._kind, self._what), since)
            case "DELETED":
                return Deleted(read(event.object, self._kind, self._what))
            case _:  # BOOKMARK, and what a later version may add
                return Quiet()

    def _well(self) -> None:
        if self.fault is not None:
            log.info("watch_restored", what=self._what)
        self.fault, self._wait, self._seen_at = None, _FIRST_WAIT, self._clock.now()

    async def _pause(self, error: RollbackdError) -> None:
        asked = error.retry_after if isinstance(error, Temporary) else None
        wait = _LONGEST_WAIT if isinstance(error, Permanent) else self._wait * random.uniform(0.5, 1.0)
        self._wait = min(self._wait * 2, _LONGEST_WAIT)
        await self._clock.sleep(max(wait, asked or 0.0))
