"""A Rollout on the small Kubernetes, and targets that revert it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rollbackd.targets.kubernetes import ADAPTER
from tests.support.kube_server import KubeServer
from tests.support.kube_store import Object, Refused
from tests.unit.targets.kube_shop import IMAGE
from tests.unit.targets.making import Make, making

TOKEN = "sesame-7f3a9c"
CANARY = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}


class Rollout:
    """The Rollout `checkout` on the small Kubernetes."""

    def __init__(self, server: KubeServer, make: Make) -> None:
        self.server, self.make = server, make

    @property
    def found(self) -> Object:
        return self.server.store.get("rollouts", "checkout")

    def deploy(self, version: str) -> None:
        """The new release waits at half of the pods; the first one is promoted at once."""
        try:
            found = self.found
        except Refused:
            found = {"metadata": {"name": "checkout"}, "spec": {"replicas": 2, "strategy": CANARY}}
        container = {"name": "app", "image": f"{IMAGE}:{version}"}
        template = {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [container]}}
        found["spec"] |= {"selector": {"matchLabels": {"app": "checkout"}}, "template": template}
        self.server.store.put("rollouts", found)
        self.run()

    def change(self, part: str, **values: object) -> None:
        found = self.found
        found[part].update(values)
        self.server.store.put("rollouts", found)
        self.run()

    def promoted(self, version: str) -> None:
        self.deploy(version)
        self.change("status", promoteFull=True)

    def run(self) -> None:
        for _ in range(2):
            self.server.rollouts.run()

    @property
    def images(self) -> list[str]:
        """What its pods run."""
        pods = self.server.store.all("pods")
        return sorted(pod["status"]["containerStatuses"][0]["image"].rpartition(":")[2] for pod in pods)

    @property
    def image(self) -> str:
        return str(self.found["spec"]["template"]["spec"]["containers"][0]["image"]).rpartition(":")[2]

    @property
    def patches(self) -> list[str]:
        """What was patched, in order: the object or a part of it."""
        place = "PATCH /apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/checkout"
        return [line.removeprefix(place) or "/" for line in self.server.requests if line.startswith("PATCH")]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Rollout]:
    server = KubeServer(TOKEN)
    await server.start()
    usual: dict[str, object] = {"rollout": "checkout", "kubeconfig": server.kubeconfig(folder / "kubeconfig")}
    async with making(ADAPTER, usual, folder / "state") as make:
        yield Rollout(server, make)
    await server.stop()
