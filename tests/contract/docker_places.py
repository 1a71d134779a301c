"""Places on a real Docker engine: a container, a service of a Compose project, a Swarm service."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from rollbackd import registry
from rollbackd.aiokit import SystemClock
from rollbackd.targets.base import Target, TargetContext
from tests.contract.place import Place, damage
from tests.support.containers import Shop
from tests.support.docker import DockerEngine
from tests.support.swarm import Service


class EnginePlace(Place):
    """Reached through a link to the engine's socket, so that the engine can go away for this place alone.

    What was in place before v2 was seen once for all tests: a place has the same name each time.
    """

    RUNS_PROGRAMS: ClassVar[bool] = False
    PROGRAMS: ClassVar[tuple[str, ...]] = ("dockerd", "docker", "busybox")
    TARGET: ClassVar[str]
    _seen: ClassVar[dict[tuple[str, str], bytes]] = {}
    _names: ClassVar[dict[str, str]] = {}

    def __init__(self, root: Path, engine: DockerEngine) -> None:
        super().__init__(root)
        self.engine = engine
        self.socket = root / "docker.sock"
        self.socket.symlink_to(engine.host.removeprefix("unix://"))
        self.set_up()
        self.state_dir.mkdir(mode=0o700)
        known = (self.TARGET, engine.host)
        if known not in self._seen:
            for version in ("v1", "v3", "v2"):
                self.deploy(version)
                self._look()
            self._seen[known] = (self.state_dir / "releases.json").read_bytes()
        else:
            (self.state_dir / "releases.json").write_bytes(self._seen[known])
            self.deploy("v2")

    def _look(self) -> None:
        adapter = registry.load("target", self.TARGET)
        context = TargetContext(service="checkout", clock=SystemClock(), state_dir=self.state_dir)

        async def look() -> None:
            target: Target = adapter.build(adapter.config.model_validate(self.settings), context)
            await target.current()
            await target.close()

        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, look()).result()

    @abstractmethod
    def set_up(self) -> None:
        """Prepare to deploy."""

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def go_away(self) -> None:
        self.socket.rename(self.root / "elsewhere")

    def come_back(self) -> None:
        (self.root / "elsewhere").rename(self.socket)

    def _another_listener(self) -> None:
        self.socket.unlink()
        self.socket.touch()

    FAULTS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "the engine is gone": lambda place: place.socket.unlink(),
        "no engine listens": lambda place: place._another_listener(),
        "nothing is in place": lambda place: place.vanish(),
        "the journal is damaged": lambda place: damage(place.state_dir),
    }


class DockerPlace(EnginePlace):
    """One container."""

    TARGET: ClassVar[str] = "docker"
    ENGINE: ClassVar[str | None] = "engine"

    def set_up(self) -> None:
        self.shop = Shop(self.engine)
        self.shop.name = self._names.setdefault(self.TARGET, self.shop.name)
        self.shop.images()

    @property
    def settings(self) -> Mapping[str, object]:
        return {"container": self.shop.name, "host": self.host, "poll": "1s", "stable_for": 0.05}

    def deploy(self, version: str) -> None:
        self.shop.deploy(version)

    def vanish(self) -> None:
        self.engine.remove(*self.shop.containers)

    @property
    def finished(self) -> list[str]:
        return [
            f"{shown['Config']['Labels']['io.rollbackd.key']} {shown['Config']['Image'].rpartition(':')[2]}"
            for shown in map(self.shop.inspect, self.shop.containers)
            if "io.rollbackd.key" in shown["Config"]["Labels"]
        ]

    def snapshot(self) -> list[tuple[str, int, int, str]]:
        return [
            (name, 0, 0, json.dumps(shown, sort_keys=True))
            for name in self.shop.containers
            for shown in [self.shop.inspect(name)]
        ]

    async def stop(self) -> None:
        self.shop.close()


class ComposePlace(DockerPlace):
    """A container of a service; tests/unit/targets/test_compose.py has several. Engine and journal are `docker`'s."""

    TARGET: ClassVar[str] = "compose"
    FAULTS: ClassVar[Mapping[str, Callable[[Any], object]]] = {"nothing is in place": lambda place: place.vanish()}

    @property
    def settings(self) -> Mapping[str, object]:
        return {"project": self.shop.name, "service": "api", "host": self.host, "poll": "1s", "stable_for": 0.05}

    def deploy(self, version: str) -> None:
        labels = {"project": self.shop.name, "service": "api", "container-number": "1", "oneoff": "False"}
        options = [part for name, text in labels.items() for part in ("--label", f"com.docker.compose.{name}={text}")]
        self.shop.deploy(version, *options, name=f"{self.shop.name}-api-1")


class SwarmPlace(EnginePlace):
    """A service on a swarm of one node."""

    TARGET: ClassVar[str] = "swarm"
    ENGINE: ClassVar[str | None] = "manager"

    def set_up(self) -> None:
        self.service = Service(self.engine)
        self.service.name = self._names.setdefault(self.TARGET, self.service.name)

    @property
    def settings(self) -> Mapping[str, object]:
        return {"service": self.service.name, "host": self.host, "poll": "1s"}

    @property
    def _is_there(self) -> bool:
        return bool(self.engine.docker("service", "ls", "--quiet", "--filter", f"name={self.service.name}"))

    def deploy(self, version: str) -> None:
        if self._is_there:
            self.service.deploy(version)
            self.service.wait()  # what was there before is gone, too
        else:
            self.service.create(version)

    def vanish(self) -> None:
        self.service.close()

    @property
    def finished(self) -> list[str]:
        spec = self.service.inspect()["Spec"]
        key, image = spec["Labels"].get("io.rollbackd.key"), spec["TaskTemplate"]["ContainerSpec"]["Image"]
        return [f"{key} {image.rpartition(':')[2]}"] if key else []

    def snapshot(self) -> list[tuple[str, int, int, str]]:
        shown = self.service.inspect() if self._is_there else {"Spec": None, "UpdateStatus": {}}
        began = shown.get("UpdateStatus", {}).get("StartedAt", "")
        return [(self.service.name, 0, 0, json.dumps([shown["Spec"], began], sort_keys=True))]

    async def stop(self) -> None:
        if self._is_there:
            self.service.close()
