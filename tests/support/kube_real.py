"""A real API server with its controllers and etcd, built by `make built`, and a kubelet that runs nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support import built
from tests.support.kube_store import Object, digest

ADMIN = "admin-7c1f"
NODE = "node-1"
_CONTROLLERS = ",".join(
    f"{name}-controller"
    for name in ("deployment", "replicaset", "statefulset", "daemonset", "garbage-collector", "endpointslice")
)


@dataclass(frozen=True)
class Cluster:
    """A running one, with what is needed to talk to it as its administrator."""

    url: str
    ca: Path
    folder: Path
    kubectl: Path

    @property
    def trust(self) -> ssl.SSLContext:
        """Whom to trust."""
        return ssl.create_default_context(cafile=str(self.ca))

    def kubeconfig(self, path: Path, token: str, namespace: str = "default") -> Path:
        """Write one for this token."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        content = {
            "current-context": "test",
            "clusters": [{"name": "real", "cluster": cluster}],
            "users": [{"name": "tester", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "real", "user": "tester", "namespace": namespace}}],
        }
        path.write_text(yaml.safe_dump(content))
        path.chmod(0o600)
        return path


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start all three, and end them."""
    programs = built.programs("kubernetes")
    assert programs is not None, "make built"
    ports = free_ports(4)
    etcd, peer, api, _ = ports
    with ExitStack() as stack:
        urls = [f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"]
        stack.enter_context(running(folder, "etcd", _etcd(folder, *urls)))
        key = folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(f"{ADMIN},admin,admin,system:masters\n")
        server = [str(programs / "kube-apiserver"), *_api_flags(folder, api, urls[0], key)]
        stack.enter_context(running(folder, "kube-apiserver", server))
        found = Cluster(f"https://127.0.0.1:{api}", folder / "certs" / "apiserver.crt", folder, programs / "kubectl")
        _wait_until_ready(found)
        admin = found.kubeconfig(folder / "admin.yaml", ADMIN)
        manager = [
            str(programs / "kube-controller-manager"),
            f"--kubeconfig={admin}",
            f"--controllers={_CONTROLLERS}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={key}",
        ]
        stack.enter_context(running(folder, "kube-controller-manager", manager))
        yield found


def _etcd(folder: Path, client: str, peer: str) -> list[str]:
    return [
        "etcd",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]


def _api_flags(folder: Path, port: int, etcd: str, key: Path) -> list[str]:
    return [
        f"--etcd-servers={etcd}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--cert-dir={folder / 'certs'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--disable-admission-plugins=ServiceAccount",
    ]


@contextmanager
def running(folder: Path, name: str, command: Sequence[str], **variables: str) -> Iterator[None]:
    """A program for the time of a block; what it says is in `NAME.log`."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **variables})
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports(count: int) -> list[int]:
    """So many ports that nothing listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


def _wait_until_ready(found: Cluster, within: float = 90.0) -> None:
    until = time.monotonic() + within
    asked = urllib.request.Request(f"{found.url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(asked, context=found.trust, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise AssertionError((found.folder / "kube-apiserver.log").read_text()[-3000:])


class Admin:
    """Talks to the API server as its administrator does."""

    def __init__(self, session: aiohttp.ClientSession, trust: ssl.SSLContext) -> None:
        self._session, self._trust = session, trust

    async def __call__(self, method: str, path: str, body: object = None, *, patch: str = "merge") -> Any:
        """The object in the answer. Raises AssertionError for a refusal."""
        kind = "apply-patch+yaml" if patch == "apply" else f"{patch}-patch+json"
        headers = {"Content-Type": f"application/{kind}"} if method == "PATCH" else {}
        async with self._session.request(method, path, json=body, headers=headers, ssl=self._trust) as response:
            answer = await response.json()
            assert response.status < 300, answer
            return answer

    async def apply(self, manifest: str) -> None:
        """Create what a manifest holds."""
        for one in yaml.safe_load_all(manifest):
            group, _, kind = one["apiVersion"], None, f"{one['kind'].lower()}s"
            folder = "/api/v1" if group == "v1" else f"/apis/{group}"
            namespace = one["metadata"].get("namespace")
            place = f"{folder}/namespaces/{namespace}/{kind}" if namespace else f"{folder}/{kind}"
            await self("POST", place, one)


@asynccontextmanager
async def administering(found: Cluster) -> AsyncIterator[Admin]:
    """An administrator for the time of a block."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with aiohttp.ClientSession(found.url, headers=headers) as session:
        yield Admin(session, found.trust)


class Kubelet:
    """Says of pods what a kubelet would say, and lets go of those that are to be deleted.

    `broken` names images whose pods never become ready; `moved` maps an image to what its tag points to by now.
    """

    def __init__(self, admin: Admin, namespace: str) -> None:
        self._admin, self._pods = admin, f"/api/v1/namespaces/{namespace}/pods"
        self.broken: set[str] = set()
        self.moved: dict[str, str] = {}
        self.starts_after = 0.0
        self._first_seen: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for pod in (await self._admin("GET", self._pods))["items"]:
                await self._look_after(pod)
            await asyncio.sleep(0.05)

    async def _look_after(self, pod: Object) -> None:
        place = f"{self._pods}/{pod['metadata']['name']}"
        try:
            if "deletionTimestamp" in pod["metadata"]:
                await self._admin("DELETE", place, {"gracePeriodSeconds": 0})
            elif "containerStatuses" not in pod["status"] and self._started(pod):
                await self._admin("PATCH", f"{place}/status", {"status": self._status(pod)})
        except AssertionError as refused:
            if "404" not in str(refused) and "409" not in str(refused):
                raise

    def _started(self, pod: Object) -> bool:
        """Whether it had its time to start."""
        seen = self._first_seen.setdefault(pod["metadata"]["uid"], time.monotonic())
        return time.monotonic() - seen >= self.starts_after

    def _status(self, pod: Object) -> Object:
        image = pod["spec"]["containers"][0]["image"]
        ready = image not in self.broken
        container = {
            "name": pod["spec"]["containers"][0]["name"],
            "image": image,
            "imageID": f"{image.partition(':')[0]}@{self.moved.get(image, digest(image))}",
            "ready": ready,
            "restartCount": 0 if ready else 3,
            "state": {"running": {}} if ready else {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        }
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}
        number = int(pod["metadata"]["uid"][:4], 16)
        address = f"10.1.{number // 256}.{number % 256}"
        addresses = {"podIP": address, "podIPs": [{"ip": address}]}
        return {"phase": "Running", "conditions": [condition], "containerStatuses": [container], **addresses}
