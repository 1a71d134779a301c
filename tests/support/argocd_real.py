"""A real Argo CD on a real cluster, built by `make built`: its API server, repository server, controller and redis."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support import built
from tests.support.kube_real import ADMIN, Admin, Cluster, administering, free_ports, running
from tests.support.kube_store import Object
from tests.support.waiting import eventually_async

NAMESPACE = "argocd"
ACCOUNT = "rollbackd"
_POLICY = f"""
p, role:{ACCOUNT}, applications, get, */*, allow
p, role:{ACCOUNT}, applications, update, default/*, allow
p, role:{ACCOUNT}, applications, sync, default/*, allow
g, {ACCOUNT}, role:{ACCOUNT}
"""
"""What docs/targets/argocd.md says is needed."""


@dataclass
class RealArgo:
    """A running one, its administrator, and the token of the account that rollbackd has."""

    url: str
    token_file: Path
    kube: Admin
    session: aiohttp.ClientSession

    async def __call__(self, method: str, path: str, body: object = None) -> Any:
        """The answer. Raises AssertionError for a refusal."""
        async with self.session.request(method, f"/api/v1{path}", json=body) as response:
            answer = await response.json()
            assert response.status < 300, answer
            return answer

    async def create(self, name: str, repository: str, namespace: str, automated: Object | None) -> None:
        """An application of the folder `app` in a repository."""
        spec = {
            "project": "default",
            "source": {"repoURL": repository, "path": "app", "targetRevision": "main"},
            "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
            **({"syncPolicy": {"automated": automated}} if automated is not None else {}),
        }
        await self("POST", "/applications", {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})

    async def refresh(self, name: str) -> Any:
        """The application, once Argo CD has looked at its repository again."""
        return await self("GET", f"/applications/{name}?refresh=normal")


@dataclass(frozen=True)
class Running:
    """Where one listens, with a file that holds the token of rollbackd's account, and its administrator's token."""

    url: str
    token_file: Path
    admin: str


@contextmanager
def argocd(cluster: Cluster, folder: Path) -> Iterator[Running]:
    """Start all four in a cluster, and end them."""
    asyncio.run(_install(cluster))
    redis, repo, server, *metrics = free_ports(6)
    with ExitStack() as stack:
        bare = ["redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        stack.enter_context(running(folder, "redis", bare))
        environment = _environment(cluster, folder)
        parts = {
            "argocd-repo-server": [f"--port={repo}", f"--metrics-port={metrics[0]}", "--address=127.0.0.1"],
            "argocd-application-controller": [f"--repo-server=127.0.0.1:{repo}", f"--metrics-port={metrics[1]}"],
            "argocd-server": [
                f"--repo-server=127.0.0.1:{repo}",
                f"--port={server}",
                f"--metrics-port={metrics[2]}",
                "--address=127.0.0.1",
                "--insecure",
            ],
        }
        for name, flags in parts.items():
            command = [
                "env",
                *environment,
                f"ARGOCD_BINARY_NAME={name}",
                _program(),
                *flags,
                f"--redis=127.0.0.1:{redis}",
            ]
            stack.enter_context(running(folder, name, command))
        yield asyncio.run(_logged_in(cluster, f"http://127.0.0.1:{server}", folder))


@asynccontextmanager
async def administering_argo(running: Running, kube: Admin) -> AsyncIterator[RealArgo]:
    """Its administrator for the time of a block."""
    # Argo CD takes a request that changes something only with a content type, be there a body or not
    headers = {"Authorization": f"Bearer {running.admin}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(running.url, headers=headers) as session:
        yield RealArgo(running.url, running.token_file, kube, session)


async def _logged_in(cluster: Cluster, url: str, folder: Path) -> Running:
    async with administering(cluster) as kube, aiohttp.ClientSession(url) as session:
        await eventually_async(lambda: _answers(session), within=120)
        secret = await kube("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/argocd-initial-admin-secret")
        password = base64.b64decode(secret["data"]["password"]).decode()
        async with session.post("/api/v1/session", json={"username": "admin", "password": password}) as response:
            admin = str((await response.json())["token"])
        found = Running(url, folder / "argocd-token", admin)
    async with administering(cluster) as kube, administering_argo(found, kube) as argo:
        made = await argo("POST", f"/account/{ACCOUNT}/token", {"name": ACCOUNT})
        found.token_file.write_text(made["token"])
    return found


async def _answers(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("/healthz", timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _program() -> str:
    programs = built.programs("argocd")
    assert programs is not None, "make built"
    return str(programs / "cmd")


def _environment(cluster: Cluster, folder: Path) -> list[str]:
    config = cluster.kubeconfig(folder / "argocd.yaml", ADMIN, NAMESPACE)
    for name in ("tls", "ssh", "gpg", "repos"):
        (folder / name).mkdir(exist_ok=True)
    return [
        f"KUBECONFIG={config}",
        "ARGOCD_FAKE_IN_CLUSTER=true",
        "ARGOCD_GPG_ENABLED=false",
        f"ARGOCD_TLS_DATA_PATH={folder / 'tls'}",
        f"ARGOCD_SSH_DATA_PATH={folder / 'ssh'}",
        f"ARGOCD_PLUGINSOCKFILEPATH={folder / 'plugins'}",
        f"TMPDIR={folder / 'repos'}",
        "HOSTNAME=argocd-application-controller-0",
        "ARGOCD_RECONCILIATION_TIMEOUT=5s",
        "ARGOCD_RECONCILIATION_JITTER=0",
    ]


async def _install(cluster: Cluster) -> None:
    """What its install manifests create that these parts need: definitions, settings and the namespace."""
    async with administering(cluster) as kube:
        await _put_in(kube, await asyncio.to_thread(_module))


async def _put_in(kube: Admin, module: Path) -> None:
    for name in ("application", "applicationset", "appproject"):
        text = (module / "manifests" / "crds" / f"{name}-crd.yaml").read_text()
        definition = await asyncio.to_thread(yaml.load, text, yaml.CSafeLoader)
        await kube("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    await eventually_async(lambda: _served(kube), within=30)
    await kube("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    settings = {
        "argocd-cm": {f"accounts.{ACCOUNT}": "apiKey", "timeout.reconciliation": "5s"},
        "argocd-rbac-cm": {"policy.csv": _POLICY},
        "argocd-cmd-params-cm": {},
        "argocd-tls-certs-cm": {},
        "argocd-ssh-known-hosts-cm": {},
        "argocd-gpg-keys-cm": {},
    }
    labels = {"app.kubernetes.io/part-of": "argocd"}
    for name, data in settings.items():
        meta = {"name": name, "labels": {**labels, "app.kubernetes.io/name": name}}
        await kube("POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", {"metadata": meta, "data": data})
    meta = {"name": "argocd-secret", "labels": {**labels, "app.kubernetes.io/name": "argocd-secret"}}
    await kube("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", {"metadata": meta, "type": "Opaque"})


async def _served(kube: Admin) -> bool:
    """Whether the API server has taken the definitions up."""
    try:
        for plural in ("applications", "applicationsets", "appprojects"):
            await kube("GET", f"/apis/argoproj.io/v1alpha1/{plural}")
    except (AssertionError, aiohttp.ContentTypeError):
        return False
    return True


def _module() -> Path:
    """Where the module lies whose program runs."""
    listed = subprocess.run(
        ["go", "list", "-mod=mod", "-m", "-f", "{{.Dir}}", "github.com/argoproj/argo-cd/v3"],
        cwd=built.RECIPES / "argocd",
        env={**os.environ, "GOFLAGS": "-mod=mod"},
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(listed.stdout.strip())
