"""One workload as the API server tells of it: its revisions, which of them is in place, and its pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from rollbackd.errors import Temporary
from rollbackd.fields import Duration
from rollbackd.kubernetes.api import Api, NotThere
from rollbackd.kubernetes.kinds import DAEMON_SET, DEPLOYMENT, STATEFUL_SET, Kind
from rollbackd.kubernetes.kubeconfig import ClusterOptions
from rollbackd.kubernetes.pods import Pod
from rollbackd.kubernetes.revisions import REVISION, Revision, belongs, of_controller_revision, of_replica_set
from rollbackd.kubernetes.workloads import ControllerRevision, ReplicaSet, Workload

WORKLOADS = {f"`{kind.option}`": kind for kind in (DEPLOYMENT, STATEFUL_SET, DAEMON_SET)}
"""How each kind is written in a configuration."""


class WorkloadOptions(ClusterOptions):
    """Which workload of which cluster."""

    namespace: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Where the workload is; left out, the namespace of the kubeconfig's context or of rollbackd's own pod."""
    deployment: str | None = Field(default=None, pattern=r"^[a-z0-9][-a-z0-9.]{0,252}$")
    """The Deployment's name; one of these three is needed."""
    statefulset: str | None = Field(default=None, pattern=r"^[a-z0-9][-a-z0-9.]{0,252}$")
    """The StatefulSet's name."""
    daemonset: str | None = Field(default=None, pattern=r"^[a-z0-9][-a-z0-9.]{0,252}$")
    """The DaemonSet's name."""
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
        return (self.deployment, self.statefulset, self.daemonset)

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

    async def folder(self, plural: str | None = None) -> str:
        """The address of all workloads of a kind."""
        return f"/apis/apps/v1/namespaces/{await self.namespace()}/{plural or self.kind.plural}"

    async def workload(self) -> Workload | None:
        """The workload; None where there is none."""
        try:
            return await self.api.get(await self.path(), Workload, await self.what())
        except NotThere:
            return None

    async def revisions(self, workload: Workload) -> list[Revision]:
        """What is kept, newest first."""
        query = {"labelSelector": workload.spec.selector.text()}
        if self.kind is DEPLOYMENT:
            sets, _ = await self.api.all(await self.folder("replicasets"), ReplicaSet, "ReplicaSets", query)
            own = [of_replica_set(one) for one in sets if belongs(one.metadata, workload.metadata.uid)]
            found = [one for one in own if one is not None]
        else:
            path = await self.folder("controllerrevisions")
            kept, _ = await self.api.all(path, ControllerRevision, "ControllerRevisions", query)
            mine = [one for one in kept if belongs(one.metadata, workload.metadata.uid)]
            found = [of_controller_revision(one, self.kind) for one in mine]
        return sorted(found, key=lambda one: one.number, reverse=True)

    async def current(self, workload: Workload, revisions: Sequence[Revision]) -> Revision:
        """The one in place: the newest. Raises NotTakenUp while the controllers have not seen the newest spec."""
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
        if self.kind is DEPLOYMENT and str(newest.number) != workload.metadata.annotations.get(REVISION):
            return None  # one of the two was read before the controller wrote to both
        return newest

    # -- pods

    async def pods(self, workload: Workload, revisions: Sequence[Revision]) -> list[Pod]:
        """The workload's pods that run, or will."""
        query = {"labelSelector": workload.spec.selector.text()}
        pods, _ = await self.api.all(f"/api/v1/namespaces/{await self.namespace()}/pods", Pod, "pods", query)
        owners = {one.uid for one in revisions} if self.kind is DEPLOYMENT else {workload.metadata.uid}
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
