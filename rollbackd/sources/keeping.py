"""A value that a source must remember over restarts: written when it changed, now and then and at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import structlog

from rollbackd.aiokit import Clock
from rollbackd.sources.kept import Kept

KEEP_EVERY_S = 5.0
"""How often at most what changed is written."""

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources")


class Keeper(Generic[T]):
    """Keeps one value of a msgspec type in `place.json` of a source's folder; without a folder it keeps nothing.

    A disk that cannot be written, or does not answer, stops no source: it is logged, and tried again.
    """

    def __init__(self, kind: type[T], folder: Path | None, clock: Clock) -> None:
        self._kind, self._folder, self._clock = kind, folder, clock
        self._file = Kept(folder, "place.json")
        self._written: bytes | None = None
        self._looked_at = clock.monotonic()

    async def load(self) -> T | None:
        """What was kept; None where nothing was, or nothing that can be read."""
        text = await self._file.load()
        try:
            return msgspec.json.decode(text, type=self._kind) if text is not None else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("place_unusable", folder=str(self._folder), error=str(error))
            return None

    async def keep(self, value: T) -> None:
        """Write the value, unless that was done a moment ago."""
        if self._clock.monotonic() - self._looked_at >= KEEP_EVERY_S:
            await self.keep_now(value)

    async def keep_now(self, value: T) -> None:
        """Write the value, as at the end of a run."""
        self._looked_at = self._clock.monotonic()
        text = msgspec.json.encode(value)
        if text != self._written and await self._file.save(text):
            self._written = text

    def close(self) -> None:
        """Nothing is kept for now; what is being written is still written."""
        self._file.close()
