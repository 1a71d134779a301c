"""Containers on a Docker engine as a target: one by its name, or those of a service of a Compose project."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from pydantic import Field

from rollbackd.docker.commands import Json
from rollbackd.docker.containers import Container, version_of
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.fields import Duration
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, TargetChange, TargetContext
from rollbackd.targets.disk import Disk
from rollbackd.targets.docker_engine import Docker, EngineConfig
from rollbackd.targets.docker_plan import DRAFT, Plan, Plans, Replaced
from rollbackd.targets.docker_ready import problems
from rollbackd.targets.docker_shape import (
    COMPOSE_NUMBER,
    NAME_LABEL,
    RESTORED_LABEL,
    REVISION_LABEL,
    TARGET_LABEL,
    Inspected,
    anonymous_volumes,
    seconds,
    shape_of,
    understood,
)
from rollbackd.targets.docker_swap import NotWell, Patience, Swap, shape
from rollbackd.targets.docker_watch import Stage, follow
from rollbackd.targets.kept_releases import Kept, KeptReleases, Seen
from rollbackd.targets.keys import Next, SpentKeys

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.docker")

EVENTS = ["create", "start", "die", "destroy", "rename", "health_status"]


class ContainersConfig(EngineConfig):
    """What `docker` and `compose` have in common."""

    healthy_within: Duration = 60.0
    """How long the old release may take to become healthy before the situation before is restored."""
    stable_for: Duration = 2.0
    """How long a container without a health check has to run to count as well."""
    overlap: bool | None = None
    """Whether the old release may start while the bad one still runs. Unless set: where they write to no volume or
    folder in common."""
    keep: int = Field(default=10, ge=2, le=100)
    """How many releases are kept to go back to."""
    poll: Duration = Field(default=10.0, ge=0.1)
    """How often to look, beside the engine's own events."""


@dataclass(frozen=True)
class Choice:
    """Which containers are meant: one by its name, or all with these labels. `shown` is for people."""

    shown: str
    name: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Member:
    """A container of the target, and the release it runs."""

    seen: Inspected
    whole: Json
    image: str
    fingerprint: str
    kept: Kept | None = None

    @property
    def version(self) -> str | None:
        return self.kept.version if self.kept is not None else None


@dataclass(frozen=True)
class Scene:
    """What is there: the target's containers, newest first, and replacements that do not have their names yet."""

    members: Sequence[Member]
    drafts: Sequence[Inspected]

    @property
    def newest(self) -> Member | None:
        return self.members[0] if self.members else None


class Containers:
    """A target on one engine."""

    def __init__(self, config: ContainersConfig, choice: Choice, context: TargetContext) -> None:
        self._config, self._choice = config, choice
        self._service, self._clock = context.service, context.clock
        self._disk = Disk(context.service)
        self._keys = SpentKeys(context.state_dir)
        self._plans = Plans(context.state_dir)
        self._releases = KeptReleases(context.state_dir, config.keep)

    def _docker(self) -> Docker:
        return Docker(self._config.host, self._config.tls)

    # -- what is there

    async def current(self) -> Release | None:
        async with self._docker() as docker:
            newest = (await self._look(docker)).newest
        return newest.kept.release if newest is not None and newest.kept is not None else None

    async def history(self) -> list[Release]:
        async with self._docker() as docker:
            await self._look(docker)
            images = await docker.images()
        kept = await self._disk.run(self._releases.all)
        return [one.release for one in kept if one.seen.image in images]

    async def _look(self, docker: Docker) -> Scene:
        """What is there now; the release in place is remembered with its configuration."""
        members, drafts = [], []
        for found, whole in await self._found(docker):
            if found.shown.startswith(f"{found.labels.get(NAME_LABEL, '/')}{DRAFT}"):
                drafts.append(found)
            elif found.labels.get("com.docker.compose.oneoff", "False") != "True":
                shape = shape_of(found, whole)
                members.append(Member(found, whole, found.image, shape.fingerprint))
        members.sort(key=lambda member: member.seen.created, reverse=True)
        known = [await self._known(docker, member, newest=at == 0) for at, member in enumerate(members)]
        return Scene(known, drafts)

    async def _found(self, docker: Docker) -> list[tuple[Inspected, Json]]:
        if self._choice.name is None:
            names = [one.id for one in await docker.containers(*self._choice.labels)]
        else:
            drafts = await docker.containers(f"{TARGET_LABEL}={self._choice.shown}")
            names = [self._choice.name, *(one.id for one in drafts if DRAFT in one.shown)]
        found = [one for name in names if (one := await docker.container(name)) is not None]
        if self._choice.name is not None:
            # where nothing has that name, an engine takes it for the beginning of an id: `db` may be anybody's
            found = [one for one in found if one[0].shown == self._choice.name or DRAFT in one[0].shown]
        return found

    async def _known(self, docker: Docker, member: Member, *, newest: bool) -> Member:
        """The container with its release. Only the newest one's is new: others are on their way out."""
        kept = await self._disk.run(lambda: self._releases.find(member.image, member.fingerprint))
        if newest:
            seen = await self._seen(docker, member, kept.seen if kept is not None else None)
            kept = await self._disk.run(lambda: self._releases.note(seen))
        return Member(member.seen, member.whole, member.image, member.fingerprint, kept)

    async def _seen(self, docker: Docker, member: Member, before: Seen | None) -> Seen:
        found = member.seen
        how = msgspec.to_builtins(shape_of(found, member.whole))
        if before is not None:
            return msgspec.structs.replace(before, how=how)
        image = await docker.image(found.image)
        digests = (image.digests if image is not None else None) or []
        with understood("/containers/ID/json"):
            plain = msgspec.convert(member.whole, Container)
        called = version_of(plain, digests, ("tag", "digest")) or found.image
        return Seen(
            image=found.image,
            digest=digests[0].partition("@")[2] if digests else None,
            reference=found.settings.image,
            called=called,
            commit=found.labels.get(REVISION_LABEL),
            fingerprint=member.fingerprint,
            created_at=seconds(image.created) if image is not None else None,
            how=how,
        )

    # -- whether it could be put back

    async def readiness(self, to: str) -> Readiness:
        found = [
            await self._disk.run(self._keys.problem),
            await self._disk.run(self._releases.problem),
        ]
        if any(found):
            return Readiness(problems=tuple(problem for problem in found if problem))
        async with self._docker() as docker:
            scene = await self._look(docker)
            kept = await self._disk.run(lambda: self._releases.get(to))
            found += [f"container {draft.shown} was left behind by a revert" for draft in scene.drafts]
            if not scene.members:
                found.append(await self._disk.run(self._nothing))
            elif kept is None:
                found.append(f"release {_shown(to)} was never seen in place, so nothing is known of its configuration")
            else:
                found += await problems(docker, kept, [member.seen for member in scene.members])
        return Readiness(problems=tuple(dict.fromkeys(problem for problem in found if problem)))

    def _nothing(self) -> str:
        """That there is no container. One that removes itself leaves no trace of whether it crashed or was stopped."""
        told = f"nothing is deployed: there is no container of {self._choice.shown}"
        last = next(iter(self._releases.all()), None)
        if last is None or not shape(last).seen.host.auto_remove:
            return told
        return (
            f"{told}, and {last.version} was run with `--rm`, so that it is gone once it ends, by whatever: "
            "run it with `--restart` instead"
        )

    # -- putting it back

    async def revert(self, order: RevertOrder) -> None:
        async with self._keys.exclusive(self._disk), self._docker() as docker:
            scene = await self._look(docker)
            plan = await self._disk.run(self._plans.read)
            try:
                step = await self._disk.run(lambda: self._keys.judge(order, _in_place(scene, order)))
                if step is Next.NOTHING:
                    return
                if step is not Next.ADOPT:
                    await self._replace(docker, order, scene, plan)
            except Conflict:
                if scene.members:  # without them, what we began may be all that runs
                    await self._tidy(docker, scene)
                if plan is not None and plan.is_for(order):
                    await self._run_again(docker, plan, scene)
                raise
            at = self._clock.now()
            await self._disk.run(lambda: self._keys.begin(order, at))
            await self._disk.run(lambda: self._keys.finish(order, at))

    async def _replace(self, docker: Docker, order: RevertOrder, scene: Scene, plan: Plan | None) -> None:
        kept = await self._disk.run(lambda: self._releases.get(order.to))
        if kept is None:
            raise Permanent(f"release {_shown(order.to)} was never seen in place, so it cannot be put there")
        if plan is None or not plan.is_for(order):
            if await docker.image(kept.seen.image) is None:
                raise Permanent(f"the image of {order.to} is gone from this engine: pull {kept.seen.reference} again")
            await self._tidy(docker, scene)
            plan = _planned(order, scene, plan)
            wanted = plan
            await self._disk.run(lambda: self._plans.write(wanted))
        self._no_strangers(plan, scene)
        at = self._clock.now()
        await self._disk.run(lambda: self._keys.begin(order, at))
        bad = await self._disk.run(lambda: self._releases.get(order.expect))
        patience = Patience(self._config.healthy_within, self._config.stable_for, self._config.overlap)
        swap = Swap(docker, self._clock, self._choice.shown, plan, kept, bad, patience)
        if plan.failed is None:
            try:
                await swap.bring_up()
                await swap.take_over()
                return
            except (NotWell, Permanent) as error:
                plan = msgspec.structs.replace(plan, failed=f"{order.to} did not come back: {error}")
                failed = plan
                await self._disk.run(lambda: self._plans.write(failed))
        log.warning("restoring", service=self._service, version=order.expect, reason=plan.failed)
        trouble = await swap.restore()
        raise Permanent(f"{plan.failed}; {trouble or f'{order.expect} is in place as before'}")

    def _no_strangers(self, plan: Plan, scene: Scene) -> None:
        """Raises Conflict where a container came that neither was there when the revert began nor is ours."""
        ours = {replaced.id for replaced in plan.containers}
        for member in scene.members:
            restored = member.seen.labels.get(RESTORED_LABEL) == plan.key
            if member.seen.id not in ours and member.version != plan.to and not restored:
                raise Conflict(f"{member.version} was deployed again since the revert to {plan.to} began")

    async def _tidy(self, docker: Docker, scene: Scene) -> None:
        for draft in scene.drafts:
            await docker.remove(draft.id)
            log.warning("leftover_removed", service=self._service, container=draft.shown)

    async def _run_again(self, docker: Docker, plan: Plan, scene: Scene) -> None:
        """Start what the plan had stopped and nobody has removed since."""
        stopped = {replaced.id for replaced in plan.containers if replaced.ran}
        for member in scene.members:
            if member.seen.id in stopped and not member.seen.state.running:
                try:
                    await docker.start(member.seen.id)
                except (Permanent, Temporary) as error:
                    log.warning("not_restarted", service=self._service, container=member.seen.shown, error=str(error))

    async def settled(self, to: str) -> bool:
        async with self._docker() as docker:
            scene = await self._look(docker)
        if not scene.members or scene.drafts or await self._disk.run(lambda: self._keys.unfinished(to)):
            return False
        return all(member.version == to and self._stands(member.seen) for member in scene.members)

    def _stands(self, seen: Inspected) -> bool:
        began = seconds(seen.state.started)
        ran = began is not None and self._clock.now() - began >= self._config.stable_for
        return seen.well and (ran or seen.health == "healthy")

    # -- seeing deployments

    def changes(self) -> AsyncIterator[TargetChange]:
        filters = {"type": ["container"], "event": EVENTS}
        if self._choice.name is not None:
            filters["container"] = [self._choice.name]
        else:
            filters["label"] = [*self._choice.labels]
        return follow(self._docker, filters, self._stage, self._clock, self._config.poll, self._service)

    async def _stage(self) -> Stage | None:
        async with self._docker() as docker:
            scene = await self._look(docker)
        newest = scene.newest
        if newest is None or newest.version is None:
            return None
        complete = all(member.version == newest.version and member.seen.well for member in scene.members)
        return Stage(newest.version, complete=complete, since=seconds(newest.seen.created))

    async def close(self) -> None:
        self._disk.close()


def _in_place(scene: Scene, order: RevertOrder) -> str | None:
    """The release that a revert has to do with: what it is to undo, as long as a container of it is there."""
    versions = [member.version for member in scene.members]
    others = [version for version in versions if version not in (order.expect, order.to)]
    if others:
        return others[0]
    if order.expect in versions:
        return order.expect
    return order.to if versions else None


def _planned(order: RevertOrder, scene: Scene, before: Plan | None) -> Plan:
    """What is to be done; what an order before this one stopped, and was never finished, counts as running."""
    stopped = {one.id for one in before.containers if one.ran} if before is not None else set()
    return Plan(
        key=order.key,
        to=order.to,
        expect=order.expect,
        containers=tuple(
            Replaced(
                id=member.seen.id,
                name=member.seen.shown,
                number=member.seen.labels.get(COMPOSE_NUMBER),
                ran=member.seen.state.running or member.seen.state.restarting or member.seen.id in stopped,
                volumes=tuple(anonymous_volumes(member.seen)),
            )
            for member in scene.members
            if member.version == order.expect
        ),
    )


def _shown(text: str) -> str:
    return repr(text.encode(errors="backslashreplace").decode())[:200]
