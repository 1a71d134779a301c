"""What the kinds of workloads have in common for us, and where they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rollbackd.kubernetes.pods import Pod
from rollbackd.kubernetes.workloads import Workload

Progress: TypeAlias = Literal["going", "complete", "stuck"]


@dataclass(frozen=True)
class Kind:
    """One kind of workload.

    `api` is its group and version; `pod_label` the label by which a pod names its revision; `number_note` the
    annotation by which a workload and its ReplicaSets number revisions, empty where ControllerRevisions keep them.
    `counts` says whether a pod that runs has to be one of the release in place, once the progress is complete.
    """

    name: str
    plural: str
    api: str
    pod_label: str
    number_note: str
    progress: Callable[[Workload], Progress]
    counts: Callable[[Workload, Pod], bool]

    @property
    def group(self) -> str:
        """Its API group, as in a right."""
        return self.api.partition("/")[0]

    @property
    def version(self) -> str:
        """The version of its API group."""
        return self.api.partition("/")[2]

    @property
    def in_replica_sets(self) -> bool:
        """Whether its revisions are ReplicaSets, which own its pods."""
        return bool(self.number_note)

    @property
    def option(self) -> str:
        """The kind, as it is written in a configuration."""
        return self.name.lower()


# -- how far a change has come


def out_of_time(workload: Workload) -> bool:
    """Whether what its template asks for did not become available within `progressDeadlineSeconds`, and still has pods.

    A Rollout that was aborted, for that or another reason, has given the traffic back.
    """
    late = [one for one in workload.status.conditions if one.type == "Progressing"]
    return not workload.status.abort and any(one.reason == "ProgressDeadlineExceeded" for one in late)


def progress_of_deployment(workload: Workload) -> Progress:
    """As `kubectl rollout status` judges (kubectl, pkg/polymorphichelpers/rollout_status.go)."""
    status, wanted = workload.status, workload.spec.replicas
    if out_of_time(workload):
        return "stuck"
    counts = (status.updated_replicas, status.replicas, status.available_replicas)
    return "complete" if workload.observed and counts == (wanted, wanted, wanted) else "going"


def progress_of_stateful_set(workload: Workload) -> Progress:
    """Pods below the partition are not meant to be updated."""
    status, wanted = workload.status, workload.spec.replicas
    updated = max(wanted - partition(workload), 0)
    done = status.updated_replicas >= updated and status.ready_replicas >= wanted and status.replicas == wanted
    return "complete" if workload.observed and done else "going"


def progress_of_daemon_set(workload: Workload) -> Progress:
    """On every node that is meant to have a pod, that is a new one and available."""
    status = workload.status
    wanted = status.desired_number_scheduled
    done = status.updated_number_scheduled >= wanted and status.number_available >= wanted
    return "complete" if workload.observed and done else "going"


def progress_of_rollout(workload: Workload) -> Progress:
    """As the phase says, which is worth something only once the newest spec is observed (argo-rollouts, types.go).

    Aborted, out of time (`progressDeadlineSeconds`) and invalid are all called Degraded; paused is on its way.
    """
    status = workload.status
    if not workload.observed:
        return "going"
    if status.phase == "Degraded":
        # that the release before was aborted is still said for a moment after another one has taken its place
        of_before = not status.abort and any(one.reason == "RolloutAborted" for one in status.conditions)
        return "going" if of_before else "stuck"
    active = status.blue_green.active_selector if workload.spec.strategy.blue_green is not None else status.stable_rs
    promoted = status.current_pod_hash == status.stable_rs == active
    return "complete" if status.phase == "Healthy" and promoted else "going"


# -- which pods have to be new ones


def partition(workload: Workload) -> int:
    """How many of a StatefulSet's pods, counted from the lowest ordinal, are not updated."""
    rolling = workload.spec.update_strategy.rolling_update
    return rolling.partition if rolling is not None else 0


def every(_workload: Workload, _pod: Pod) -> bool:
    """Nothing of another release may be left."""
    return True


def not_below_partition(workload: Workload, pod: Pod) -> bool:
    """Pods below the partition stay as they are; it is counted from where the ordinals start.

    Source: kubernetes, pkg/controller/statefulset/stateful_set_utils.go (newVersionedStatefulSetPod).
    """
    number = pod.metadata.name.rpartition("-")[2]
    ordinal = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else float("inf")
    return ordinal >= workload.spec.ordinals.start + partition(workload)


def with_traffic(workload: Workload, pod: Pod) -> bool:
    """Argo Rollouts keeps old pods for a while (`scaleDownDelaySeconds`) where traffic is led past them.

    Without traffic routing, every pod of a canary gets its share.
    """
    strategy = workload.spec.strategy
    if strategy.blue_green is None and (strategy.canary is None or strategy.canary.traffic_routing is None):
        return True
    stable = workload.status.stable_rs
    weights = workload.status.canary.weights
    led_past = weights is None or weights.canary.weight == 0 or weights.canary.pod_template_hash == stable
    return not led_past or pod.metadata.labels.get(ROLLOUT.pod_label) == stable


_APPS = "apps/v1"
DEPLOYMENT = Kind(
    "Deployment",
    "deployments",
    _APPS,
    "pod-template-hash",
    "deployment.kubernetes.io/revision",
    progress_of_deployment,
    every,
)
STATEFUL_SET = Kind(
    "StatefulSet",
    "statefulsets",
    _APPS,
    "controller-revision-hash",
    "",
    progress_of_stateful_set,
    not_below_partition,
)
DAEMON_SET = Kind("DaemonSet", "daemonsets", _APPS, "controller-revision-hash", "", progress_of_daemon_set, every)
ROLLOUT = Kind(
    "Rollout",
    "rollouts",
    "argoproj.io/v1alpha1",
    "rollouts-pod-template-hash",
    "rollout.argoproj.io/revision",
    progress_of_rollout,
    with_traffic,
)
