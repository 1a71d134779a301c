"""The demo on a Docker engine: the right thing happens, and nothing stays behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker import DockerEngine
from tests.support.swarm import swarm
from tests.system.test_demo import Place, perform

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(150)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tmp")


@pytest.fixture
def manager() -> Iterator[DockerEngine]:
    with swarm() as engine:
        yield engine


def left(engine: DockerEngine) -> list[str]:
    """What there is of demos."""
    containers = engine.docker("ps", "--all", "--format", "{{.Names}}").split()
    images = engine.docker("images", "--format", "{{.Repository}}").split()
    return [name for name in (*containers, *images) if name.startswith("rollbackd-demo-")]


def test_a_bad_container_is_put_back(engine: DockerEngine, place: Place) -> None:
    place.environment["DOCKER_HOST"] = engine.host
    report = perform(place, "--target", "docker")
    assert report["ok"], report
    assert [moment["event"] for moment in report["timeline"]][-2:] == ["reverted", "verified"]
    assert left(engine) == []


def test_a_bad_swarm_service_is_put_back(manager: DockerEngine, place: Place) -> None:
    place.environment["DOCKER_HOST"] = manager.host
    report = perform(place, "--target", "swarm")
    assert report["ok"], report
    assert manager.docker("service", "ls", "--quiet") == ""
    assert left(manager) == []


def test_a_demo_that_is_stopped_takes_its_container_along(engine: DockerEngine, place: Place) -> None:
    place.environment["DOCKER_HOST"] = engine.host
    with place.start("--json", "--target", "docker") as demo:
        assert demo.stderr is not None
        while not left(engine):
            assert demo.poll() is None
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=60)
    assert demo.returncode == 128 + signal.SIGTERM
    assert left(engine) == []


@pytest.mark.parametrize("on", ["docker", "swarm"])
def test_without_an_engine_it_says_so(place: Place, on: str) -> None:
    place.environment["DOCKER_HOST"] = f"unix://{place.folder}/nobody.sock"
    with place.start("--target", on) as demo:
        out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "is Docker running?" in out
