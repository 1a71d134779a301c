"""What Deployments, StatefulSets and DaemonSets have in common for us, and where they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rollbackd.kubernetes.workloads import Workload

Progress: TypeAlias = Literal["going", "complete", "stuck"]


@dataclass(frozen=True)
class Kind:
    """One kind of workload. `pod_label` is the label by which a pod names its revision."""

    name: str
    plural: str
    pod_label: str
    progress: Callable[[Workload], Progress]

    @property
    def option(self) -> str:
        """The kind, as it is written in a configuration."""
        return self.name.lower()


def progress_of_deployment(workload: Workload) -> Progress:
    """As `kubectl rollout status` judges (kubectl, pkg/polymorphichelpers/rollout_status.go)."""
    status, wanted = workload.status, workload.spec.replicas
    if any(one.type == "Progressing" and one.reason == "ProgressDeadlineExceeded" for one in status.conditions):
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


def partition(workload: Workload) -> int:
    """The ordinal from which on a StatefulSet's pods are updated."""
    rolling = workload.spec.update_strategy.rolling_update
    return rolling.partition if rolling is not None else 0


DEPLOYMENT = Kind("Deployment", "deployments", "pod-template-hash", progress_of_deployment)
STATEFUL_SET = Kind("StatefulSet", "statefulsets", "controller-revision-hash", progress_of_stateful_set)
DAEMON_SET = Kind("DaemonSet", "daemonsets", "controller-revision-hash", progress_of_daemon_set)
