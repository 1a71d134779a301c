"""A Deployment on the small Kubernetes, and a target that reverts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.kubernetes import ADAPTER
from tests.support.kube_server import KubeServer
from tests.support.kube_store import Object, Refused
from tests.support.waiting import eventually
from tests.unit.targets.making import Make, making

ORDER = RevertOrder(to="v1", expect="v2", key="key-1")
IMAGE = "registry.test:5000/shop/checkout"


class Shop:
    """A Deployment on the small Kubernetes."""

    def __init__(self, server: KubeServer, make: Make, folder: Path) -> None:
        self.server, self.make, self.folder = server, make, folder

    def deploy(self, image: str, labels: dict[str, str] | None = None, **spec: object) -> None:
        try:
            found = self.deployment
        except Refused:
            found = {"metadata": {"name": "checkout"}, "spec": {"replicas": 2}}
        container = {"name": "app", "image": image if ":" in image or "@" in image else f"{IMAGE}:{image}"}
        metadata = {"labels": {"app": "checkout", **(labels or {})}}
        template = {"metadata": metadata, "spec": {"containers": [container], **spec}}
        found["spec"] |= {"selector": {"matchLabels": {"app": "checkout"}}, "template": template}
        self.server.store.put("deployments", found)
        self.run()

    def run(self) -> None:
        for _ in range(2):
            self.server.controllers.run()

    @property
    def deployment(self) -> Object:
        return self.server.store.get("deployments", "checkout")

    def change(self, part: str, **values: object) -> None:
        found = self.deployment
        found.setdefault(part, {}).update(values)
        self.server.store.put("deployments", found)
        self.run()

    @property
    def image(self) -> str:
        return str(self.deployment["spec"]["template"]["spec"]["containers"][0]["image"]).rpartition(":")[2]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    server = KubeServer("a-token")
    await server.start()
    usual: dict[str, object] = {"deployment": "checkout", "kubeconfig": server.kubeconfig(tmp_path / "kubeconfig")}
    async with making(ADAPTER, usual, tmp_path / "state") as make:
        yield Shop(server, make, tmp_path)
    await server.stop()


async def versions(target: Target) -> list[str]:
    return [release.version for release in await target.history()]


async def in_place(target: Target) -> str:
    release = await target.current()
    assert release is not None
    return release.version


@asynccontextmanager
async def watching(server: KubeServer, target: Target) -> AsyncIterator[list[tuple[str, str | None, str]]]:
    """Version, previous one and phase of each deployment, from when the watch was told everything."""
    seen: list[tuple[str, str | None, str]] = []

    async def collect() -> None:
        async for change in target.changes():
            seen.append((change.version, change.previous, change.phase))  # noqa: PERF401  it never ends

    task = asyncio.create_task(collect())
    await eventually(lambda: server.watching and server.quiet)
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
