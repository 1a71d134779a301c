"""The demo's stage: a folder with two releases of the shop, the link to the current one, the daemon's configuration.

Only times are shortened for the show, and none of the thresholds that decide whether a release is bad.
"""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import msgspec
import yaml

from rollbackd.demo import containers

Fault: TypeAlias = Literal["errors", "latency", "crash", "logs", "none"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

On: TypeAlias = Literal["release_dir", "docker", "swarm"]
PLACES: tuple[On, ...] = get_args(On)

SERVICE, GOOD, NEW = "shop", "v1", "v2"
BAKE_S = 8.0


@dataclass(frozen=True)
class Stage:
    """Where everything is."""

    folder: Path
    shop_port: int
    daemon_port: int
    layout: containers.Layout | None = None
    """Where the shop runs on a Docker engine; None where it runs from release folders."""

    @property
    def shop(self) -> Path:
        """The folder with releases and link."""
        return self.folder / SERVICE

    @property
    def config(self) -> Path:
        """The daemon's configuration file."""
        return self.folder / "rollbackd.yaml"

    @property
    def shop_url(self) -> str:
        """Where orders are taken."""
        return f"http://127.0.0.1:{self.shop_port}"

    @property
    def daemon_url(self) -> str:
        """Where the daemon answers."""
        return f"http://127.0.0.1:{self.daemon_port}"

    @property
    def restart(self) -> list[str]:
        """The command that makes the service run what the link points to."""
        if self.layout is not None:
            return [sys.executable, "-m", "rollbackd.demo.containers", "deploy", str(self.shop), self._linked]
        return [sys.executable, "-m", "rollbackd.demo.supervise", "restart", str(self.shop)]

    @property
    def keep(self) -> list[str]:
        """The command of the service manager."""
        if self.layout is not None:
            return [sys.executable, "-m", "rollbackd.demo.containers", "keep", str(self.shop)]
        return [sys.executable, "-m", "rollbackd.demo.supervise", "keep", str(self.shop), f"--port={self.shop_port}"]

    @property
    def daemon(self) -> list[str]:
        """The daemon's command."""
        return [sys.executable, "-m", "rollbackd", "run", "-c", str(self.config)]

    def switch_to(self, version: str) -> None:
        """Point the link at a release, in one step, as a deploy script does before it restarts the service."""
        fresh = self.shop / "current.new"
        fresh.symlink_to(Path("releases") / version)
        fresh.replace(self.shop / "current")

    def current(self) -> str:
        """The release that is in place: that the link points to or, in a container, that answers.

        Takes up to two seconds.
        """
        if self.layout is None:
            return self._linked
        try:
            with urllib.request.urlopen(f"{self.shop_url}/healthz", timeout=2.0) as answer:  # noqa: S310  our own
                return str(answer.headers["X-Release"])
        except OSError:
            return "nothing that answers"

    @property
    def _linked(self) -> str:
        return (self.shop / "current").resolve().name


def build(folder: Path, fault: Fault, record: Path | None = None, on: On = "release_dir") -> Stage:
    """Lay everything out in an empty folder, release v1 current, and choose free ports."""
    shop_port, daemon_port = _free_ports(2)
    layout = None
    if on != "release_dir":
        layout = containers.Layout(on, f"rollbackd-demo-{shop_port}", containers.engine_address(), shop_port)
    stage = Stage(folder.resolve(), shop_port, daemon_port, layout)
    program = resources.files("rollbackd.demo").joinpath("service.py").read_bytes()
    for version, carried in ((GOOD, "none"), (NEW, fault)):
        release = stage.shop / "releases" / version
        release.mkdir(parents=True)
        (release / "service.py").write_bytes(program)
        (release / "release.json").write_text(json.dumps({"version": version, "fault": carried}), encoding="utf-8")
    stage.switch_to(GOOD)
    if layout is not None:
        (stage.shop / "layout.json").write_bytes(msgspec.json.encode(layout))
    stage.config.write_text(yaml.safe_dump(configuration(stage, record), sort_keys=False), encoding="utf-8")
    return stage


JUDGED_BY: dict[str, object] = {
    "bake": f"{BAKE_S:g}s",
    "warmup": "2s",
    "cooldown": "1m",
    "verify_for": "3s",
    "verify_within": "15s",
    "rules": {"availability": {"down_for": "2s"}},
}
"""How the shop is judged: as any service is, but that minutes have become seconds."""


def configuration(stage: Stage, record: Path | None) -> dict[str, object]:
    """The daemon's configuration."""
    target: dict[str, object] = {"release_dir": {"path": str(stage.shop), "restart": stage.restart, "poll": "200ms"}}
    shop: dict[str, object] = {
        "target": target if stage.layout is None else containers.target(stage.layout),
        "metrics": {"url": f"{stage.shop_url}/metrics", "interval": "500ms"},
        "probe": {"url": f"{stage.shop_url}/healthz", "interval": "500ms", "timeout": "500ms"},
        "logs": str(stage.shop / "service.log"),
        **JUDGED_BY,
    }
    whole: dict[str, object] = {
        "listen": f"127.0.0.1:{stage.daemon_port}",
        "data_dir": str(stage.folder / "data"),
        "services": {SERVICE: shop},
    }
    if record is not None:
        whole["record"] = str(record.resolve())
    return whole


def beside(record: Path) -> Path:
    """Where `rollbackd replay` looks for the configuration that a recording was judged by."""
    return record.with_name(record.name + ".yaml")


def write_beside(record: Path) -> None:
    """Say beside the recording how the shop was judged, so that a replay decides in the same way."""
    judged = yaml.safe_dump({"services": {SERVICE: JUDGED_BY}}, sort_keys=False)
    beside(record).write_text(f"# How `{record.name}` was judged.\n{judged}", encoding="utf-8")


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now; all are held until the last is found."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
