"""The road over Helm: a workload of a Helm release goes back by `helm rollback`, and the whole release with it.

helm takes no condition along, so the history is read right before and right after, and what somebody else did in
between is told. What makes it happen once: the key is written down, with the revision that was the newest then, before
helm runs; later the history itself tells what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.kubernetes.kubeconfig import ClusterOptions
from rollbackd.kubernetes.refusals import without_values
from rollbackd.targets.base import RevertOrder, TargetContext
from rollbackd.targets.keys import Next, SpentKeys
from rollbackd.targets.kubernetes.helm_history import History, Plan
from rollbackd.targets.kubernetes.helm_match import images
from rollbackd.targets.kubernetes.helm_program import GRACE_S, Entry, Helm, HelmOptions
from rollbackd.targets.kubernetes.owners import Keeper
from rollbackd.targets.kubernetes.rights import Right, lacking
from rollbackd.targets.kubernetes.road import Closed, Opens, Road
from rollbackd.targets.kubernetes.view import Look, View

ATTEMPTS = 3
"""How often helm may fail over one revert: each time leaves a revision in the history."""
REMEMBER_S = 60.0
"""For how long a plan is good enough for telling whether a revert would work."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


@dataclass(frozen=True)
class Remembered:
    """A plan that was found a while ago."""

    at: float
    wanted: tuple[str, str]
    plan: Plan


def opens(options: HelmOptions, cluster: ClusterOptions, view: View, straight: Road, context: TargetContext) -> Opens:
    """What makes the road over a Helm release that a workload names."""

    def one(kept_by: Keeper) -> Road:
        try:
            helm = Helm(options, cluster, kept_by.name, kept_by.namespace or "")
        except Permanent:
            return Closed(kept_by)
        keys = SpentKeys(context.state_dir / "helm")
        return HelmRoad(helm, view, straight, keys, context.clock, context.service)

    return one


class HelmRoad:
    """One Helm release. `straight` finishes what helm does not do: the key, and pods that a StatefulSet is stuck on."""

    def __init__(self, helm: Helm, view: View, straight: Road, keys: SpentKeys, clock: Clock, service: str) -> None:
        self._helm, self._view, self._straight = helm, view, straight
        self._keys, self._disk, self._clock, self._service = keys, view.disk, clock, service
        self._history = History(helm, view, clock)
        self._remembered: Remembered | None = None
        self._given_up: int | None = None
        """The revision that our own helm left pending when it ended."""

    async def problems(self, look: Look, to: str) -> list[str]:
        """What helm would stumble over. Raises Temporary while somebody else's helm is at it."""
        if why := self._helm.problem():
            return [why]
        found = await self._straight.problems(look, to)
        # whether helm itself may read its history shows when it does
        secrets = [Right(verb, "", "secrets") for verb in ("create", "update")]
        lacks = await lacking(self._view.api, self._helm.namespace, secrets)
        found += [one.replace("docs/targets/kubernetes.md", "docs/targets/helm.md") for one in lacks]
        if look.workload.spec.paused:
            found.append(_paused(self._view.name))
        if why := await self._disk.run(self._keys.problem):
            found.append(why)
        if look.find(to) is not None and to != look.version:  # no older Helm revision holds what is in place
            await self._plan_lately(look, to)
        return found

    async def _plan_lately(self, look: Look, to: str) -> Plan:
        now, wanted, last = self._clock.monotonic(), (look.version, to), self._remembered
        if last is not None and last.wanted == wanted and now - last.at < REMEMBER_S:
            return last.plan
        plan = await self._history.plan(look, to)
        if last is None or (last.plan, last.wanted) != (plan, wanted):
            log.info("helm_rollback_possible", service=self._service, release=self._helm.release, **plan.told)
        self._remembered = Remembered(now, wanted, plan)
        return plan

    async def settled(self, look: Look) -> bool:  # noqa: ARG002  the workload itself was looked at before
        """Whether Helm's newest revision is deployed, too."""
        newest = (await self._helm.history())[0]
        if newest.status == "failed":
            raise Permanent(
                f"the workload went back, but revision {newest.revision} of Helm release {self._helm.release} is "
                f"`failed`: {_short(newest)}; see what of the release is as it should be"
            )
        return newest.status == "deployed"

    async def close(self) -> None:
        """Nothing is open between two calls."""

    async def carry_out(self, order: RevertOrder) -> None:
        """Go on from wherever the order is."""
        async with self._keys.exclusive(self._disk):
            look = await self._view.look_to_revert(self._clock)
            mark = await self._disk.run(lambda: self._keys.mark_of(order.key))
            if mark is None:
                await self._begin(order, look)
            else:
                await self._go_on(order, look, mark)
            await self._finish(order)

    async def _begin(self, order: RevertOrder, look: Look) -> None:
        step = await self._disk.run(lambda: self._keys.judge(order, look.version))
        if step is Next.ADOPT:
            await self._disk.run(lambda: self._keys.begin(order, self._clock.now()))
            return
        if look.workload.spec.paused:
            raise Conflict(_paused(self._view.name))
        plan = await self._history.plan(look, order.to)
        mark = f"{plan.newest} {plan.goal}"
        await self._disk.run(lambda: self._keys.begin(order, self._clock.now(), mark))
        log.info("helm_rolling_back", service=self._service, release=self._helm.release, version=order.to, **plan.told)
        await self._roll_back(order, plan.newest, plan.newest, plan.goal)

    async def _go_on(self, order: RevertOrder, look: Look, mark: str) -> None:
        """This order was begun before; what Helm has done of it, its history tells."""
        if not mark:
            await self._disk.run(lambda: self._keys.judge(order, look.version))
            return
        since, goal = (int(part) for part in mark.split())
        entries = await self._helm.history()
        newest = entries[0]
        ours = newest.revision > since and await self._history.holds(entries, goal)
        back = ours and _like(look, order.to)
        step = await self._disk.run(lambda: self._keys.judge(order, order.to if back else look.version, mark))
        if newest.revision > since and not ours and step is not Next.NOTHING:
            raise _overtaken(newest, order)
        if newest.revision == since and step is Next.SWITCH:
            await self._roll_back(order, since, since, goal)
        elif ours and newest.pending:
            if newest.revision != self._given_up and newest.age(self._clock.now()) < self._helm.timeout + GRACE_S:
                raise Temporary(f"helm is still rolling {self._helm.release} back: {newest.status}")
            await self._roll_back(order, since, newest.revision, goal)
        elif ours and newest.status == "failed":
            await self._roll_back(order, since, newest.revision, goal)

    async def _roll_back(self, order: RevertOrder, since: int, newest: int, goal: int) -> None:
        """Run helm, with `newest` the newest revision; `since` was it before the first attempt."""
        before = (await self._helm.history())[0]
        if before.revision != newest:
            raise _overtaken(before, order)
        if newest - since >= ATTEMPTS:
            raise Permanent(
                f"helm failed {ATTEMPTS} times to roll {self._helm.release} back to {goal}: {_short(before)}"
            )
        try:
            await self._helm.roll_back(goal)
        finally:
            self._given_up = newest + 1
        after = (await self._helm.history())[0]
        if after.revision != newest + 1:
            raise Conflict(
                f"somebody ran helm on {self._helm.release} at the same moment: revision {after.revision} is there "
                f"where the rollback made {newest + 1}; see that the right one is in place"
            )
        log.info(
            "helm_rolled_back",
            service=self._service,
            release=self._helm.release,
            version=order.to,
            revision=goal,
            as_revision=after.revision,
        )

    async def _finish(self, order: RevertOrder) -> None:
        """Note the key where the effect is, take away what helm leaves of others, and delete pods that are stuck."""
        look = await self._view.look_to_revert(self._clock)
        if not _like(look, order.to):
            raise Conflict(f"{look.version} is in place, not {order.to}: somebody else deployed after helm rolled back")
        await self._straight.carry_out(msgspec.structs.replace(order, expect=look.version))
        await self._disk.run(lambda: self._keys.finish(order, self._clock.now()))


def _like(look: Look, version: str) -> bool:
    """Whether the release in place is that one, or has its images and differs by what somebody added beside Helm."""
    to = look.find(version)
    return look.version == version or (to is not None and images(look.current.template) == images(to.template))


def _overtaken(newest: Entry, order: RevertOrder) -> Conflict:
    return Conflict(
        f"somebody else used helm meanwhile: revision {newest.revision} ({_short(newest)}) came after what was to "
        f"be taken back to {order.to}"
    )


def _paused(name: str) -> str:
    return f"Deployment {name} is paused, and helm resumes nothing: resume it by `kubectl rollout resume`"


def _short(entry: Entry) -> str:
    words = without_values(" ".join(entry.description.split()))
    return "".join(sign if sign.isprintable() else "?" for sign in words[:300]) or entry.status
