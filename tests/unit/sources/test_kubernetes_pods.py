"""The source `kubernetes`: which pods it looks at, and what it makes of how many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rollbackd.model import Alert, Gauge
from rollbackd.sources.base import SourceContext
from rollbackd.sources.kubernetes_pods import ADAPTER
from tests.support.clock import ManualClock
from tests.support.kube_server import KubeServer
from tests.support.kube_store import Refused
from tests.support.servers import Run, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually


@pytest.fixture
async def server() -> AsyncIterator[KubeServer]:
    one = KubeServer("a-token")
    await one.start()
    yield one
    await one.stop()


def deploy(server: KubeServer, version: str, replicas: int = 4) -> None:
    try:
        found = server.store.get("deployments", "shop")
    except Refused:
        found = {"metadata": {"name": "shop"}, "spec": {}}
    template = {
        "metadata": {"labels": {"app": "shop"}},
        "spec": {"containers": [{"name": "app", "image": f"shop:{version}"}]},
    }
    found["spec"] |= {"replicas": replicas, "selector": {"matchLabels": {"app": "shop"}}, "template": template}
    server.store.put("deployments", found)
    for _ in range(2):
        server.controllers.run()


def breaks(server: KubeServer, count: int, image: str) -> None:
    """So many pods of this image crash from now on."""
    pods = [pod for pod in server.store.all("pods") if pod["status"]["containerStatuses"][0]["image"] == image]
    for pod in pods[:count]:
        pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
        server.store.put("pods", pod)


@pytest.fixture
async def looking(server: KubeServer, tmp_path: Path) -> AsyncIterator[tuple[Run, RecordingSink]]:
    clock = ManualClock()
    settings = {"deployment": "shop", "kubeconfig": str(server.kubeconfig(tmp_path / "kubeconfig"))}
    source = ADAPTER.build(ADAPTER.config.model_validate(settings), SourceContext("shop", clock))
    deploy(server, "v1")
    async with running(source, clock) as (run, sink):
        await eventually(lambda: len(sink.events) == 7)
        sink.events.clear()
        yield run, sink


def told(sink: RecordingSink) -> list[tuple[str, str, str]]:
    """The alerts since this was asked last."""
    found: list[tuple[str, str, str]] = [(one.name, one.status, one.severity) for one in sink.of(Alert)]
    sink.events.clear()
    return found


async def test_a_few_crashing_pods_are_a_warning_and_a_quarter_is_critical(
    server: KubeServer, looking: tuple[Run, RecordingSink]
) -> None:
    run, sink = looking
    deploy(server, "v1", replicas=8)
    breaks(server, 1, "shop:v1")
    await run.after(10)
    assert [(one.name, one.value) for one in sink.of(Gauge)] == [("pods in trouble of Deployment shop", 1)]
    assert {one.instance for one in sink.of(Alert)} == {"Deployment shop"}, "another workload's end ends this one not"
    assert told(sink) == [("CrashLoopBackOff", "firing", "warning")]
    breaks(server, 2, "shop:v1")
    await run.after(10)
    assert told(sink) == [("CrashLoopBackOff", "firing", "critical")]
    await run.after(10)
    assert told(sink) == [], "what stays as it is is told once"


async def test_pods_of_the_release_before_are_not_held_against_the_new_one(
    server: KubeServer, looking: tuple[Run, RecordingSink]
) -> None:
    run, sink = looking
    server.controllers.stalled = True
    deploy(server, "v2")
    breaks(server, 4, "shop:v1")
    await run.after(10)
    assert told(sink) == []


async def test_the_trouble_of_a_release_is_over_once_another_one_is_in_place(
    server: KubeServer, looking: tuple[Run, RecordingSink]
) -> None:
    run, sink = looking
    server.controllers.broken = {"shop:v2"}
    deploy(server, "v2")
    await run.after(10)
    assert told(sink) == [("CrashLoopBackOff", "firing", "critical")]
    deploy(server, "v1")
    await run.after(10)
    assert told(sink) == [("CrashLoopBackOff", "resolved", "critical")]
    assert sink.history == ["up"]


async def test_while_a_rollout_begins_nothing_is_said(server: KubeServer, looking: tuple[Run, RecordingSink]) -> None:
    run, sink = looking
    server.controllers.off = True
    deploy(server, "v2")
    breaks(server, 4, "shop:v1")
    await run.after(10)
    assert (told(sink), sink.state) == ([], "up")


async def test_a_rollout_that_runs_out_of_time_is_critical_until_another_release_is_in_place(
    server: KubeServer, looking: tuple[Run, RecordingSink]
) -> None:
    run, sink = looking
    server.controllers.stalled = True
    deploy(server, "v2")
    server.controllers.off = True
    stuck = server.store.get("deployments", "shop")
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    stuck["status"]["conditions"] = [late]
    server.store.put("deployments", stuck)
    await run.after(10)
    assert told(sink) == [("ProgressDeadlineExceeded", "firing", "critical")]
    server.controllers.off = server.controllers.stalled = False
    deploy(server, "v1")
    await run.after(10)
    assert told(sink) == [("ProgressDeadlineExceeded", "resolved", "critical")]
