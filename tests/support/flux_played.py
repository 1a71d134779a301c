"""Flux as a workload's owner on the small Kubernetes: it applies what it fetched, unless suspended."""

from __future__ import annotations

from contextlib import suppress

import yaml

from tests.support.kube_store import Object, Refused, Store
from tests.support.repository import Repository

MANIFEST = "apps/checkout/deployment.yaml"


def manifest(version: str) -> str:
    """A Deployment as it lies in git, with no more in it than what is read there."""
    containers = [{"name": "app", "image": f"registry.test:5000/shop/checkout:{version}"}]
    return yaml.safe_dump({"kind": "Deployment", "spec": {"template": {"spec": {"containers": containers}}}})


class Flux:
    """One GitRepository `deploy` and one Kustomization `apps`. `fetches` off stands for a source that lags."""

    def __init__(self, store: Store, repository: Repository) -> None:
        self._store, self._repository = store, repository
        self.fetches = True
        self.kustomization = "apps"
        store.put("gitrepositories", {"metadata": {"name": "deploy"}, "spec": {}})
        spec = {"sourceRef": {"kind": "GitRepository", "name": "deploy"}}
        store.put("kustomizations", {"metadata": {"name": "apps"}, "spec": spec})

    @property
    def suspended(self) -> bool:
        return bool(self.found["spec"].get("suspend", False))

    @property
    def found(self) -> Object:
        return self._store.get("kustomizations", "apps")

    def change(self, part: str, **values: object) -> None:
        """As a human does it to the Kustomization."""
        found = self.found
        found.setdefault(part, {}).update(values)
        self._store.put("kustomizations", found)

    def run(self) -> None:
        """What both controllers do until nothing is left to do."""
        with suppress(Refused):
            source = self._store.get("gitrepositories", "deploy")
            if self.fetches:
                source["status"] = {"artifact": {"revision": f"main@sha1:{self._repository.head}"}}
                self._store.put("gitrepositories", source)
            revision = source.get("status", {}).get("artifact", {}).get("revision", "")
            if not self.suspended and revision:
                self._apply(revision)

    def _apply(self, revision: str) -> None:
        self.change("status", lastAttemptedRevision=revision)
        wanted = yaml.safe_load(self._repository.text(MANIFEST, revision.rpartition(":")[2]))["spec"]["template"]
        found = self._store.get("deployments", "checkout")
        container = found["spec"]["template"]["spec"]["containers"][0]
        container["image"] = wanted["spec"]["containers"][0]["image"]
        self._store.put("deployments", found)
