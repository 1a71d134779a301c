"""Putting containers of an earlier release in the place of others: the old one runs before the bad one goes.

Every step looks at what is there and does what is missing, so that it can be done again from the beginning after it was
cut off anywhere: what the engine shows is the journal. A container that is made gets the order's key as a label, and a
name of its own until it takes the place of the one it replaces.

1. For each container: its replacement is made, the container is stopped first if both want the same port or address,
   the replacement is started and watched until it is well, and the container is stopped.
2. For each container: it is removed, and the replacement takes its name.

Until 2 begins the situation before can be restored, and is where a replacement does not become well.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from rollbackd.aiokit import Clock
from rollbackd.docker.commands import Json, Missing, Refused
from rollbackd.docker.engine import EngineFault
from rollbackd.errors import Permanent
from rollbackd.targets.docker_engine import Docker
from rollbackd.targets.docker_plan import Plan, Replaced
from rollbackd.targets.docker_shape import (
    COMPOSE_NUMBER,
    KEY_LABEL,
    NAME_LABEL,
    RESTORED_LABEL,
    TARGET_LABEL,
    Inspected,
    Shape,
    given,
)
from rollbackd.targets.kept_releases import Kept

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.docker")

GONE_WITHIN_S = 10.0
"""How long the removal of a container may take that is under way already; larger ones are tried again later."""
_CONFLICT = 409
LOOK_EVERY_S = 0.1
START_TRIES = 3


class NotWell(Exception):
    """A replacement does not run as it should; the message says what it does instead."""


@dataclass(frozen=True)
class Patience:
    """How long a replacement may take to become well, and for how long one without a check of its own has to run.

    `overlap` is whether both may run at a time; None: where they write to nothing in common.
    """

    within: float
    stable_for: float
    overlap: bool | None


def shape(kept: Kept) -> Shape:
    """How to make a container of this release."""
    how = kept.seen.how
    config, host, networks = how.get("config"), how.get("host"), how.get("networks")
    if not (isinstance(config, dict) and isinstance(host, dict) and isinstance(networks, dict)):
        raise Permanent(f"what is kept of release {kept.version} is not how a container is made")
    return Shape(config, host, networks)


class Swap:
    """One revert on one engine. Its methods raise what `Docker` raises."""

    def __init__(
        self, docker: Docker, clock: Clock, target: str, plan: Plan, to: Kept, bad: Kept | None, patience: Patience
    ) -> None:
        self._docker, self._clock, self._target, self._plan = docker, clock, target, plan
        self._to, self._bad, self._patience = to, bad, patience
        self._shape = shape(to)
        docker.hidden |= {secret for kept in (to, bad) if kept is not None for secret in given(shape(kept).config)}

    async def bring_up(self) -> None:
        """Have a replacement of each container run, and the container stopped. Raises NotWell."""
        for replaced in self._plan.containers:
            if await self._in_place(replaced) is None:
                await self._bring_up(replaced)

    async def take_over(self) -> None:
        """Remove each container, and give its name to its replacement. Raises NotWell."""
        for replaced in self._plan.containers:
            if await self._in_place(replaced) is not None:
                continue
            draft = self._plan.draft_name(replaced.name)
            if await self._docker.container(draft) is None:
                raise NotWell("it was just started, and is gone: somebody removed it")
            await self._remove(replaced)
            await self._docker.rename(draft, replaced.name)
            log.info("container_replaced", container=replaced.name, version=self._to.version, was=self._plan.expect)

    async def restore(self) -> str:
        """Have the situation before again; what could not be restored, as a sentence, or nothing."""
        trouble = []
        for replaced in self._plan.containers:
            await self._docker.remove(self._plan.draft_name(replaced.name))
            if not replaced.ran:
                continue
            try:
                await self._start_again(replaced)
            except (Permanent, EngineFault) as error:
                if isinstance(error, EngineFault) and not error.status:
                    raise  # no answer: it will be tried again
                trouble.append(f"container {replaced.name} could not be started again: {error}")
        return "; ".join(trouble)

    # -- one container

    async def _remove(self, replaced: Replaced) -> None:
        """Remove it. One that removes itself (`--rm`) is at it already, and has its name until it is done."""
        try:
            await self._docker.remove(replaced.id)
        except EngineFault as error:
            if error.status != _CONFLICT:
                raise
            ends = self._clock.monotonic() + GONE_WITHIN_S
            while await self._docker.container(replaced.id) is not None:
                if self._clock.monotonic() >= ends:
                    raise
                await self._clock.sleep(LOOK_EVERY_S)

    async def _in_place(self, replaced: Replaced) -> Inspected | None:
        """Its replacement, where that has its name already."""
        found = await self._docker.container(replaced.name)
        return found[0] if found is not None and found[0].labels.get(KEY_LABEL) == self._plan.key else None

    async def _bring_up(self, replaced: Replaced) -> None:
        bad = await self._docker.container(replaced.id)
        draft = await self._draft(replaced)
        runs = bad is not None and (bad[0].state.running or bad[0].state.restarting)
        if bad is not None and runs and not self._both_can_run(bad[0], draft):
            log.info("container_stopped_first", container=replaced.name, version=self._plan.expect)
            await self._docker.stop(bad[0])
            runs = False
        await self._start(draft)
        await self._until_well(draft)
        if bad is not None and runs:
            await self._docker.stop(bad[0])

    async def _draft(self, replaced: Replaced) -> Inspected:
        """The replacement under its own name, in all its networks; made where it is not there."""
        name = self._plan.draft_name(replaced.name)
        found = await self._docker.container(name)
        if found is None:
            await self._docker.create(name, await self._body(self._to, replaced, KEY_LABEL))
            found = await self._docker.container(name)
        if found is None or found[0].labels.get(KEY_LABEL) != self._plan.key:
            raise Permanent(f"container {name} is in the way: remove it")
        there = found[0].attached.networks or {}
        for network, endpoint in self._shape.networks.items():
            if network not in there:
                await self._docker.connect(network, found[0].id, endpoint)
        return found[0]

    async def _body(self, kept: Kept, replaced: Replaced, key_label: str) -> Json:
        labels = {NAME_LABEL: replaced.name, TARGET_LABEL: self._target, key_label: self._plan.key}
        if replaced.number is not None:
            labels[COMPOSE_NUMBER] = replaced.number
        named = await self._docker.image(kept.seen.reference)
        image = kept.seen.reference if named is not None and named.id == kept.seen.image else kept.seen.image
        return shape(kept).body(image, labels, replaced.volumes)

    def _both_can_run(self, bad: Inspected, draft: Inspected) -> bool:
        if self._patience.overlap is False or clash(bad, self._shape.seen):
            return False
        return self._patience.overlap is True or not bad.writes_to & draft.writes_to

    async def _start(self, draft: Inspected) -> None:
        """Start it. Raises NotWell where the engine cannot, and says so again and again."""
        for tried in range(1, START_TRIES + 1):
            try:
                await self._docker.start(draft.id)
                return
            except (Missing, Refused) as error:
                raise NotWell(f"it cannot be started: {error}") from None
            except EngineFault as error:
                if not error.status:
                    raise
                if tried == START_TRIES:
                    raise NotWell(f"it cannot be started: {error}") from None
            await self._clock.sleep(0.5 * tried)

    async def _until_well(self, draft: Inspected) -> None:
        """Return once it is healthy by its own check or, without one, has run for a while. Raises NotWell."""
        ends = self._clock.monotonic() + self._patience.within
        ran_since, started = self._clock.monotonic(), ""
        while True:
            found = await self._docker.container(draft.id)
            now = self._clock.monotonic()
            if found is None:
                raise NotWell("it ended, and was removed as it wants to be")
            seen = found[0]
            if (fault := _fault(seen)) is not None:
                raise NotWell(self._docker.presentable(fault))
            if seen.state.started != started:
                ran_since, started = now, seen.state.started
            if seen.well and (seen.health == "healthy" or now - ran_since >= self._patience.stable_for):
                return
            if now >= ends:
                how = self._docker.presentable(_how(seen))
                raise NotWell(f"it was not well within {self._patience.within:g} s: {how}")
            await self._clock.sleep(LOOK_EVERY_S)

    async def _start_again(self, replaced: Replaced) -> None:
        """Have it run: as it is or, where it is gone (it removes itself, or was replaced already), made again."""
        there = await self._docker.container(replaced.id)
        await self._docker.start(replaced.id if there is not None else await self._made_again(replaced))

    async def _made_again(self, replaced: Replaced) -> str:
        there = await self._docker.container(replaced.name)
        labels = there[0].labels if there is not None else {}
        if there is not None and labels.get(RESTORED_LABEL) == self._plan.key:
            return there[0].id
        if self._bad is None:
            raise Permanent(f"how {self._plan.expect} was made is not kept any more")
        if there is not None and labels.get(KEY_LABEL) == self._plan.key:
            await self._docker.remove(there[0].id)
        return await self._docker.create(replaced.name, await self._body(self._bad, replaced, RESTORED_LABEL))


def clash(one: Inspected, other: Inspected) -> bool:
    """Whether the two cannot run at the same time on one host: a port or an address of their own that both want."""
    if one.published & other.published:
        return True
    if "host" in (one.host.network, other.host.network):
        return True  # what it listens on, nobody says
    return bool(_addresses(one) & _addresses(other))


def _addresses(found: Inspected) -> set[tuple[str, str]]:
    fixed = set()
    for network, endpoint in (found.attached.networks or {}).items():
        asked = (endpoint or {}).get("IPAMConfig")
        if isinstance(asked, dict):
            fixed |= {(network, str(asked[kind])) for kind in ("IPv4Address", "IPv6Address") if asked.get(kind)}
    return fixed


def _fault(seen: Inspected) -> str | None:
    """Why it will not become well; None where it is or may still."""
    if seen.health == "unhealthy" and seen.state.running:
        return "its own health check fails"
    if seen.state.running or seen.state.restarting or seen.state.status == "created":
        return None
    return _how(seen)


def _how(seen: Inspected) -> str:
    state = seen.state
    again = f", {seen.restarts} times started again" if seen.restarts else ""
    if state.running and not state.restarting:
        health = "but not for long enough" if seen.health == "none" else f"and its health is {seen.health}"
        return f"it runs, {health}{again}"
    why = "it ran out of memory" if state.out_of_memory else f"it ended with exit code {state.exit_code}"
    return f"{why}{again}{f' ({state.error[:200]})' if state.error else ''}"
