"""Deployments, StatefulSets, DaemonSets and their revisions, as far as we look at them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rollbackd.kubernetes.objects import Condition, Meta, Selector


class RollingUpdate(msgspec.Struct, frozen=True):
    """How far a StatefulSet's update goes: pods with an ordinal below `partition` are left alone."""

    partition: int = 0


class UpdateStrategy(msgspec.Struct, frozen=True, rename="camel"):
    """How a StatefulSet or DaemonSet replaces its pods."""

    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class WorkloadSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The spec of a Deployment, StatefulSet or DaemonSet. `template` is kept as it came, to be put back as it came."""

    template: msgspec.Raw
    selector: Selector = Selector()
    replicas: int = 1
    paused: bool = False
    update_strategy: UpdateStrategy = UpdateStrategy()


class WorkloadStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The status of a Deployment, StatefulSet or DaemonSet."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    update_revision: str = ""
    desired_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    conditions: Sequence[Condition] = ()


class Workload(msgspec.Struct, frozen=True):
    """A Deployment, StatefulSet or DaemonSet."""

    metadata: Meta
    spec: WorkloadSpec
    status: WorkloadStatus = WorkloadStatus()

    @property
    def observed(self) -> bool:
        """Whether the controllers have seen the newest spec."""
        return self.status.observed_generation >= self.metadata.generation


class ReplicaSetSpec(msgspec.Struct, frozen=True):
    """What a ReplicaSet keeps of a Deployment's revision."""

    template: msgspec.Raw


class ReplicaSet(msgspec.Struct, frozen=True):
    """A revision of a Deployment."""

    metadata: Meta
    spec: ReplicaSetSpec


class ControllerRevision(msgspec.Struct, frozen=True):
    """A revision of a StatefulSet or DaemonSet. `data` is a patch of the workload."""

    metadata: Meta
    revision: int = 0
    data: msgspec.Raw = msgspec.Raw(b"{}")


class PatchSpec(msgspec.Struct, frozen=True):
    """What a ControllerRevision changes."""

    template: dict[str, object]


class RevisionData(msgspec.Struct, frozen=True):
    """The `data` of a ControllerRevision."""

    spec: PatchSpec
