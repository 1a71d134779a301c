"""The demo's shop on a Docker engine: what a deploy script does there, and that nothing of it is left in the end.

`keep ROOT` makes the images and deploys v1; when its standard input ends, or SIGTERM comes, all it made goes.
`deploy ROOT VERSION` puts a release in place. No registry is asked: the images hold nothing but a label. The Python
that runs this, and what it needs, are mounted from this machine, read-only; so the engine has to be on it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from rollbackd.demo.tether import told_to_end
from rollbackd.docker.commands import Commands, Json, Missing
from rollbackd.errors import RollbackdError

On: TypeAlias = Literal["docker", "swarm"]
VERSIONS = ("v1", "v2")
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc")
SECOND_NS = 10**9


class Layout(msgspec.Struct, frozen=True):
    """What the demo's processes agree on; lies in ROOT as `layout.json`."""

    on: On
    name: str
    host: str
    port: int

    def image(self, version: str) -> str:
        return f"{self.name}:{version}"


def engine_address() -> str:
    """Where the engine listens, as the `docker` command finds it."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def target(layout: Layout) -> dict[str, object]:
    """The daemon's target."""
    where = {"host": layout.host, "poll": "1s"}
    if layout.on == "docker":
        return {"docker": {"container": layout.name, **where}}
    return {"swarm": {"service": layout.name, **where}}


class Place:
    """The shop on one engine. Methods raise RollbackdError."""

    def __init__(self, root: Path, layout: Layout, docker: Commands) -> None:
        self._root, self._layout, self._docker = root, layout, docker

    async def prepare(self) -> None:
        """Make an image of each release."""
        if self._layout.on == "swarm":
            await self._docker.ask("/swarm")  # says what is to be done where this is no manager
        for version in VERSIONS:
            params = {"fromSrc": "-", "repo": self._layout.name, "tag": version, "changes": f"LABEL release={version}"}
            await self._docker.call("POST", "/images/create", params, body=_nearly_empty())

    async def deploy(self, version: str) -> None:
        """Put a release in place, in the way that is usual there."""
        if self._layout.on == "docker":
            await self._run(version)
        else:
            await self._update(version)

    async def clean(self) -> None:
        """Remove what there is of the shop."""
        name = self._layout.name
        if self._layout.on == "swarm":
            with contextlib.suppress(Missing):
                await self._docker.call("DELETE", f"/services/{name}")
        for _ in range(50):  # Swarm ends its tasks in its own time
            listed = await self._listed({"name": [name]})
            for one in listed:
                with contextlib.suppress(Missing):
                    await self._docker.call("DELETE", f"/containers/{one['Id']}", {"force": "1", "v": "1"})
            if not listed:
                break
            await asyncio.sleep(0.1)
        for version in VERSIONS:
            with contextlib.suppress(Missing):
                await self._docker.call("DELETE", f"/images/{self._layout.image(version)}", {"force": "1"})

    async def _listed(self, filters: Mapping[str, list[str]]) -> list[Json]:
        params = {"all": "1", "filters": msgspec.json.encode(filters).decode()}
        return msgspec.json.decode(await self._docker.ask("/containers/json", params), type=list[Json])

    async def _run(self, version: str) -> None:
        layout = self._layout
        with contextlib.suppress(Missing):
            await self._docker.call("POST", f"/containers/{layout.name}/stop", {"t": "3"})
            await self._docker.call("DELETE", f"/containers/{layout.name}")
        body = {
            "Image": layout.image(version),
            "Cmd": self._command(version),
            "OpenStdin": True,
            "HostConfig": {
                "NetworkMode": "host",
                "RestartPolicy": {"Name": "always"},
                "Binds": [f"{path}:{path}:{'rw' if path == str(self._root) else 'ro'}" for path in self._mounted()],
            },
        }
        await self._docker.call("POST", "/containers/create", {"name": layout.name}, body)
        await self._docker.call("POST", f"/containers/{layout.name}/start")

    async def _update(self, version: str) -> None:
        layout = self._layout
        mounts = [
            {"Type": "bind", "Source": path, "Target": path, "ReadOnly": path != str(self._root)}
            for path in self._mounted()
        ]
        spec = {
            "Name": layout.name,
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": layout.image(version),
                    "Command": self._command(version),
                    "OpenStdin": True,
                    "Mounts": mounts,
                    "StopGracePeriod": 3 * SECOND_NS,
                },
                "Networks": [{"Target": "host"}],
                "RestartPolicy": {"Condition": "any", "Delay": SECOND_NS},
            },
            "Mode": {"Replicated": {"Replicas": 1}},
            "UpdateConfig": {"Parallelism": 1, "Order": "start-first", "Monitor": SECOND_NS, "FailureAction": "pause"},
        }
        try:
            shown = msgspec.json.decode(await self._docker.ask(f"/services/{layout.name}"), type=Json)
        except Missing:
            await self._docker.call("POST", "/services/create", body=spec)
            return
        index = msgspec.convert(shown["Version"], dict[str, int])["Index"]
        await self._docker.call("POST", f"/services/{layout.name}/update", {"version": str(index)}, spec)

    def _command(self, version: str) -> list[str]:
        release = self._root / "releases" / version
        log = self._root / "service.log"
        return [sys.executable, str(release / "service.py"), f"--port={self._layout.port}", f"--log={log}"]

    def _mounted(self) -> list[str]:
        """The folders that the shop needs; none inside another."""
        wanted = {*SYSTEM, sys.prefix, sys.base_prefix, str(self._root), *(path for path in sys.path if path)}
        there = sorted(path for path in wanted if Path(path).is_dir())
        return [path for path in there if not any(path != one and path.startswith(f"{one}/") for one in there)]


def _nearly_empty() -> bytes:
    """An image with one empty folder; the engine takes none without anything."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(folder)
    return packed.getvalue()


def layout_in(root: Path) -> Layout:
    return msgspec.json.decode((root / "layout.json").read_bytes(), type=Layout)


async def keep(root: Path) -> int:
    """Run the first release, and take all away when told to."""
    layout = layout_in(root)
    ended = told_to_end()
    try:
        async with Commands(layout.host) as docker:
            place = Place(root, layout, docker)
            try:
                await place.prepare()
                await place.deploy(VERSIONS[0])
                print("ready", flush=True)
                await ended.wait()
            finally:
                await place.clean()
    except RollbackdError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def deploy(root: Path, version: str) -> int:
    """What a deploy script does."""
    layout = layout_in(root)
    try:
        async with Commands(layout.host) as docker:
            await Place(root, layout, docker).deploy(version)
    except RollbackdError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """`keep ROOT` or `deploy ROOT VERSION`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["keep", "deploy"])
    parser.add_argument("root", type=Path)
    parser.add_argument("version", nargs="?", choices=VERSIONS)
    options = parser.parse_args()
    if options.action == "keep":
        return asyncio.run(keep(options.root))
    return asyncio.run(deploy(options.root, options.version or VERSIONS[-1]))


if __name__ == "__main__":
    sys.exit(main())
