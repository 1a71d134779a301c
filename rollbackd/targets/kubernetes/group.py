"""Workloads that are released together under one name, and reverted together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.kubernetes.api import Api
from rollbackd.kubernetes.kinds import DAEMON_SET, DEPLOYMENT, STATEFUL_SET, Kind
from rollbackd.kubernetes.objects import Thing
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, Target, TargetChange
from rollbackd.targets.disk import Disk, alone, own_errors, write_whole

LOOK_S = 30.0
"""How often to look for workloads that are new or gone."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


@dataclass(frozen=True)
class Member:
    """A workload of the group."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.name} {self.name}"


Opens: TypeAlias = Callable[[Member], Target]
"""Makes the target that looks after one workload alone."""

Told: TypeAlias = asyncio.Queue[tuple[Member, TargetChange]]


class Group:
    """All workloads that a label selector chooses. A release of the group is in place where all of them run it."""

    def __init__(
        self, api: Api, namespace: str | None, selector: str, opens: Opens, disk: Disk, clock: Clock, folder: Path
    ) -> None:
        """`folder` keeps what the group last agreed upon."""
        self._api, self._namespace, self._selector, self._opens = api, namespace, selector, opens
        self._disk, self._clock, self._agreed_file = disk, clock, folder / "agreed"
        self._open: dict[Member, Target] = {}

    # -- looking

    async def _members(self) -> Mapping[Member, Target]:
        namespace = self._namespace or await self._api.namespace()
        found: dict[Member, Target] = {}
        for kind in (DEPLOYMENT, STATEFUL_SET, DAEMON_SET):
            path = f"/apis/apps/v1/namespaces/{namespace}/{kind.plural}"
            things, _ = await self._api.all(path, Thing, f"{kind.name}s", {"labelSelector": self._selector})
            for thing in things:
                member = Member(kind, thing.metadata.name)
                if member not in self._open:
                    self._open[member] = self._opens(member)
                found[member] = self._open[member]
        for member in self._open.keys() - found.keys():
            await self._open.pop(member).close()
        return found

    async def _running(self) -> dict[Member, Release]:
        """What each runs; without those that run nothing yet."""
        members = await self._members()
        releases = await asyncio.gather(*(target.current() for target in members.values()))
        return {member: one for member, one in zip(members, releases, strict=True) if one is not None}

    async def current(self) -> Release | None:
        running = await self._running()
        if not running:
            return None
        by_version = {one.version: one for one in running.values()}
        agreed = await self._disk.run(self._agreed)
        if len(by_version) == 1:
            (found,) = by_version.values()
            if agreed != found.version:
                await self._disk.run(lambda: self._agree(found.version))
            return found
        coming = [one for one in by_version.values() if one.version != agreed]
        if agreed not in by_version or len(coming) != 1:
            each = ", ".join(f"{member}: {one.version}" for member, one in running.items())
            raise Permanent(
                f"the workloads with the labels {self._selector} run different releases ({each}): `selector` is for "
                "those that are always released together, so name the others as services of their own"
            )
        return coming[0]

    async def history(self) -> list[Release]:
        """Releases that every member keeps, newest first."""
        members = await self._members()
        kept = await asyncio.gather(*(target.history() for target in members.values()))
        if not kept:
            return []
        common = set.intersection(*({one.version for one in releases} for releases in kept))
        return [one for one in kept[0] if one.version in common]

    def _agreed(self) -> str | None:
        with own_errors(), suppress(FileNotFoundError):
            return self._agreed_file.read_text()[:1000]
        return None

    def _agree(self, version: str) -> None:
        with alone(self._agreed_file):
            write_whole(self._agreed_file, version.encode())

    # -- reverting

    async def readiness(self, to: str) -> Readiness:
        members = await self._members()
        if not members:
            return Readiness(problems=(f"nothing is deployed: no workload has the labels {self._selector}",))
        found = await asyncio.gather(*(target.readiness(to) for target in members.values()))
        each = zip(members, found, strict=True)
        return Readiness(problems=tuple(f"{member}: {problem}" for member, one in each for problem in one.problems))

    async def revert(self, order: RevertOrder) -> None:
        """All or none, as far as that can be known beforehand; what happens later is told by member."""
        members = await self._members()
        if not members:
            raise Conflict(f"no workload has the labels {self._selector} any more: somebody else deleted them")
        for member, target in members.items():
            await self._check(order, member, target)
        done: list[str] = []
        failed: list[tuple[Member, RollbackdError]] = []
        for member, target in members.items():
            try:
                await target.revert(order)
                done.append(str(member))
            except RollbackdError as error:
                failed.append((member, error))
        if failed:
            raise _worst(failed, done)

    async def _check(self, order: RevertOrder, member: Member, target: Target) -> None:
        """Whether this member can go along, before any other one does."""
        release = await target.current()
        version = release.version if release is not None else "nothing"
        if version not in (order.expect, order.to):
            raise Conflict(f"{member}: {version} is in place, not {order.expect}: somebody else deployed")
        if version == order.expect and order.to not in {one.version for one in await target.history()}:
            raise Permanent(f"{member} has no release {order.to} to go back to, so no other is reverted either")

    async def settled(self, to: str) -> bool:
        members = await self._members()
        found = await asyncio.gather(*(target.settled(to) for target in members.values()))
        return bool(found) and all(found)

    # -- watching

    async def changes(self) -> AsyncIterator[TargetChange]:
        """The first member that changes begins a deployment of the group, the last one ends it."""
        told: Told = asyncio.Queue()
        watching: dict[Member, asyncio.Task[None]] = {}
        finding = asyncio.create_task(self._find(watching, told))
        known: TargetChange | None = None
        going: set[Member] = set()
        try:
            while True:
                member, change = await told.get()
                if change.phase == "started":
                    going.add(member)
                    if known is None or known.version != change.version:
                        known = change
                        yield change
                    continue
                going.discard(member)
                if known is None or change.version != known.version:
                    continue
                if change.phase == "failed" or (not going and await self._all_run(known.version)):
                    yield msgspec.structs.replace(change, previous=known.previous)
        finally:
            for task in (finding, *watching.values()):
                task.cancel()
            await asyncio.gather(finding, *watching.values(), return_exceptions=True)

    async def _find(self, watching: dict[Member, asyncio.Task[None]], told: Told) -> None:
        """Watch each workload for as long as it is there."""

        async def watch(member: Member, target: Target) -> None:
            async for change in target.changes():  # for as long as it is there
                told.put_nowait((member, change))

        failing = False
        while True:
            try:
                members = await self._members()
                failing = False
            except RollbackdError as error:
                if not failing:
                    log.warning("target_unreadable", error=str(error))
                failing, members = True, dict(self._open)
            for gone in watching.keys() - members.keys():
                watching.pop(gone).cancel()
            for new in members.keys() - watching.keys():
                watching[new] = asyncio.create_task(watch(new, members[new]))
            await self._clock.sleep(LOOK_S)

    async def _all_run(self, version: str) -> bool:
        with suppress(RollbackdError):
            return {one.version for one in (await self._running()).values()} == {version}
        return False

    async def close(self) -> None:
        for target in self._open.values():
            await target.close()
        await self._api.close()
        self._disk.close()


def _worst(failed: list[tuple[Member, RollbackdError]], done: list[str]) -> RollbackdError:
    """One error for all: trying again helps as long as it helps one of them."""
    told = "; ".join(f"{member}: {error}" for member, error in failed)
    message = f"{told} (reverted: {', '.join(done) or 'none'})"
    waits = [error.retry_after or 0.0 for _, error in failed if isinstance(error, Temporary)]
    if waits:
        return Temporary(message, retry_after=max(waits) or None)
    return Conflict(message) if all(isinstance(error, Conflict) for _, error in failed) else Permanent(message)
