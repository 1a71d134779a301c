"""A Helm release `shop` with the workloads `checkout` and `worker` in a namespace of a real Kubernetes."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import built
from tests.support.kube_real import ADMIN, Cluster
from tests.support.kube_shop import RBAC, Shop

CHART = Path(__file__).parent / "chart"


@dataclass
class HelmShop:
    """The release, and `program` which leads to the real helm unless a test puts something else there."""

    shop: Shop
    admin: Path
    program: Path
    real: Path

    async def helm(self, *arguments: str, fails: bool = False) -> str:
        """What somebody else does with helm, as the administrator; what it prints. Cancelled, it is killed."""
        where = ("--kubeconfig", str(self.admin), "--namespace", self.shop.namespace)
        process = await asyncio.create_subprocess_exec(
            self.real, *arguments, *where, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        assert (process.returncode != 0) is fails, printed.decode()
        return printed.decode()

    async def upgrade(self, *more: str, fails: bool = False, **values: str) -> None:
        """Install the chart, or upgrade to these values."""
        chosen = [f"--set={name}={value}" for name, value in values.items()]
        await self.helm("upgrade", "--install", "shop", str(CHART), *chosen, *more, fails=fails)

    async def history(self) -> list[tuple[int, str, str]]:
        """Revision, state and description, oldest first."""
        found: list[dict[str, Any]] = json.loads(await self.helm("history", "shop", "-o", "json"))
        return [(one["revision"], one["status"], one["description"]) for one in found]

    async def call_it(self, revision: int, status: str) -> None:
        """Put a revision into a state, as a helm that died there leaves it."""
        path = f"/api/v1/namespaces/{self.shop.namespace}/secrets/sh.helm.release.v1.shop.v{revision}"
        kept = (await self.shop.admin("GET", path))["data"]["release"]
        release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(kept))))
        release["info"]["status"] = status
        packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
        await self.shop.admin("PATCH", path, {"metadata": {"labels": {"status": status}}, "data": {"release": packed}})

    def instead(self, script: str) -> None:
        """From now on this runs in the place of helm; $HELM is the real one."""
        draft = self.program.with_suffix(".new")
        draft.write_text(f"#!/bin/sh\nHELM={self.real}\n{script}\n")
        draft.chmod(0o755)
        draft.replace(self.program)


@asynccontextmanager
async def helm_shop(real: Cluster, shop: Shop) -> AsyncIterator[HelmShop]:
    """One, with the rights for it that are shipped; nothing is installed yet."""
    programs = built.programs("helm")
    assert programs is not None, "make built"
    rights = RBAC.with_name("rbac-helm.yaml").read_text().replace("namespace: shop", f"namespace: {shop.namespace}")
    for document in rights.split("\n---\n"):
        await shop.admin.apply(document)
    admin = real.kubeconfig(shop.folder / "admin.yaml", ADMIN, shop.namespace)
    program = Path(os.environ.get("HELM_UNDER_TEST", str(programs / "helm")))
    one = HelmShop(shop, admin, shop.folder / "helm", program)
    one.instead('exec "$HELM" "$@"')
    yield one
    with suppress(AssertionError):
        await one.helm("uninstall", "shop")
