"""A StatefulSet on the small Kubernetes, whose controller is played by hand, and targets that revert it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from rollbackd.targets.kubernetes import ADAPTER
from tests.support.clock import ManualClock
from tests.support.kube_server import KubeServer
from tests.support.kube_store import Object, owner
from tests.unit.targets.kube_shop import IMAGE
from tests.unit.targets.making import Make, making

LONG = 3600.0
MARK = "controller-revision-hash"


class StatefulSet:
    """The StatefulSet `checkout` of three replicas; its pods are there as far as `pod` put them there."""

    def __init__(self, server: KubeServer, make: Make, clock: ManualClock) -> None:
        self.server, self.make, self.clock = server, make, clock
        server.after_patch = self._taken_up

    def deploy(self, version: str, **spec: object) -> None:
        """With its controller's answer: the revision is the newest one, and taken up."""
        template = {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [_container(version)]}}
        found = self.found if ("statefulsets", "checkout") in self.server.store.objects else {}
        kept = found.get("spec", {"replicas": 3, "selector": {"matchLabels": {"app": "checkout"}}})
        meta = found.get("metadata", {"name": "checkout"})
        self.server.store.put("statefulsets", {"metadata": meta, "spec": {**kept, "template": template, **spec}})
        self._take_up()

    def _take_up(self) -> None:
        found = self.found
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        name = f"checkout-{image.rpartition(':')[2]}"
        kept = self.server.store.all("controllerrevisions")
        meta = {"name": name, "labels": {"app": "checkout"}, "ownerReferences": owner("StatefulSet", found["metadata"])}
        data = {"spec": {"template": found["spec"]["template"]}}
        number = 1 + max((one["revision"] for one in kept), default=0)
        self.server.store.put("controllerrevisions", {"metadata": meta, "revision": number, "data": data})
        found["status"] = {"observedGeneration": found["metadata"]["generation"], "updateRevision": name}
        self.server.store.put("statefulsets", found)

    async def _taken_up(self, _request: web.Request) -> None:
        self._take_up()

    @property
    def found(self) -> Object:
        return self.server.store.get("statefulsets", "checkout")

    def pod(self, ordinal: int, version: str, *, unready: float | None = None, waiting: str = "", **meta: str) -> None:
        """A pod of this release; not ready since so many seconds, or ready for an hour."""
        since = datetime.fromtimestamp(self.clock.now() - (LONG if unready is None else unready), tz=UTC)
        ready = {"type": "Ready", "status": str(unready is None), "lastTransitionTime": since.isoformat()}
        container = {**_container(version), "state": {"waiting": {"reason": waiting}} if waiting else {}}
        owners = owner("StatefulSet", self.found["metadata"])
        labels = {"app": "checkout", MARK: f"checkout-{version}"}
        metadata = {"name": f"checkout-{ordinal}", "labels": labels, "ownerReferences": owners, **meta}
        status = {"phase": "Running", "conditions": [ready], "containerStatuses": [container]}
        self.server.store.put("pods", {"metadata": metadata, "status": status})

    @property
    def pods(self) -> list[str]:
        """The pods that are there, by name."""
        return [one["metadata"]["name"] for one in self.server.store.all("pods")]

    @property
    def deletes(self) -> list[str]:
        """The pods that we tried to delete, in order."""
        asked = [line for line in self.server.requests if line.startswith("DELETE")]
        return [line.rpartition("/")[2] for line in asked]


def _container(version: str) -> Object:
    return {"name": "app", "image": f"{IMAGE}:{version}"}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[StatefulSet]:
    server, clock = KubeServer("a-token"), ManualClock()
    await server.start()
    usual: dict[str, object] = {"statefulset": "checkout", "kubeconfig": server.kubeconfig(folder / "kubeconfig")}
    async with making(ADAPTER, usual, folder / "state", clock) as make:
        yield StatefulSet(server, make, clock)
    await server.stop()
