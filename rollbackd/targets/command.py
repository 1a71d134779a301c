"""Target `command`: the operator's own scripts say what runs, what could run, and put another release in place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import structlog
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.errors import Permanent
from rollbackd.fields import Model
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, Target, TargetChange, TargetContext
from rollbackd.targets.disk import Disk
from rollbackd.targets.keys import Next, SpentKeys
from rollbackd.targets.output import OUTPUT_LIMIT
from rollbackd.targets.process import (
    CommandLine,
    Commands,
    Environment,
    Finished,
    Timeout,
    answer,
    check,
)
from rollbackd.targets.versions import fit
from rollbackd.targets.watching import Poll, Sighting, deployments

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.command")


class CommandConfig(Model):
    """What an operator writes under `target: {command: ...}`.

    Each command is a string (a line for /bin/sh) or a list (a program and its arguments).
    """

    current: CommandLine
    """Prints the release in place; nothing where nothing is deployed."""
    history: CommandLine
    """Prints the releases that could be put in place, one a line, newest first."""
    revert: CommandLine
    """Puts release $ROLLBACKD_TO in the place of $ROLLBACKD_FROM; may be run again with the same $ROLLBACKD_KEY."""
    readiness: CommandLine | None = None
    """Exits with 0 where a revert to $ROLLBACKD_TO would work right now; otherwise prints what is in the way."""
    settled: CommandLine | None = None
    """Exits with 0 once release $ROLLBACKD_TO is fully in place; left out, it is when `current` prints it."""
    timeout: Timeout = 30.0
    """How long each command but `revert` may take."""
    revert_timeout: Timeout = 300.0
    """How long `revert` may take before it is stopped and tried again."""
    poll: Poll = 10.0
    """How often `current` is asked, to see deployments."""
    directory: Path | None = None
    """The folder the commands run in; left out, the daemon's."""
    env: Environment = Field(default_factory=dict)
    """Variables for the commands, beside PATH and the like; a value may be a secret."""


class Command:
    """One service, as the operator's scripts see it."""

    def __init__(self, config: CommandConfig, context: TargetContext) -> None:
        self._config = config
        self._service = context.service
        self._clock = context.clock
        self._commands = Commands(config.env, config.directory)
        self._keys = SpentKeys(context.state_dir)
        self._disk = Disk(context.service)

    async def current(self) -> Release | None:
        ran = await self._read("current", self._config.current)
        found = _releases("current", ran.output)
        if len(found) > 1:
            raise Permanent(f"current: printed {len(found)} releases where one was expected")
        return found[0] if found else None

    async def history(self) -> list[Release]:
        ran = await self._read("history", self._config.history)
        found: dict[str, Release] = {}
        for release in _releases("history", ran.output):
            found.setdefault(release.version, release)
        return list(found.values())

    async def _read(self, label: str, command: CommandLine) -> Finished:
        ran = await self._commands.run(label, command, self._config.timeout, {"ROLLBACKD_SERVICE": self._service})
        check(label, ran, sysexits=True)
        if ran.overflowed:
            raise Permanent(f"{label}: printed more than {OUTPUT_LIMIT} bytes")
        return ran

    async def readiness(self, to: str) -> Readiness:
        config = self._config
        named = {
            "current": config.current,
            "history": config.history,
            "revert": config.revert,
            "readiness": config.readiness,
            "settled": config.settled,
        }
        found = [self._commands.problem(label, command) for label, command in named.items() if command is not None]
        found.append(await self._disk.run(self._keys.problem))
        if not any(found):
            found += await self._answers(to)
        return Readiness(problems=tuple(dict.fromkeys(problem for problem in found if problem)))

    async def _answers(self, to: str) -> list[str]:
        """What the scripts themselves say about a revert to this release."""
        try:
            problems = [] if await self.current() else ["current: printed nothing, so nothing is deployed"]
            if await self._release(to) is None:
                problems.append(f"history: does not list release {to}")
        except Permanent as error:
            return [str(error)]
        if self._config.readiness is not None:
            label = "readiness"
            ran = await self._commands.run(label, self._config.readiness, self._config.timeout, self._variables(to))
            if not answer(label, ran):
                problems.append(f"{label}: {ran.tail or f'ended with exit code {ran.code}'}")
        return problems

    async def _release(self, version: str) -> Release | None:
        return next((release for release in await self.history() if release.version == version), None)

    async def revert(self, order: RevertOrder) -> None:
        async with self._keys.exclusive(self._disk):
            current = await self.current()
            version = current.version if current else None
            step = await self._disk.run(lambda: self._keys.judge(order, version))
            if step is Next.NOTHING:
                return
            if step is Next.SWITCH and await self._release(order.to) is None:
                raise Permanent(f"history: does not list release {order.to}, so it is not put in place")
            at = self._clock.now()
            await self._disk.run(lambda: self._keys.begin(order, at))
            if step is not Next.ADOPT:
                await self._run_revert(order, version)
            at = self._clock.now()
            await self._disk.run(lambda: self._keys.finish(order, at))

    async def _run_revert(self, order: RevertOrder, current: str | None) -> None:
        variables = self._variables(order.to) | {
            "ROLLBACKD_KEY": order.key,
            "ROLLBACKD_FROM": order.expect,
            "ROLLBACKD_CURRENT": current or "",
        }
        ran = await self._commands.run("revert", self._config.revert, self._config.revert_timeout, variables)
        check("revert", ran, sysexits=True)
        log.info("revert_command_done", service=self._service, version=order.to, was=order.expect)

    async def settled(self, to: str) -> bool:
        current = await self.current()
        if current is None or current.version != to or await self._disk.run(lambda: self._keys.unfinished(to)):
            return False
        if self._config.settled is None:
            return True
        label = "settled"
        return answer(
            label, await self._commands.run(label, self._config.settled, self._config.timeout, self._variables(to))
        )

    def changes(self) -> AsyncIterator[TargetChange]:
        return deployments(self._look, self._clock, self._config.poll, self._service)

    async def _look(self) -> Sighting | None:
        current = await self.current()
        return None if current is None else Sighting(current.version)

    async def close(self) -> None:
        self._disk.close()

    def _variables(self, to: str) -> dict[str, str]:
        return {"ROLLBACKD_SERVICE": self._service, "ROLLBACKD_TO": to}


def _releases(label: str, output: str) -> list[Release]:
    """The releases a script printed: one a line, as a bare version or as a JSON object with the fields of Release."""
    found = []
    for number, line in enumerate(output.splitlines(), start=1):
        text = line.strip()
        if text.startswith("{"):
            try:
                found.append(msgspec.json.decode(text, type=Release))
            except msgspec.MsgspecError as error:
                raise Permanent(f"{label}: line {number} of its output is no release: {error}") from None
            except RecursionError:
                raise Permanent(f"{label}: line {number} of its output is nested too deeply to be meant") from None
        elif text:
            found.append(Release(version=text))
        if found and not fit(found[-1].version):
            raise Permanent(f"{label}: line {number} of its output is no version (too long, or not plain text)")
    return found


def build(config: CommandConfig, context: TargetContext) -> Target:
    """A target on this configuration; nothing is run before it is used."""
    return Command(config, context)


ADAPTER: Adapter[CommandConfig, TargetContext, Target] = Adapter(CommandConfig, build)
