"""One workload as the API server tells of it: its revisions, which of them is in place, and its pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from rollbackd.errors import Temporary
from rollbackd.fields import Duration
from rollbackd.kubernetes.additions import covers
from rollbackd.kubernetes.api import Api, NotThere
from rollbackd.kubernetes.kinds import DAEMON_SET, DEPLOYMENT, ROLLOUT, STATEFUL_SET, Kind
from rollbackd.kubernetes.kubeconfig import ClusterOptions
from rollbackd.kubernetes.objects import read
from rollbackd.kubernetes.pods import Pod
from rollbackd.kubernetes.revisions import (
    Revision,
    belongs,
    of_controller_revision,
    of_replica_set,
    plain_template,
)
from rollbackd.kubernetes.workloads import ControllerRevision, ReplicaSet, Workload

WORKLOADS = {f"`{kind.option}`": kind for kind in (DEPLOYMENT, STATEFUL_SET, DAEMON_SET, ROLLOUT)}
"""How each kind is written in a configuration."""


class WorkloadOptions(ClusterOptions):
    """Which workload of which cluster."""

    namespace: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Where the workload is; left out, the namespace of the kubeconfig's context or of rollbackd's own pod."""
    deployment: str | None = Field(default=None, pattern=r"^[a-z0-9][-a-z0-9.]{0,252}$")
    """The Deployment's name; one of these four is needed."""
    statefulset: str | None = Field(default=None, pattern=r"^[a-z0-9][-a-z0-9.]{0,252}$")
    """The StatefulSet's name."""
    daemonset: str | None = Field(default=None, pattern=r"^[a-z0-9][-a-z0-9.]{0,252}$")
    """The DaemonSet's name."""
    rollout: str | None = Field(default=None, pattern=r"^[a-z0-9][-a-z0-9.]{0,252}$")
    """The name of the Rollout, of Argo Rollouts."""
    timeout: Duration = Field(default=10.0, gt=0)
    """How long the API server may take for one answer."""

    @model_validator(mode="after")
    def _one_workload(self) -> Self:
        if len([name for name in self.named_workloads if name is not None]) != 1:
            raise ValueError(f"name one workload: {', '.join(WORKLOADS)}")
        return self

    @property
    def named_workloads(self) -> tuple[str | None, ...]:
        """The names, in the order of WORKLOADS; one of them is there."""
        return (self.deployment, self.statefulset, self.daemonset, self.rollout)

    @property
    def workload(self) -> tuple[Kind, str]:
        """Its kind and name."""
        named = zip(WORKLOADS.values(), self.named_workloads, strict=True)
        return next((kind, name) for kind, name in named if name is not None)


class NotTakenUp(Temporary):
    """The controllers have not seen the newest change yet, so that what is in place cannot be told."""


class Subject:
    """Reads one workload; changes nothing."""

    def __init__(self, api: Api, options: WorkloadOptions) -> None:
        self.api, self._namespace = api, options.namespace
        self.kind, self.name = options.workload

    async def namespace(self) -> str:
        """The configured one, else that of the credentials."""
        return self._namespace or await self.api.namespace()

    async def what(self) -> str:
        """The workload in words."""
        return f"{self.kind.name} {await self.namespace()}/{self.name}"

    async def path(self) -> str:
        """The workload's address."""
        return f"{await self.folder()}/{self.name}"

    async def folder(self) -> str:
        """The address of all workloads of its kind."""
        return f"/apis/{self.kind.api}/namespaces/{await self.namespace()}/{self.kind.plural}"

    async def _kept(self, plural: str) -> str:
        """The address of what revisions are kept in."""
        return f"/apis/apps/v1/namespaces/{await self.namespace()}/{plural}"

    async def workload(self) -> Workload | None:
        """The workload; None where there is none."""
        try:
            return await self.api.get(await self.path(), Workload, await self.what())
        except NotThere:
            return None

    async def revisions(self, workload: Workload) -> list[Revision]:
        """What is kept, newest first."""
        query = {"labelSelector": workload.spec.selector.text()}
        if self.kind.in_replica_sets:
            sets, _ = await self.api.all(await self._kept("replicasets"), ReplicaSet, "ReplicaSets", query)
            own = [of_replica_set(one, self.kind) for one in sets if belongs(one.metadata, workload.metadata.uid)]
            found = [one for one in own if one is not None]
        else:
            path = await self._kept("controllerrevisions")
            kept, _ = await self.api.all(path, ControllerRevision, "ControllerRevisions", query)
            mine = [one for one in kept if belongs(one.metadata, workload.metadata.uid)]
            found = [of_controller_revision(one, self.kind) for one in mine]
        return sorted(found, key=lambda one: one.number, reverse=True)

    async def current(self, workload: Workload, revisions: Sequence[Revision]) -> Revision:
        """The one in place: what the workload's template asks for.

        Raises NotTakenUp while the controllers have not seen the newest spec.
        """
        found = self._newest(workload, revisions)
        if found is None:
            raise NotTakenUp(f"{await self.what()}: its controllers have not taken up the newest change yet")
        return found

    def _newest(self, workload: Workload, revisions: Sequence[Revision]) -> Revision | None:
        if not workload.observed or not revisions:
            return None
        if self.kind is STATEFUL_SET:
            return next((one for one in revisions if one.own == workload.status.update_revision), None)
        newest = revisions[0]
        if self.kind is ROLLOUT:
            found = next((one for one in revisions if one.identity == workload.status.current_pod_hash), None)
            if found is None or not self._told_by_template(workload, found, revisions):
                return None
            newest = found
        if self.kind.in_replica_sets and str(newest.number) != workload.metadata.annotations.get(self.kind.number_note):
            return None  # one of the two was read before the controller wrote to both
        return newest

    def _told_by_template(self, workload: Workload, found: Revision, revisions: Sequence[Revision]) -> bool:
        """Whether a Rollout's template may well be that of `found`: not where it is another's.

        Its controller says that it has observed a spec a moment before it says which revision that is.
        """
        if workload.spec.workload_ref is not None:
            return True
        template = plain_template(read(workload.spec.template, dict[str, object], workload.metadata.name), self.kind)
        meant = [one for one in revisions if covers(one.template, template)]
        return not meant or found in meant

    # -- pods

    async def pods(self, workload: Workload, revisions: Sequence[Revision]) -> list[Pod]:
        """The workload's pods that run, or will."""
        query = {"labelSelector": workload.spec.selector.text()}
        pods, _ = await self.api.all(f"/api/v1/namespaces/{await self.namespace()}/pods", Pod, "pods", query)
        owners = {one.uid for one in revisions} if self.kind.in_replica_sets else {workload.metadata.uid}
        return [pod for pod in pods if not pod.over and any(belongs(pod.metadata, uid) for uid in owners)]

    async def sample(self, workload: Workload, revision: Revision, most: int) -> list[Pod]:
        """A few of the revision's pods."""
        label = f"{self.kind.pod_label}={revision.pod_mark}"
        selector = ",".join(part for part in (workload.spec.selector.text(), label) if part)
        path = f"/api/v1/namespaces/{await self.namespace()}/pods"
        return await self.api.some(path, Pod, "pods", {"labelSelector": selector}, most)

    def is_of(self, pod: Pod, revision: Revision) -> bool:
        """Whether the pod is one of this revision."""
        return pod.metadata.labels.get(self.kind.pod_label) == revision.pod_mark
