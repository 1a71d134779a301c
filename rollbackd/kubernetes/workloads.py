"""Deployments, StatefulSets, DaemonSets, Argo Rollouts and their revisions, as far as we look at them."""

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


class Ordinals(msgspec.Struct, frozen=True):
    """How a StatefulSet numbers its pods: from `start` on."""

    start: int = 0


class Canary(msgspec.Struct, frozen=True, rename="camel"):
    """How a Rollout goes step by step. `traffic_routing` is there where a mesh or ingress leads the traffic."""

    traffic_routing: dict[str, object] | None = None


class BlueGreen(msgspec.Struct, frozen=True, rename="camel"):
    """How a Rollout switches a Service from one release to the other."""

    active_service: str = ""


class Strategy(msgspec.Struct, frozen=True, rename="camel"):
    """How a Rollout replaces its pods: by one of the two."""

    canary: Canary | None = None
    blue_green: BlueGreen | None = None


class WorkloadRef(msgspec.Struct, frozen=True, rename="camel"):
    """Where a Rollout without a pod template of its own has it from."""

    kind: str = ""
    name: str = ""


class WorkloadSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The spec of a workload. `template` is kept as it came, to be put back as it came.

    `strategy` and `workload_ref` are a Rollout's alone; a Deployment's strategy has other fields. `ordinals` and
    `pod_management_policy` are a StatefulSet's alone.
    """

    template: msgspec.Raw = msgspec.Raw(b"{}")
    selector: Selector = Selector()
    replicas: int = 1
    paused: bool = False
    update_strategy: UpdateStrategy = UpdateStrategy()
    ordinals: Ordinals = Ordinals()
    pod_management_policy: str = "OrderedReady"
    strategy: Strategy = Strategy()
    workload_ref: WorkloadRef | None = None


class BlueGreenStatus(msgspec.Struct, frozen=True, rename="camel"):
    """Which release a Rollout's active Service leads to, by its hash."""

    active_selector: str = ""


class Destination(msgspec.Struct, frozen=True, rename="camel"):
    """How much traffic is led to a release, by its hash."""

    weight: int = 0
    pod_template_hash: str = ""


class Weights(msgspec.Struct, frozen=True):
    """How a Rollout's traffic is led; there only where a mesh or ingress does it."""

    canary: Destination = Destination()


class CanaryStatus(msgspec.Struct, frozen=True):
    """How far a Rollout's canary has come."""

    weights: Weights | None = None


class WorkloadStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The status of a workload. From `phase` on, the fields are a Rollout's alone.

    A Rollout's `observedGeneration` is a text. `current_pod_hash` is the release that its template asks for,
    `stable_rs` the one that was promoted last; both are hashes as in the pods' label.
    """

    observed_generation: int | str = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    update_revision: str = ""
    desired_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    conditions: Sequence[Condition] = ()
    phase: str = ""
    current_pod_hash: str = ""
    stable_rs: str = msgspec.field(default="", name="stableRS")
    abort: bool = False
    promote_full: bool = False
    blue_green: BlueGreenStatus = BlueGreenStatus()
    canary: CanaryStatus = CanaryStatus()


class Workload(msgspec.Struct, frozen=True):
    """A Deployment, StatefulSet, DaemonSet or Rollout."""

    metadata: Meta
    spec: WorkloadSpec
    status: WorkloadStatus = WorkloadStatus()

    @property
    def observed(self) -> bool:
        """Whether the controllers have seen the newest spec."""
        seen = str(self.status.observed_generation)
        return seen.isascii() and seen.isdigit() and int(seen[:18]) >= self.metadata.generation


class ReplicaSetSpec(msgspec.Struct, frozen=True):
    """What a ReplicaSet keeps of a revision."""

    template: msgspec.Raw


class ReplicaSet(msgspec.Struct, frozen=True):
    """A revision of a Deployment or Rollout."""

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
