"""The demo on a Docker engine: the right thing happens, and nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path

import pytest

from tests.support.docker import DockerEngine
from tests.system.test_demo import WITHIN_S, Place, perform

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(240)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tmp")


def there(engine: DockerEngine) -> set[str]:
    """What there is of demos; another worker's may run on the same engine."""
    containers = engine.docker("ps", "--all", "--format", "{{.Names}}").split()
    images = engine.docker("images", "--format", "{{.Repository}}").split()
    return {name for name in (*containers, *images) if name.startswith("rollbackd-demo-")}


def name_of(place: Place) -> str | None:
    """What the demo in this place calls its shop, once it has begun."""
    for layout in place.folder.glob("*/shop/layout.json"):
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads(layout.read_text())["name"])
    return None


def test_a_bad_container_is_put_back(engine: DockerEngine, place: Place) -> None:
    place.environment["DOCKER_HOST"] = engine.host
    report = perform(place, "--target", "docker")
    assert report["ok"], report
    assert [moment["event"] for moment in report["timeline"]][-2:] == ["reverted", "verified"]


def test_a_bad_swarm_service_is_put_back(manager: DockerEngine, place: Place) -> None:
    place.environment["DOCKER_HOST"] = manager.host
    report = perform(place, "--target", "swarm")
    assert report["ok"], report
    assert manager.docker("service", "ls", "--quiet") == ""
    assert there(manager) == set()


def test_a_demo_that_is_stopped_takes_its_container_along(engine: DockerEngine, place: Place) -> None:
    place.environment["DOCKER_HOST"] = engine.host
    with place.start("--json", "--target", "docker") as demo:
        while (name := name_of(place)) is None or name not in there(engine):
            assert demo.poll() is None
            time.sleep(0.05)
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=WITHIN_S)
    assert demo.returncode == 128 + signal.SIGTERM
    assert name not in there(engine)


def test_without_an_engine_it_says_so(place: Place) -> None:
    place.environment["DOCKER_HOST"] = f"unix://{place.folder}/nobody.sock"
    with place.start("--target", "docker") as demo:
        out, _ = demo.communicate(timeout=WITHIN_S)
    assert demo.returncode == 1
    assert "is Docker running?" in " ".join(out.split())
