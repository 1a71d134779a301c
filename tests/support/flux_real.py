"""Flux's real kustomize-controller, built by `make built`, and a repository that it applies.

Its source-controller is played: it packs the branch's head when `reconcile.fluxcd.io/requestedAt` asks for that.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support import built
from tests.support.kube_real import ADMIN, Admin, Cluster, running
from tests.support.kube_shop import Shop, manifest
from tests.support.kube_store import Object, now
from tests.support.repository import Repository
from tests.support.waiting import eventually_async

RBAC = Path(__file__).parents[2] / "config" / "kubernetes" / "rbac-flux.yaml"
CONTROLLER = "kustomize-controller"
MODULES = (CONTROLLER, "source-controller")
"""Whose CRDs are needed."""
MANIFEST = "apps/checkout/deployment.yaml"
_REQUESTED = "reconcile.fluxcd.io/requestedAt"


@contextmanager
def controller(real: Cluster, folder: Path) -> Iterator[None]:
    """It, for a cluster that has the CRDs."""
    programs = built.programs("flux")
    assert programs is not None, "make built"
    variables = {
        "KUBECONFIG": str(real.kubeconfig(folder / "flux.yaml", ADMIN)),
        "RUNTIME_NAMESPACE": "flux-system",
        "TMPDIR": str(folder),
    }
    flags = ["--metrics-addr=0", "--health-addr=127.0.0.1:0", "--interval-jitter-percentage=0"]
    with running(folder, CONTROLLER, [str(programs / CONTROLLER), *flags], **variables):
        yield


def definitions() -> list[Object]:
    """Flux's own CRDs, from its modules."""
    recipe = (built.RECIPES / "flux" / "go.mod").read_text()
    version = next(line.partition("=")[2] for line in recipe.splitlines() if line.startswith("// VERSION="))
    found: list[Object] = []
    for name in MODULES:
        command = ["go", "mod", "download", "-json", f"github.com/fluxcd/{name}@{version}"]
        module = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        folder = Path(module["Dir"], "config", "crd", "bases")
        found += [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))]
    return found


async def install(admin: Admin, crds: list[Object]) -> None:
    """Make the API server know them; once a cluster."""
    folder = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for crd in crds:
        with suppress(AssertionError):  # it is there from the test before
            await admin("POST", folder, crd)
    names = [crd["metadata"]["name"] for crd in crds]

    async def established() -> bool:
        found = [(await admin("GET", f"{folder}/{name}")).get("status", {}) for name in names]
        return all({"type": "Established", "status": "True"}.items() <= _last(one).items() for one in found)

    await eventually_async(established, within=30)


def _last(status: Object) -> Object:
    return next((one for one in status.get("conditions", []) if one["type"] == "Established"), {})


class Source:
    """Plays the source-controller for one GitRepository: packs the branch's head when asked, and serves it."""

    def __init__(self, admin: Admin, path: str, repository: Repository, folder: Path) -> None:
        self._admin, self._path, self._repository, self._folder = admin, path, repository, folder

    async def run(self) -> None:
        """Until cancelled."""
        app = web.Application()
        app.router.add_static("/", self._folder)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        try:
            while True:
                with suppress(AssertionError):  # not there yet, or gone already
                    await self._look(await self._admin("GET", self._path), f"http://127.0.0.1:{server.port}")
                await asyncio.sleep(0.1)
        finally:
            await server.close()

    async def _look(self, found: Object, url: str) -> None:
        asked = found["metadata"].get("annotations", {}).get(_REQUESTED, "first")
        if found.get("status", {}).get("lastHandledReconcileAt") == asked:
            return
        head = self._repository.head
        packed = self._folder / f"{head}.tar.gz"
        self._repository.git("archive", "--format=tar.gz", f"--output={packed}", head)
        artifact = {
            "url": f"{url}/{packed.name}",
            "path": packed.name,
            "revision": f"main@sha1:{head}",
            "digest": f"sha256:{hashlib.sha256(packed.read_bytes()).hexdigest()}",
            "lastUpdateTime": now(),
        }
        status = {"artifact": artifact, "lastHandledReconcileAt": asked, "observedGeneration": 1}
        await self._admin("PATCH", f"{self._path}/status", {"status": status})


class Fleet:
    """A shop whose Deployment comes from git: `deploy` is its GitRepository and `apps` its Kustomization."""

    def __init__(self, shop: Shop, repository: Repository, url: str, ca: Path) -> None:
        self.shop, self.repository, self.url, self.ca = shop, repository, url, ca
        self.namespace = f"{shop.namespace}-flux"

    async def begin(self, **kustomization: object) -> None:
        """Write both, and what rollbackd may do about them."""
        admin, meta = self.shop.admin, {"namespace": self.namespace}
        packed = self.shop.folder / "packed"
        packed.mkdir()
        self._playing = asyncio.create_task(Source(admin, self.source, self.repository, packed).run())
        await admin("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        rights = RBAC.read_text().replace("namespace: flux-system", f"namespace: {self.namespace}")
        await admin.apply(rights)
        source = {"url": self.url, "ref": {"branch": "main"}, "interval": "1h"}
        await self._post("source.toolkit.fluxcd.io", "GitRepository", "gitrepositories", "deploy", source, meta)
        spec = {
            "sourceRef": {"kind": "GitRepository", "name": "deploy"},
            "path": "./apps/checkout",
            "interval": "2s",
            "prune": False,
            **kustomization,
        }
        await self._post("kustomize.toolkit.fluxcd.io", "Kustomization", "kustomizations", "apps", spec, meta)

    async def _post(self, group: str, kind: str, plural: str, name: str, spec: Object, meta: Object) -> None:
        body = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}
        await self.shop.admin("POST", f"/apis/{group}/v1/namespaces/{self.namespace}/{plural}", body)

    async def end(self) -> None:
        """Take both away, so that Flux has nothing to do with the namespace any more."""
        self._playing.cancel()
        with suppress(asyncio.CancelledError):
            await self._playing
        for path in (self.kustomization, self.source):
            with suppress(AssertionError):
                await self.shop.admin("PATCH", path, {"metadata": {"finalizers": None}})
                await self.shop.admin("DELETE", path)

    @property
    def kustomization(self) -> str:
        return f"/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{self.namespace}/kustomizations/apps"

    @property
    def source(self) -> str:
        return f"/apis/source.toolkit.fluxcd.io/v1/namespaces/{self.namespace}/gitrepositories/deploy"

    async def push(self, version: str, **environment: str) -> str:
        """A release, as a human pushes it; its commit."""
        new = manifest("deployment", version, {})
        new["metadata"]["namespace"] = self.shop.namespace
        container = new["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [{"name": name, "value": value} for name, value in environment.items()]
        return self.repository.commit({MANIFEST: yaml.safe_dump(new)}, f"release {version}")

    async def applied(self, commit: str) -> None:
        """Have Flux fetch, and return once it has applied the commit."""
        await self.fetch(commit)

        async def there() -> bool:
            return commit in str((await self.get())["status"].get("lastAppliedRevision"))

        await eventually_async(there, within=60)

    async def fetch(self, token: str) -> None:
        """Ask Flux to fetch, as a webhook does."""
        await self.shop.admin("PATCH", self.source, {"metadata": {"annotations": {_REQUESTED: token}}})

    async def get(self) -> Any:
        return await self.shop.admin("GET", self.kustomization)

    async def applied_again(self) -> None:
        """Return once Flux has gone through another round of its own."""
        token = f"again-{(await self.get())['metadata']['resourceVersion']}"
        await self.shop.admin("PATCH", self.kustomization, {"metadata": {"annotations": {_REQUESTED: token}}})

        async def there() -> bool:
            return bool((await self.get())["status"].get("lastHandledReconcileAt") == token)

        await eventually_async(there, within=60)
