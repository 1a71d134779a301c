"""A Swarm of one node on an engine of its own, and services on it that go when the test is over."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.containers import SERVE
from tests.support.docker import PREFIX, DockerEngine, OwnEngine, quick_folder
from tests.support.live import ReservedPort

QUICK = (
    *("--stop-signal", "SIGKILL", "--stop-grace-period", "1ms", "--update-monitor", "100ms"),
    *("--restart-delay", "100ms", "--rollback-monitor", "100ms"),
    *("--update-order", "start-first", "--rollback-order", "start-first"),
)


@contextmanager
def swarm() -> Iterator[DockerEngine]:
    """An engine that is the only manager of a swarm. Its folder has a short name: sockets in it allow no long one."""
    place = quick_folder()
    place.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="swarm-", dir=place))
    with _unmounting(folder), OwnEngine(folder) as engine:
        port = ReservedPort()
        address = f"127.0.0.1:{port.number}"
        engine.docker("swarm", "init", "--advertise-addr", address, "--listen-addr", address)
        for version in ("v1", "v2", "v3"):
            engine.image(f"{PREFIX}/shop:{version}", changes=(SERVE, f"LABEL release={version}"))
        try:
            yield engine
        finally:
            engine.docker("swarm", "leave", "--force")


@contextmanager
def _unmounting(folder: Path) -> Iterator[None]:
    """In the end, let go of what an engine leaves mounted below its folder, and delete that."""
    try:
        yield
    finally:
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in reversed(mounted):
            if place.startswith(f"{folder}/"):
                subprocess.run(["umount", place], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


class Service:
    """A service of this test's own."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self.name = f"{PREFIX}-{uuid.uuid4().hex[:10]}"
        self.repository = f"{PREFIX}/shop"

    def create(self, version: str, *options: str, command: tuple[str, ...] = ()) -> None:
        arguments = ["service", "create", "--detach", "--no-resolve-image", "--name", self.name, "--network", "host"]
        self.engine.docker(*arguments, *QUICK, *options, f"{self.repository}:{version}", *command)
        self.wait()

    def update(self, *options: str, version: str | None = None) -> None:
        """What somebody else does."""
        image = ("--image", f"{self.repository}:{version}") if version is not None else ()
        self.engine.docker("service", "update", "--detach", "--no-resolve-image", *image, *options, self.name)

    def deploy(self, version: str, *options: str) -> None:
        """An update, and its end; the tasks before it may still be ending, for which Swarm takes three seconds."""
        self.update(*options, version=version)
        self.wait("completed")

    def inspect(self) -> Any:
        return json.loads(self.engine.docker("service", "inspect", self.name))[0]

    @property
    def running(self) -> list[str]:
        """The images of the tasks that run."""
        return self.engine.docker(
            "service", "ps", "--filter", "desired-state=running", "--format", "{{.Image}}", self.name
        ).split()

    def wait(self, *states: str) -> None:
        """Until the newest update has ended, one of these ways; without any, until nothing of the one before runs."""
        deadline = time.monotonic() + 30
        while True:
            # before Swarm has begun with an update, it shows none
            state = self.inspect().get("UpdateStatus", {}).get("State", "" if states else "completed")
            listed = self.engine.docker("service", "ps", "--format", "{{.CurrentState}}|{{.DesiredState}}", self.name)
            alive = [line for line in listed.splitlines() if line.endswith("|Running")]
            calm = alive and all(
                line.startswith("Running") == line.endswith("|Running") for line in listed.splitlines()
            )
            if state in (states or ("completed", "rollback_completed")) and (calm or states):
                return
            assert time.monotonic() < deadline, f"the service is {state}: {listed}"
            time.sleep(0.05)

    def close(self) -> None:
        self.engine.docker("service", "rm", self.name)
