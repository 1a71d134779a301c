"""What a source must remember over restarts: one small file, written as a whole or not at all."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import structlog

from rollbackd.aiokit import Clock

KEEP_EVERY_S = 5.0
"""How often at most what changed is written."""

MAX_BYTES = 1024 * 1024

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources")


class Keeper(Generic[T]):
    """Keeps one value of a msgspec type in `place.json` of a source's folder; without a folder it keeps nothing.

    A disk that cannot be written stops no source: it is logged, and tried again.
    """

    def __init__(self, kind: type[T], folder: Path | None, clock: Clock) -> None:
        self._kind, self._folder, self._clock = kind, folder, clock
        self._written: bytes | None = None
        self._looked_at = clock.monotonic()
        self._fails = False
        self._order = 0
        self._writing = threading.Lock()

    async def load(self) -> T | None:
        """What was kept; None where nothing was, or nothing that can be read."""
        if self._folder is None:
            return None
        try:
            text = await asyncio.to_thread(_read, self._folder / "place.json")
            return msgspec.json.decode(text, type=self._kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, RecursionError) as error:
            log.warning("place_unusable", folder=str(self._folder), error=_words(error))
            return None

    async def keep(self, value: T) -> None:
        """Write the value, unless that was done a moment ago."""
        if self._clock.monotonic() - self._looked_at < KEEP_EVERY_S:
            return
        self._looked_at = self._clock.monotonic()
        text = msgspec.json.encode(value)
        if self._folder is not None and text != self._written:
            self._order += 1
            self._wrote(text, await asyncio.to_thread(self._replace, self._folder, text, self._order))

    def keep_now(self, value: T) -> None:
        """Write the value at the end of a run, when nothing may be waited for."""
        text = msgspec.json.encode(value)
        if self._folder is not None and text != self._written:
            self._order += 1
            self._wrote(text, self._replace(self._folder, text, self._order))

    def _replace(self, folder: Path, text: bytes, order: int) -> OSError | None:
        """Write the file; a thread that comes too late, since its task was cancelled, does not undo the last word."""
        with self._writing:
            if order < self._order:
                return None
            try:
                _replace(folder, text)
            except OSError as error:
                return error
        return None

    def _wrote(self, text: bytes, error: OSError | None) -> None:
        if error is None:
            self._written, self._fails = text, False
        elif not self._fails:
            log.warning("place_not_kept", folder=str(self._folder), error=_words(error))
            self._fails = True


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES)


def _replace(folder: Path, text: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = folder / "place.json.new"
    with fresh.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / "place.json")


def _words(error: Exception) -> str:
    return (error.strerror or "input/output error") if isinstance(error, OSError) else str(error)
