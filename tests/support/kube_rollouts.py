"""The real controller of Argo Rollouts on the real Kubernetes, and Rollouts of `checkout` in a shop there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support import built
from tests.support.kube_real import ADMIN, Admin, Cluster, free_ports, running
from tests.support.kube_shop import IMAGE, RBAC, Shop, manifest
from tests.support.kube_store import Object
from tests.support.waiting import eventually_async

_MODULE = "github.com/argoproj/argo-rollouts"
_RIGHTS = RBAC.with_name("rbac-argo-rollouts.yaml")
PAUSED_AT_HALF: Mapping[str, object] = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}]}}
BLUE_GREEN: Mapping[str, object] = {
    "blueGreen": {"activeService": "active", "autoPromotionEnabled": False, "scaleDownDelaySeconds": 600}
}


def definitions() -> list[Object]:
    """Its CustomResourceDefinitions, from the module that the controller was built from."""
    asked = ["go", "list", "-m", "-f", "{{.Dir}}", _MODULE]
    folder = Path(__file__).parents[1] / "built" / "rollouts"
    found = subprocess.run(asked, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    files = sorted(Path(found, "manifests", "crds").glob("*-crd.yaml"))
    return [yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader) for file in files]


@contextmanager
def controller(real: Cluster) -> Iterator[None]:
    """Run it, as the cluster's administrator, for the time of a block."""
    programs = built.programs("rollouts")
    assert programs is not None, "make built"
    metrics, health = free_ports(2)
    command = [
        str(programs / "rollouts-controller"),
        f"--kubeconfig={real.kubeconfig(real.folder / 'rollouts.yaml', ADMIN)}",
        f"--metricsport={metrics}",
        f"--healthzPort={health}",
        "--leader-elect=false",
    ]
    with running(real.folder, "rollouts-controller", command):
        yield


class Rollouts:
    """The Rollout `checkout` of a shop, as people and their tools handle it."""

    def __init__(self, shop: Shop, strategy: Mapping[str, object]) -> None:
        self.shop, self._strategy = shop, strategy
        self._folder = f"/apis/argoproj.io/v1alpha1/namespaces/{shop.namespace}/rollouts"
        self._path = f"{self._folder}/checkout"
        self.deadline: Mapping[str, object] = {}

    async def open(self) -> None:
        """The rights that are shipped for Rollouts, and the Service that is switched."""
        text = _RIGHTS.read_text().replace("namespace: shop", f"namespace: {self.shop.namespace}")
        for document in text.split("\n---\n"):
            await self.shop.admin.apply(document)
        service = {"metadata": {"name": "active"}, "spec": {"selector": {"app": "checkout"}, "ports": [{"port": 80}]}}
        await self.shop.admin("POST", f"/api/v1/namespaces/{self.shop.namespace}/services", service)

    async def get(self) -> Any:
        return await self.shop.admin("GET", self._path)

    async def deploy(self, version: str) -> None:
        """As a CI job does."""
        containers = [{"name": "app", "image": f"{IMAGE}:{version}"}]
        try:
            await self.get()
        except AssertionError:
            await self.shop.admin("POST", self._folder, self._first(version))
            return
        await self.patch({"spec": {"template": {"spec": {"containers": containers}}}})

    def _first(self, version: str) -> Object:
        first = manifest("deployment", version, {})
        first |= {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
        first["spec"] |= {"strategy": self._strategy, **self.deadline}
        return first

    async def patch(self, change: object, part: str = "") -> None:
        await self.shop.admin("PATCH", self._path + part, change)

    async def promote(self) -> None:
        """As `kubectl argo rollouts promote --full`."""
        await self.patch({"status": {"promoteFull": True}}, "/status")

    async def is_phase(self, phase: str, image: str) -> bool:
        """Whether the controller says so of this release."""
        found = await self.get()
        status = found.get("status", {})
        at = status.get("observedGeneration") == str(found["metadata"]["generation"])
        asked = found["spec"]["template"]["spec"]["containers"][0]["image"]
        marks = await self._marks(image)
        return at and asked.endswith(image) and status.get("phase") == phase and status["currentPodHash"] in marks

    async def _marks(self, image: str) -> Sequence[str]:
        """The hashes of this release's ReplicaSets."""
        sets = await self.shop.admin("GET", f"/apis/apps/v1/namespaces/{self.shop.namespace}/replicasets")
        label = "rollouts-pod-template-hash"
        found = [one for one in sets["items"] if image in str(one["spec"]["template"]["spec"]["containers"])]
        return [one["metadata"]["labels"][label] for one in found]

    async def reaches(self, phase: str, image: str) -> None:
        await eventually_async(lambda: self.is_phase(phase, image), within=60)

    async def promoted(self, version: str) -> None:
        """Deploy a release and see it through."""
        await self.deploy(version)
        await eventually_async(lambda: self._promoted(version), within=60)

    async def _promoted(self, version: str) -> bool:
        if await self.is_phase("Paused", version):
            await self.promote()
        return await self.is_phase("Healthy", version)

    async def images(self) -> list[str]:
        """What all of its pods are to run."""
        pods = await self.shop.admin("GET", f"/api/v1/namespaces/{self.shop.namespace}/pods")
        return sorted(pod["spec"]["containers"][0]["image"].rpartition(":")[2] for pod in pods["items"])

    async def close(self) -> None:
        await self.shop.admin("DELETE", self._path)


async def installed(admin: Admin) -> None:
    """The definitions are there, and served."""
    place = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for one in definitions():
        await admin("POST", place, one)

    async def served() -> bool:
        found = (await admin("GET", place))["items"]
        conditions = [one.get("status", {}).get("conditions", []) for one in found]
        return all(any(c["type"] == "Established" and c["status"] == "True" for c in each or ()) for each in conditions)

    await eventually_async(served, within=30)
