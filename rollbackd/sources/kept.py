"""What a source remembers over a restart of the daemon: a file in its own folder, written whole or not at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

T = TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources.kept")

SILENT_S = 2.0
"""A file system that takes longer is not waited for: remembering is worth less than reading on."""


class Kept:
    """One file; without a folder nothing is remembered. What goes wrong is logged, once until it works again."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._path = folder / name if folder is not None else None
        self._thread: ThreadPoolExecutor | None = None
        self._failed = False

    async def load(self) -> bytes | None:
        """What was saved last; None where there is nothing, or nothing that can be read."""
        return await self._outside(self._load) if self._path is not None else None

    async def save(self, data: bytes) -> bool:
        """Put this in the place of what was saved before. A crash in the middle leaves the one or the other.

        Gives whether it is known to be there.
        """
        return self._path is not None and await self._outside(lambda: self._save(data)) is not None

    def close(self) -> None:
        """Let the thread go, until there is more to do; what is being written is still written."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _outside(self, work: Callable[[], T]) -> T | None:
        """The work done outside the event loop; None where it failed or takes too long."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="kept")
        doing = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            async with asyncio.timeout(SILENT_S):
                done = await doing
        except (OSError, TimeoutError) as error:
            if not self._failed:
                words = getattr(error, "strerror", None) or "the file system does not answer"
                log.warning("source_place_not_kept", path=str(self._path), error=words)
            self._failed = True
            return None
        self._failed = False
        return done

    def _load(self) -> bytes | None:
        assert self._path is not None  # noqa: S101
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def _save(self, data: bytes) -> bool:
        assert self._path is not None  # noqa: S101
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}.{id(self):x}.new")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        return True
