"""Containers of a service on a real engine, deployed as people deploy them, and taken away when the test is over."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.docker import PREFIX, DockerEngine

QUICK = ("--stop-signal", "SIGKILL")
"""A shell as PID 1 does not end by SIGTERM, and the engine would wait ten seconds each time."""

SERVE = 'CMD ["/bin/sh", "-c", "sleep 1000"]'


class Breakable:
    """A program in containers, or some, which does not run any more once it was broken: not where it was started
    before, but each time it is started. What it runs on is a folder that they see as /marks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    @property
    def options(self) -> tuple[str, ...]:
        """What a container or a service needs to see the folder."""
        return ("--mount", f"type=bind,source={self.folder},target=/marks")

    def command(self, code: int = 3) -> tuple[str, ...]:
        """It runs for long or, where it is broken, ends at once with this code."""
        return ("/bin/sh", "-c", f"test -e /marks/broken || sleep 1000; exit {code}")

    @property
    def until_broken(self) -> str:
        """The same as words of a shell for a program that also ends when it is broken while it runs."""
        return "/bin/sh -c 'until test -e /marks/broken; do usleep 50000; done; exit 3'"

    def shatter(self) -> None:
        (self.folder / "broken").touch()

    def mend(self) -> None:
        (self.folder / "broken").unlink(missing_ok=True)


class Shop:
    """Images `NAME:v1` to `NAME:v3`, and containers of them with names of this test's own."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self.name = f"{PREFIX}-{uuid.uuid4().hex[:10]}"
        self.repository = f"{PREFIX}/shop"
        self._networks: list[str] = []
        self._volumes: list[str] = []
        self._images: list[str] = []

    def images(self) -> None:
        """Make the images that every test uses, once on each engine."""
        for version in ("v1", "v2", "v3"):
            if not self.engine.has(f"{self.repository}:{version}"):
                self.image(f"{self.repository}:{version}", f"LABEL release={version}")
        self._images.clear()

    def image(self, reference: str, *changes: str) -> str:
        """Make an image of that name; it goes with the test."""
        made = self.engine.image(reference, changes=(SERVE, *changes))
        self._images.append(made)
        return made

    def deploy(
        self, version: str, *options: str, command: tuple[str, ...] = (), name: str | None = None, run: bool = True
    ) -> str:
        """What a deploy script does: the old container goes, a new one takes its name. Its id.

        What only has to be seen need not `run`, which is most of what a deployment takes.
        """
        called = name or self.name
        self.engine.remove(called)
        reference = version if ":" in version else f"{self.repository}:{version}"
        network = () if "--network" in options else ("--network", "none")
        how = ("run", "--detach") if run else ("create",)
        arguments = [*how, "--name", called, *QUICK, *network, *options, reference, *command]
        return self.engine.docker(*arguments)

    def network(self, *options: str) -> str:
        name = f"{self.name}-net{len(self._networks)}"
        self.engine.docker("network", "create", *options, name)
        self._networks.append(name)
        return name

    def volume(self) -> str:
        name = f"{self.name}-volume{len(self._volumes)}"
        self.engine.docker("volume", "create", name)
        self._volumes.append(name)
        return name

    def adopt_volume(self, name: str) -> None:
        """Take this one away in the end, too."""
        self._volumes.append(name)

    def inspect(self, name: str | None = None) -> Any:
        return json.loads(self.engine.docker("inspect", name or self.name))[0]

    @property
    def containers(self) -> dict[str, str]:
        """The names of this test's containers, whether they run or not, to their images."""
        lines = self.engine.docker("ps", "--all", "--format", "{{.Names}} {{.Image}}").splitlines()
        found = dict(line.split() for line in lines)
        return {name: image for name, image in sorted(found.items()) if name.startswith(self.name)}

    @property
    def running(self) -> dict[str, str]:
        lines = self.engine.docker("ps", "--format", "{{.Names}} {{.Image}}").splitlines()
        found = dict(line.split() for line in lines)
        return {name: image for name, image in sorted(found.items()) if name.startswith(self.name)}

    def close(self) -> None:
        self.engine.remove(*self.containers)
        for kind, names in (("network", self._networks), ("volume", self._volumes), ("image", self._images)):
            for name in names:
                self.engine.docker(kind, "rm", *(["--force"] if kind != "network" else []), name)
            names.clear()


@contextmanager
def shop_on(engine: DockerEngine) -> Iterator[Shop]:
    """A shop with its images; what it leaves behind is removed."""
    shop = Shop(engine)
    shop.images()
    try:
        yield shop
    finally:
        shop.close()
