"""Target `release_dir`: versioned folders behind a symlink, switched atomically, then a restart command."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Annotated

import structlog
from pydantic import AfterValidator, Field

from rollbackd.adapter import Adapter
from rollbackd.errors import Conflict, Permanent
from rollbackd.fields import Model
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, Target, TargetChange, TargetContext
from rollbackd.targets.disk import Disk, Wanted
from rollbackd.targets.keys import Next, SpentKeys, full
from rollbackd.targets.process import CommandLine, Commands, Environment, Timeout, answer, check
from rollbackd.targets.releases import Link, ReleaseFolders
from rollbackd.targets.watching import Poll, Sighting, deployments

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.release_dir")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("write an absolute path, such as /srv/checkout")
    return path


def _below(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError("write a name inside `path`, such as releases or current")
    return name


class ReleaseDirConfig(Model):
    """What an operator writes under `target: {release_dir: ...}`."""

    path: Annotated[Path, AfterValidator(_absolute)]
    """The folder that holds the releases and the link."""
    restart: CommandLine | None = None
    """What makes the service run what the link points to.

    A string is a line for /bin/sh, a list is a program and its arguments.
    """
    restart_timeout: Timeout = 60.0
    """How long the restart may take before it is stopped and tried again."""
    settled: CommandLine | None = None
    """A command whose exit code 0 means that the service runs, such as `systemctl is-active checkout`."""
    settled_timeout: Timeout = 10.0
    """How long that command may take."""
    releases: Annotated[str, AfterValidator(_below)] = "releases"
    """The folder of releases, inside `path`."""
    current: Annotated[str, AfterValidator(_below)] = "current"
    """The link, inside `path`."""
    poll: Poll = 1.0
    """How often the link is looked at."""
    env: Environment = Field(default_factory=dict)
    """Variables for the commands, beside PATH and the like; a value may be a secret."""


class ReleaseDir:
    """Release folders of one service on this machine."""

    def __init__(self, config: ReleaseDirConfig, context: TargetContext) -> None:
        self._config = config
        self._service = context.service
        self._clock = context.clock
        self._folders = ReleaseFolders(config.path, config.releases, config.current)
        self._commands = Commands(config.env, config.path)
        self._keys = SpentKeys(context.state_dir)
        self._disk = Disk(context.service)

    async def current(self) -> Release | None:
        return await self._disk.run(self._folders.current)

    async def history(self) -> list[Release]:
        return await self._disk.run(self._folders.all)

    async def readiness(self, to: str) -> Readiness:
        return Readiness(problems=tuple(await self._disk.run(lambda: self._problems(to))))

    def _problems(self, to: str) -> list[str]:
        folder = self._folders.link.parent
        found: list[str | None] = []
        try:
            if self._folders.in_place() is None:
                found.append(f"nothing is deployed: there is no link {self._folders.link}")
        except Permanent as error:
            return [str(error)]
        found.append(self._folders.unusable(to))
        if not os.access(folder, os.W_OK | os.X_OK):
            found.append(f"the daemon's user may not switch the link: it cannot write in {folder}")
        else:
            found.append(full(folder))
        found.append(self._keys.problem())
        for label, command in (("restart", self._config.restart), ("settled", self._config.settled)):
            if command is not None:
                found.append(self._commands.problem(label, command))
        return list(dict.fromkeys(problem for problem in found if problem))

    async def revert(self, order: RevertOrder) -> None:
        async with self._keys.exclusive(self._disk):
            at = self._clock.now()
            if await self._disk.change(lambda wanted: self._switch(order, at, wanted)):
                await self._restart(order)
                at = self._clock.now()
                await self._disk.run(lambda: self._keys.finish(order, at))

    def _switch(self, order: RevertOrder, at: float, wanted: Wanted) -> bool:
        """Make the link point to `order.to`; whether the restart is still to be done."""
        seen = self._folders.in_place()
        step = self._keys.judge(order, seen.version if seen else None, seen.mark if seen else "")
        if step is Next.NOTHING:
            return False
        if step is Next.SWITCH:
            self._point(order, seen, at, wanted)
        else:
            self._keys.begin(order, at, seen.mark if seen else "")
        log.info("link_in_place", service=self._service, version=order.to, was=order.expect, how=step.name.lower())
        return True

    def _point(self, order: RevertOrder, seen: Link | None, at: float, wanted: Wanted) -> None:
        if seen is None:
            raise Conflict(f"{self._folders.link} is gone: somebody else is deploying")
        if (fault := self._folders.unusable(order.to)) is not None:
            raise Permanent(fault)
        self._keys.begin(order, at, seen.mark)
        tag = hashlib.sha256(order.key.encode()).hexdigest()[:16]
        self._folders.switch(order.to, seen, tag, wanted)

    async def _restart(self, order: RevertOrder) -> None:
        if self._config.restart is None:
            return
        variables = {
            "ROLLBACKD_KEY": order.key,
            "ROLLBACKD_TO": order.to,
            "ROLLBACKD_FROM": order.expect,
            "ROLLBACKD_SERVICE": self._service,
        }
        ran = await self._commands.run("restart", self._config.restart, self._config.restart_timeout, variables)
        check("restart", ran)
        log.info("restarted", service=self._service, version=order.to)

    async def settled(self, to: str) -> bool:
        if not await self._disk.run(lambda: self._points_to(to)):
            return False
        if self._config.settled is None:
            return True
        variables = {"ROLLBACKD_TO": to, "ROLLBACKD_SERVICE": self._service}
        ran = await self._commands.run("settled", self._config.settled, self._config.settled_timeout, variables)
        return answer("settled", ran)

    def _points_to(self, to: str) -> bool:
        seen = self._folders.in_place()
        return seen is not None and seen.version == to and not self._keys.unfinished(to)

    def changes(self) -> AsyncIterator[TargetChange]:
        return deployments(self._look, self._clock, self._config.poll, self._service)

    async def _look(self) -> Sighting | None:
        seen = await self._disk.run(self._folders.in_place)
        return None if seen is None else Sighting(seen.version, seen.since)

    async def close(self) -> None:
        self._disk.close()


def build(config: ReleaseDirConfig, context: TargetContext) -> Target:
    """A target on this configuration; nothing is read before it is used."""
    return ReleaseDir(config, context)


ADAPTER: Adapter[ReleaseDirConfig, TargetContext, Target] = Adapter(ReleaseDirConfig, build, shorthand="path")
