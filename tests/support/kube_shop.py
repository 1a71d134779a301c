"""A namespace of a real Kubernetes, in which releases of `checkout` are deployed, and a target looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollbackd.errors import Temporary
from rollbackd.targets.base import RevertOrder, Target
from tests.support.kube_real import NODE, Admin, Cluster, Kubelet
from tests.support.kube_store import Object
from tests.support.waiting import eventually_async

RBAC = Path(__file__).parents[2] / "config" / "kubernetes" / "rbac.yaml"
IMAGE = "registry.test/shop/checkout"
KINDS = ("deployment", "statefulset", "daemonset")


@dataclass
class Shop:
    """A namespace of its own, with a kubelet, and a token of the shipped service account."""

    admin: Admin
    kubelet: Kubelet
    namespace: str
    folder: Path
    kubeconfig: Path
    kubectl: Path

    def path(self, kind: str) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/{kind}s/checkout"

    async def deploy(self, version: str, kind: str = "deployment", **annotations: str) -> None:
        """As a CI job does: a patch of the image, or the first manifest."""
        try:
            await self.admin("GET", self.path(kind))
        except AssertionError:
            await self.admin("POST", self.path(kind).rpartition("/")[0], manifest(kind, version, annotations))
            return
        containers = [{"name": "app", "image": f"{IMAGE}:{version}"}]
        spec = {"template": {"spec": {"containers": containers}}}
        body = {"metadata": {"annotations": annotations}, "spec": spec}
        await self.admin("PATCH", self.path(kind), body, patch="strategic-merge")

    async def rolled_out(self, target: Target, version: str) -> None:
        async def there() -> bool:
            try:
                release = await target.current()
                return release is not None and release.version == version and await target.settled(version)
            except Temporary:
                return False

        await eventually_async(there, within=60)

    async def get(self, kind: str = "deployment") -> Any:
        return await self.admin("GET", self.path(kind))


def manifest(kind: str, version: str, annotations: dict[str, str]) -> Object:
    spec: Object = {
        "selector": {"matchLabels": {"app": "checkout"}},
        "template": {
            "metadata": {"labels": {"app": "checkout"}},
            "spec": {
                "nodeName": NODE,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "app", "image": f"{IMAGE}:{version}"}],
            },
        },
    }
    names = {"deployment": "Deployment", "statefulset": "StatefulSet", "daemonset": "DaemonSet"}
    if kind != "daemonset":
        spec["replicas"] = 2
    if kind == "statefulset":
        spec["serviceName"] = "checkout"
    meta = {"name": "checkout", "annotations": annotations}
    return {"apiVersion": "apps/v1", "kind": names[kind], "metadata": meta, "spec": spec}


async def settled(target: Target, version: str) -> None:
    async def there() -> bool:
        with suppress(Temporary):
            return await target.settled(version)
        return False

    await eventually_async(there, within=60)


async def insisting(target: Target, order: RevertOrder) -> None:
    """As the executor does: Temporary trouble is tried again."""
    for _ in range(50):
        try:
            await target.revert(order)
        except Temporary:
            await asyncio.sleep(0.1)
        else:
            return
    raise AssertionError("it never came to an end")


@asynccontextmanager
async def opened(real: Cluster, admin: Admin, folder: Path) -> AsyncIterator[Shop]:
    """One of its own, with the rights that are shipped and a kubelet."""
    name = f"shop-{folder.name.replace('_', '-').lower()[:40]}"
    with suppress(AssertionError):
        await admin("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        await admin("PATCH", f"/api/v1/nodes/{NODE}", {"spec": {"taints": None}})
    await admin("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    for document in RBAC.read_text().replace("namespace: shop", f"namespace: {name}").split("\n---\n"):
        with suppress(AssertionError):  # rollbackd's own namespace and account are there from the second test on
            await admin.apply(document)
    account = "/api/v1/namespaces/rollbackd/serviceaccounts/rollbackd/token"
    token = (await admin("POST", account, {"spec": {"expirationSeconds": 3600}}))["status"]["token"]
    kubeconfig = real.kubeconfig(folder / "kubeconfig", token, name)
    kubelet = Kubelet(admin, name)
    running = asyncio.create_task(kubelet.run())
    try:
        yield Shop(admin, kubelet, name, folder, kubeconfig, real.kubectl)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        for kind in KINDS:
            with suppress(AssertionError):
                await admin("DELETE", f"/apis/apps/v1/namespaces/{name}/{kind}s/checkout")
