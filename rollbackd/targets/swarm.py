"""Target `swarm`: a Swarm service, put back to a given earlier specification.

Swarm itself keeps one earlier specification, and rolling back swaps the two: a second rollback would roll forward. So
the specifications are kept here, and one is put back by an ordinary update that names the version it replaces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
import structlog
from pydantic import Field, StringConstraints

from rollbackd.adapter import Adapter
from rollbackd.docker.commands import Json
from rollbackd.docker.containers import split
from rollbackd.errors import Permanent
from rollbackd.fields import Duration
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, Target, TargetChange, TargetContext
from rollbackd.targets.disk import Disk
from rollbackd.targets.docker_engine import Docker, EngineConfig
from rollbackd.targets.docker_shape import KEY_LABEL, REVISION_LABEL, seconds
from rollbackd.targets.docker_watch import Stage, follow
from rollbackd.targets.kept_releases import Kept, KeptReleases, Seen
from rollbackd.targets.keys import Next, SpentKeys
from rollbackd.targets.swarm_service import (
    Service,
    ServiceSpec,
    Task,
    in_place,
    missing_parts,
    reverted,
    secrets,
    service,
    tasks,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.swarm")


class SwarmConfig(EngineConfig):
    """What an operator writes under `target: {swarm: ...}`. `host` has to be a manager."""

    service: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}$")]
    """The service's name, as in `docker service ls`."""
    keep: int = Field(default=10, ge=2, le=100)
    """How many releases are kept to go back to."""
    poll: Duration = Field(default=10.0, ge=0.1)
    """How often to look, beside the engine's own events."""


class Swarm:
    """One service of one swarm."""

    def __init__(self, config: SwarmConfig, context: TargetContext) -> None:
        self._config, self._name = config, config.service
        self._service, self._clock = context.service, context.clock
        self._disk = Disk(context.service)
        self._keys = SpentKeys(context.state_dir)
        self._releases = KeptReleases(context.state_dir, config.keep)

    def _docker(self) -> Docker:
        return Docker(self._config.host, self._config.tls)

    async def current(self) -> Release | None:
        async with self._docker() as docker:
            found = await self._look(docker)
        return found[1].release if found is not None else None

    async def history(self) -> list[Release]:
        await self.current()
        return [kept.release for kept in await self._disk.run(self._releases.all)]

    async def _look(self, docker: Docker) -> tuple[Service, Kept] | None:
        """The service as it is now; its release is remembered with its specification."""
        found = await service(docker, self._name)
        if found is None:
            return None
        seen = await self._seen(docker, found)
        return found, await self._disk.run(lambda: self._releases.note(seen))

    async def _seen(self, docker: Docker, found: Service) -> Seen:
        pinned, print_ = found.digest or found.reference, found.fingerprint
        before = await self._disk.run(lambda: self._releases.find(pinned, print_))
        if before is not None:
            return msgspec.structs.replace(before.seen, how=found.whole)
        name, tag, digest = split(found.reference)
        image = await docker.image(found.reference) if found.digest is None else None
        labels = (found.spec.task.container.labels or {}) | (found.spec.labels or {})
        return Seen(
            image=pinned,
            digest=digest or (image.id if image is not None else None),
            reference=found.reference,
            called=(tag if tag != "latest" else "") or digest or (image.id if image is not None else "") or name,
            commit=labels.get(REVISION_LABEL),
            fingerprint=print_,
            created_at=seconds(found.shown.updated),
            how=found.whole,
        )

    async def readiness(self, to: str) -> Readiness:
        found = [await self._disk.run(self._keys.problem), await self._disk.run(self._releases.problem)]
        if any(found):
            return Readiness(problems=tuple(problem for problem in found if problem))
        async with self._docker() as docker:
            now = await self._look(docker)
            kept = await self._disk.run(lambda: self._releases.get(to))
            if now is None:
                found.append(f"nothing is deployed: there is no service {self._name}")
            elif kept is None:
                found.append(f"release {_shown(to)} was never seen in place, so its specification is not known")
            else:
                found += [await self._moved(docker, kept), *await self._gone(docker, kept)]
        return Readiness(problems=tuple(problem for problem in found if problem))

    async def _gone(self, docker: Docker, kept: Kept) -> list[str]:
        missing = await missing_parts(docker, _spec(kept))
        return [f"{kept.version} needs {part}, which is gone" for part in missing]

    async def _moved(self, docker: Docker, kept: Kept) -> str | None:
        """Whether an image that is not pinned to a digest is another one by now; None where it is as it was."""
        if split(kept.seen.reference)[2] or kept.seen.digest is None:
            return None
        image = await docker.image(kept.seen.reference)
        if image is None:
            return f"the image of {kept.version} is gone from this node: pull {kept.seen.reference} again, and keep it"
        if image.id != kept.seen.digest:
            return f"{kept.seen.reference} is another image by now than the one that {kept.version} was"
        return None

    # -- putting it back

    async def revert(self, order: RevertOrder) -> None:
        async with self._keys.exclusive(self._disk), self._docker() as docker:
            found = await self._look(docker)
            now, version = (found[0], found[1].version) if found is not None else (None, None)
            mark = now.mark if now is not None else ""
            step = await self._disk.run(lambda: self._keys.judge(order, version, mark))
            if step is Next.NOTHING:
                return
            if step is Next.SWITCH:
                if now is None:
                    raise Permanent(f"there is no service {self._name} any more")
                await self._update(docker, order, now)
            at = self._clock.now()
            await self._disk.run(lambda: self._keys.begin(order, at, mark))
            await self._disk.run(lambda: self._keys.finish(order, at))

    async def _update(self, docker: Docker, order: RevertOrder, now: Service) -> None:
        kept = await self._disk.run(lambda: self._releases.get(order.to))
        if kept is None:
            raise Permanent(f"release {_shown(order.to)} was never seen in place, so its specification is not known")
        if (moved := await self._moved(docker, kept)) is not None:
            raise Permanent(moved)
        docker.hidden |= secrets(kept.seen.how)
        at = self._clock.now()
        await self._disk.run(lambda: self._keys.begin(order, at, now.mark))
        body = reverted(kept.seen.how, now, {KEY_LABEL: order.key})
        # an update that names an older version is refused: the next attempt finds out whose came before ours
        index = {"version": str(now.shown.version.index)}
        await docker.call("POST", f"/services/{now.shown.id}/update", index, body)
        log.info("service_updated", service=self._service, version=order.to, was=order.expect)

    async def settled(self, to: str) -> bool:
        if await self._disk.run(lambda: self._keys.unfinished(to)):
            return False
        async with self._docker() as docker:
            found = await self._look(docker)
            if found is None:
                return False
            now, kept = found
            await self._taken_back(to, now, kept)
            if kept.version != to or now.state in ("updating", "rollback_started"):
                return False
            listed = await tasks(docker, self._name)
            return in_place(listed, now) and await self._right_images(docker, listed, kept)

    async def _taken_back(self, to: str, now: Service, kept: Kept) -> None:
        """Raises Permanent where Swarm stopped our update half-way, or rolled it back, as it was told to on failure."""
        order = await self._disk.run(self._keys.newest)
        if order is None or order.to != to or now.mark == order.mark:
            return  # not of our update: the service still shows how the one before it went
        why = now.shown.status.message[:300] if now.shown.status is not None else ""
        if kept.version == order.expect and now.state.startswith("rollback_"):
            raise Permanent(f"Swarm put {order.expect} back by itself, as tasks of {to} failed: {why}")
        if kept.version == to and now.state in ("paused", "rollback_paused"):
            raise Permanent(f"Swarm stopped half-way to {to}, as its tasks failed: {why}")

    async def _right_images(self, docker: Docker, listed: list[Task], kept: Kept) -> bool:
        """Whether the containers on this very node run the release's image, whatever its tag means by now."""
        wanted = kept.seen.digest
        for task in listed:
            name = task.status.container.id if task.status.container is not None else ""
            if task.status.state != "running" or not name or wanted is None:
                continue
            found = await docker.container(name)
            if found is None or found[0].image == wanted:
                continue
            image = await docker.image(found[0].image)
            if image is None or not any(digest.endswith(wanted) for digest in image.digests or ()):
                return False
        return True

    # -- seeing deployments

    def changes(self) -> AsyncIterator[TargetChange]:
        # containers are filtered by it as well: a task's name begins with that of its service
        filters = {
            "type": ["service", "container"],
            "event": ["create", "update", "remove", "start", "die"],
            "service": [self._name],
        }
        return follow(self._docker, filters, self._stage, self._clock, self._config.poll, self._service)

    async def _stage(self) -> Stage | None:
        async with self._docker() as docker:
            found = await self._look(docker)
            if found is None:
                return None
            now, kept = found
            ended = now.state not in ("updating", "paused", "rollback_started", "rollback_paused")
            complete = ended and in_place(await tasks(docker, self._name), now)
        since = seconds(now.mark)
        return Stage(kept.version, complete=complete, since=since, undone=now.state.startswith("rollback_"))

    async def close(self) -> None:
        self._disk.close()


def _spec(kept: Kept) -> ServiceSpec:
    how: Json = kept.seen.how
    try:
        return msgspec.convert(how, ServiceSpec)
    except msgspec.ValidationError:
        raise Permanent(f"what is kept of release {kept.version} is no specification of a service") from None


def _shown(text: str) -> str:
    return repr(text.encode(errors="backslashreplace").decode())[:200]


def build(config: SwarmConfig, context: TargetContext) -> Target:
    """A target on this configuration; nothing is asked of the engine before it is used."""
    return Swarm(config, context)


ADAPTER: Adapter[SwarmConfig, TargetContext, Target] = Adapter(SwarmConfig, build, shorthand="service")
