"""Target `kubernetes`: a Deployment, StatefulSet, DaemonSet or Rollout, reverted to a revision that is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Literal, Self

import structlog
from pydantic import Field, model_validator

from rollbackd.adapter import Adapter
from rollbackd.errors import Conflict, Permanent
from rollbackd.kubernetes.access import Credentials
from rollbackd.kubernetes.api import Api
from rollbackd.kubernetes.kinds import ROLLOUT
from rollbackd.kubernetes.revisions import Revision
from rollbackd.kubernetes.subject import WORKLOADS, WorkloadOptions
from rollbackd.model import Release
from rollbackd.targets.base import Readiness, RevertOrder, Target, TargetChange, TargetContext
from rollbackd.targets.disk import Disk
from rollbackd.targets.kubernetes.argo_rollouts import RolloutSteps, Undo
from rollbackd.targets.kubernetes.colours import Colours
from rollbackd.targets.kubernetes.group import Group, Member
from rollbackd.targets.kubernetes.images import Images
from rollbackd.targets.kubernetes.memory import Memory
from rollbackd.targets.kubernetes.ownership import Owners, OwnersConfig
from rollbackd.targets.kubernetes.readiness import problems
from rollbackd.targets.kubernetes.revert import Reverter
from rollbackd.targets.kubernetes.road import IfManaged, Roads, Straight
from rollbackd.targets.kubernetes.rollout import Rollouts
from rollbackd.targets.kubernetes.switching import Switching
from rollbackd.targets.kubernetes.view import Look, View

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


class KubernetesConfig(WorkloadOptions):
    """What an operator writes under `target: {kubernetes: ...}`."""

    service: str | None = Field(default=None, pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Blue/green: a Service that is switched between Deployments; the release of the one it selects is in place."""
    switch: str | None = Field(default=None, max_length=317)
    """The label in the selector of that Service that is switched; left out, it is found out."""
    selector: str | None = Field(default=None, min_length=1, max_length=1000)
    """Labels, such as `app.kubernetes.io/part-of=checkout`.

    All Deployments, StatefulSets and DaemonSets that have them are released together, under one name, and reverted
    together.
    """
    container: str | None = None
    """The container whose image is the release; left out, the pod's default or first one."""
    version: Literal["image_tag", "label"] = "image_tag"
    """What a release is called by first.

    Its image's tag, or the pod template's label `app.kubernetes.io/version` (or `version`).
    """
    rollout_steps: RolloutSteps = "skip"
    """Of a Rollout alone: whether a release that was promoted before and is put back goes through the steps, pauses and
    analyses of a new one (`keep`), or is promoted fully at once (`skip`)."""
    if_managed: IfManaged = "owner"
    """What to do about a workload that Argo CD, Flux, Helm or another owner looks after, who would undo a revert.

    `owner` reverts over the owner, as far as `owners` says how, and refuses otherwise; `refuse` always refuses;
    `revert` reverts the workload itself all the same.
    """
    owners: OwnersConfig = OwnersConfig()
    """How reverts go over each owner."""

    @model_validator(mode="after")
    def _one_workload(self) -> Self:
        named = [*self.named_workloads, self.service, self.selector]
        if len([name for name in named if name is not None]) != 1:
            raise ValueError(f"name one workload: {', '.join(WORKLOADS)}, `service` or `selector`")
        if self.switch is not None and self.service is None:
            raise ValueError("`switch` is for a `service`")
        return self


class Kubernetes:
    """One workload of one cluster."""

    def __init__(self, config: KubernetesConfig, context: TargetContext) -> None:
        kind, name = config.workload
        self._api = Api(Credentials(config, context.clock), config.timeout)
        self._disk = Disk(context.service)
        memory = Memory(context.state_dir, f"{kind.name} {config.namespace or ''}/{name}")
        self._view = View(self._api, config, memory, self._disk, by=config.version, container=config.container)
        self._clock = context.clock
        self._images = Images(self._view, config.container)
        self._straight: Straight = Reverter(self._view, context.clock, context.service)
        if kind is ROLLOUT:
            self._straight = Undo(self._view, context.clock, context.service, config.rollout_steps)
        self._owners = Owners(config.owners, config, self._view, self._straight, context)
        self._roads = Roads(config.if_managed, self._straight, self._owners.over, self._owners.claim)
        self._rollouts = Rollouts(self._view, context.clock, context.service)

    async def current(self) -> Release | None:
        look = await self._view.look_once_taken_up(self._clock)
        if look is None:
            return None
        await self._images.learn(look)
        return await self._release(look, look.current)

    async def history(self) -> list[Release]:
        look = await self._view.look_once_taken_up(self._clock)
        if look is None:
            return []
        return [await self._release(look, revision) for revision in look.revisions]

    async def _release(self, look: Look, revision: Revision) -> Release:
        return Release(
            version=look.names[revision.identity],
            digest=await self._images.digest(revision),
            commit=revision.commit,
            created_at=revision.created_at,
        )

    async def readiness(self, to: str) -> Readiness:
        try:
            found = await problems(self._view, to, self._roads, self._clock)
        except Permanent as error:
            found = [str(error)]
        return Readiness(problems=tuple(found))

    async def revert(self, order: RevertOrder) -> None:
        workload = await self._view.workload()
        if workload is None:
            raise Conflict(f"{await self._view.what()} is gone: somebody else deleted it")
        road = await self._roads.of(workload)
        await road.carry_out(order)

    async def settled(self, to: str) -> bool:
        look = await self._view.look()
        if look is None or look.version != to or look.workload.spec.paused:
            return False
        if self._view.kind.progress(look.workload) != "complete":
            await self._straight.unblock(look)
            return False
        pods = await self._view.pods(look.workload, look.revisions)
        meant = [pod for pod in pods if self._view.kind.counts(look.workload, pod)]
        if not all(self._view.is_of(pod, look.current) for pod in meant):
            return False
        await self._images.check(look, meant)
        road = await self._roads.of_late(look.workload)
        return await road.settled(look)

    def changes(self) -> AsyncIterator[TargetChange]:
        return self._rollouts.changes()

    async def close(self) -> None:
        await self._roads.close()
        await self._owners.close()
        await self._api.close()
        self._disk.close()


def build(config: KubernetesConfig, context: TargetContext) -> Target:
    """A target on this configuration; nothing is asked before it is used."""
    if config.service is not None:
        return _switching(config, config.service, context)
    return _group(config, config.selector, context) if config.selector is not None else Kubernetes(config, context)


def _switching(config: KubernetesConfig, service: str, context: TargetContext) -> Switching:
    api, disk = Api(Credentials(config, context.clock), config.timeout), Disk(context.service)
    colours = Colours(
        api, config, service, config.switch, context.state_dir, disk, by=config.version, container=config.container
    )
    return Switching(api, colours, disk, context.clock, context.service, refuse=config.if_managed != "revert")


def _group(config: KubernetesConfig, selector: str, context: TargetContext) -> Group:
    api, disk = Api(Credentials(config, context.clock), config.timeout), Disk(context.service)

    def opens(member: Member) -> Target:
        alone = config.model_copy(update={"selector": None, member.kind.option: member.name})
        return Kubernetes(alone, replace(context, state_dir=context.state_dir / f"{member.kind.option}-{member.name}"))

    return Group(api, config.namespace, selector, opens, disk, context.clock, context.state_dir)


def place(config: KubernetesConfig) -> str:
    """What no two services may revert."""
    if config.service is not None:
        named = f"Service {config.service}"
    elif config.selector is not None:
        named = f"selector {config.selector}"
    else:
        kind, name = config.workload
        named = f"{kind.name} {name}"
    return f"{config.kubeconfig} {config.context} {config.namespace} {named}"


ADAPTER: Adapter[KubernetesConfig, TargetContext, Target] = Adapter(
    KubernetesConfig, build, shorthand="deployment", place=place
)
