"""What is read out of a pod's status."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from rollbackd.kubernetes.pods import Pod
from rollbackd.kubernetes.trouble import RECENT_S, stuck, troubles

NOW = 1_700_000_000.0


def at(seconds_ago: float) -> str:
    return datetime.fromtimestamp(NOW - seconds_ago, tz=UTC).isoformat()


def pod(*containers: dict[str, object], ready: bool = False, since: float = 10, **more: object) -> Pod:
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": at(since)}
    status = {"phase": "Running", "conditions": [condition], "containerStatuses": list(containers)} | more
    return msgspec.convert({"metadata": {"creationTimestamp": at(1000)}, "status": status}, Pod)


def waiting(reason: str) -> dict[str, object]:
    return {"state": {"waiting": {"reason": reason}}}


def ended(ago: float, code: int = 1, restarts: int = 3, reason: str = "Error") -> dict[str, object]:
    last = {"terminated": {"reason": reason, "exitCode": code, "finishedAt": at(ago)}}
    return {"state": {"running": {}}, "lastState": last, "restartCount": restarts}


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (pod(waiting("CrashLoopBackOff")), {"CrashLoopBackOff"}),
        (pod(waiting("ErrImagePull")), {"ImagePullBackOff"}),
        (pod(waiting("InvalidImageName")), {"ImagePullBackOff"}),
        (pod(waiting("CreateContainerConfigError")), {"CreateContainerError"}),
        (pod(waiting("ContainerCreating")), set()),
        (pod(initContainerStatuses=[waiting("CrashLoopBackOff")]), {"CrashLoopBackOff"}),
        (pod(ended(20), ready=True), {"CrashLoopBackOff"}),
        (pod(ended(RECENT_S + 1), ready=True), set()),
        (pod(ended(20, restarts=1), ready=True), set()),
        (pod(ended(20, code=0), ready=True), set()),
        (pod(ended(20, restarts=1, reason="OOMKilled"), ready=True), {"OOMKilled"}),
        (pod(since=119), set()),
        (pod(since=120), {"NotReady"}),
        (pod(since=1000, phase="Pending"), set()),
        (pod(waiting("CrashLoopBackOff"), phase="Failed"), set()),
    ],
)
def test_a_pods_trouble_is_told_in_kubernetes_words(one: Pod, found: set[str]) -> None:
    assert troubles(one, NOW, 120) == found


def test_a_pod_that_is_being_deleted_is_in_no_trouble() -> None:
    one = pod(waiting("CrashLoopBackOff"))
    gone = msgspec.structs.replace(one.metadata, deletion_timestamp=datetime.now(UTC))
    assert troubles(msgspec.structs.replace(one, metadata=gone), NOW, 120) == set()


@pytest.mark.parametrize(
    ("one", "blocks"),
    [
        (pod(since=29), False),
        (pod(since=30), True),
        (pod(since=29, phase="Pending"), False),
        (pod(conditions=[], phase="Pending"), True),
        (pod(since=1000, ready=True), False),
        (pod(waiting("CrashLoopBackOff")), True),
        (pod(initContainerStatuses=[waiting("ImagePullBackOff")]), True),
        (pod(waiting("PodInitializing")), False),
        (pod(ended(5, restarts=1, reason="OOMKilled")), False),
    ],
)
def test_a_pod_is_stuck_when_it_does_not_become_ready_by_itself(one: Pod, blocks: bool) -> None:
    assert stuck(one, NOW, 30) is blocks
