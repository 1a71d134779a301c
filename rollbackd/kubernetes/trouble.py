"""What is wrong with a pod, as the kubelet tells it, in Kubernetes' own words: pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias, get_args

from rollbackd.kubernetes.pods import ContainerStatus, Pod

Trouble: TypeAlias = Literal["CrashLoopBackOff", "ImagePullBackOff", "CreateContainerError", "OOMKilled", "NotReady"]
TROUBLES: Final[tuple[Trouble, ...]] = get_args(Trouble)
OUT_OF_TIME: Final = "ProgressDeadlineExceeded"
"""What is wrong with a whole workload and not with a pod: the newest revision does not become available in time."""

RECENT_S = 300.0
"""A container that ended within so long may end again. The kubelet waits up to five minutes between two restarts."""
_WAITING: Final[dict[str, Trouble]] = {
    "CrashLoopBackOff": "CrashLoopBackOff",
    "ImagePullBackOff": "ImagePullBackOff",
    "ErrImagePull": "ImagePullBackOff",
    "ErrImageNeverPull": "ImagePullBackOff",
    "InvalidImageName": "ImagePullBackOff",
    "CreateContainerConfigError": "CreateContainerError",
    "CreateContainerError": "CreateContainerError",
    "RunContainerError": "CreateContainerError",
}


def troubles(pod: Pod, now: float, not_ready_after: float) -> set[Trouble]:
    """All that is wrong with it at `now`; nothing where it is being deleted or has ended.

    A pod that runs, but does not become ready for `not_ready_after` seconds, fails its probes. That one has no node yet
    says nothing about the release.
    """
    if pod.over or pod.metadata.deletion_timestamp is not None:
        return set()
    found = {trouble for status in _statuses(pod) for trouble in _of_container(status, now)}
    if not found and pod.status.phase == "Running" and not pod.ready and _unready_for(pod, now) >= not_ready_after:
        found.add("NotReady")
    return found


def stuck(pod: Pod, now: float, not_ready_after: float) -> bool:
    """Whether it is not ready and will hardly be so by itself: a container cannot start, or it takes too long for that.

    Too long are `not_ready_after` seconds at `now`. One that is not ready for a moment may be well again in the next.
    """
    if pod.ready:
        return False
    cannot_start = any(_waits_in(status) is not None for status in _statuses(pod))
    return cannot_start or _unready_for(pod, now) >= not_ready_after


def _statuses(pod: Pod) -> tuple[ContainerStatus, ...]:
    return (*pod.status.init_container_statuses, *pod.status.container_statuses)


def _waits_in(status: ContainerStatus) -> Trouble | None:
    return _WAITING.get(status.state.waiting.reason) if status.state.waiting is not None else None


def _of_container(status: ContainerStatus, now: float) -> Iterator[Trouble]:
    if (trouble := _waits_in(status)) is not None:
        yield trouble
    for ended in (status.state.terminated, status.last_state.terminated):
        if ended is None or ended.finished_at is None or now - ended.finished_at.timestamp() > RECENT_S:
            continue
        if ended.reason == "OOMKilled":
            yield "OOMKilled"
        elif status.restart_count >= 2 and ended.exit_code != 0:
            yield "CrashLoopBackOff"  # between two of its starts it runs for a moment, and is no better for that


def _unready_for(pod: Pod, now: float) -> float:
    since = [one.last_transition_time for one in pod.status.conditions if one.type == "Ready"]
    moment = since[0] if since and since[0] is not None else pod.metadata.creation_timestamp
    return now - moment.timestamp() if moment is not None else 0.0
