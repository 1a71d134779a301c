"""Notices that the configuration file changed, and takes over what is good; what is bad is refused, loudly."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import structlog

from rollbackd.aiokit import Clock
from rollbackd.config.blocks import Catalog
from rollbackd.config.faults import ConfigFaults
from rollbackd.config.loading import Loaded, load
from rollbackd.errors import RollbackdError

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.config")

_Look: TypeAlias = tuple[str, int, int, int, int, int] | None


async def watch(path: Path, clock: Clock, every: float = 1.0) -> AsyncIterator[None]:
    """Yield whenever the file changed and has then kept still for `every` seconds.

    A change is another content's size or time, another file in its place, another end of a chain of links (as when
    Kubernetes swaps a volume), or its coming and going.
    """
    told = last = _look(path)
    while True:
        await clock.sleep(every)
        now = _look(path)
        if now == last != told:
            told = now
            yield
        last = now


def _look(path: Path) -> _Look:
    try:
        real = os.path.realpath(path)
        there = path.stat()
    except (OSError, ValueError):
        return None
    return real, there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns


class Reloader:
    """Keeps the configuration in force in step with its file.

    `apply` makes a new one effective; where it raises, it must have left the old one in force. `refused` is told in
    plain words why a new one was not taken.
    """

    def __init__(
        self,
        path: Path,
        catalog: Catalog,
        current: Loaded,
        apply: Callable[[Loaded], Awaitable[None]],
        clock: Clock,
        *,
        every: float = 1.0,
        refused: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.current = current
        """The configuration in force."""
        self.problem: str | None = None
        """Why the file as it is now is not in force; None while it is."""
        self._path, self._catalog, self._apply, self._clock, self._every = path, catalog, apply, clock, every
        self._refused = refused
        self._reloading = False
        self._wanted = asyncio.Event()
        self._wanted.set()  # what changed between the first loading and now is seen at once

    def request(self) -> None:
        """Look at the file now, as on SIGHUP."""
        self._wanted.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is being loaded, nor asked for."""
        return not self._reloading and not self._wanted.is_set()

    async def run(self) -> None:
        """Watch and reload until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="config_watch")
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                self._reloading = True
                await self._reload()
                self._reloading = False

    async def _watch(self) -> None:
        async for _ in watch(self._path, self._clock, self._every):
            self._wanted.set()

    async def _reload(self) -> None:
        try:
            loaded = await asyncio.to_thread(load, self._path, self._catalog)
            if loaded.stamp.sha256 == self.current.stamp.sha256:
                self._in_step()
                return
            await self._apply(loaded)
        except ConfigFaults as error:
            await self._refuse(str(error), [str(fault) for fault in error.faults])
        except RollbackdError as error:
            await self._refuse(f"{self._path}: the new configuration cannot be put in force: {error}", [str(error)])
        except Exception as error:
            log.exception("config_reload_crashed", file=str(self._path))
            reason = f"{type(error).__name__}, see the log"
            await self._refuse(f"{self._path}: the new configuration cannot be put in force: {reason}", [reason])
        else:
            self.current, self.problem = loaded, None
            log.info("config_reloaded", file=str(self._path), sha256=loaded.stamp.sha256, commit=loaded.stamp.commit)

    def _in_step(self) -> None:
        if self.problem is not None:
            log.info("config_as_in_force", file=str(self._path), sha256=self.current.stamp.sha256)
        self.problem = None

    async def _refuse(self, problem: str, faults: list[str]) -> None:
        """Say so once for each new problem: repeated requests change nothing."""
        in_force = self.current.stamp.sha256
        log.error("config_refused", file=str(self._path), faults=faults, in_force=in_force)
        if self.problem != problem and self._refused is not None:
            try:
                await self._refused(problem)
            except Exception:
                log.exception("config_refusal_untold", file=str(self._path))
        self.problem = problem
