"""How long a revert takes: from the order until the platform accepted it, and until it has settled.

The peers are what people type: for a Swarm service `docker service rollback`, for a container `docker stop`, `rm` and
`run`, for a Deployment `kubectl rollout undo --to-revision`. Ours and the peer take turns, v2 is deployed before each,
and figures are medians. Both are asked by the same `settled` whether all that runs is v1. *Back* is when the first
container of v1 ran.

Ours waits until a container without a health check has run for two seconds (`stable_for`) before the bad one goes, and
`docker run` looks at nothing. So *back* is what can be compared there, and *settled* is what certainty costs.

Containers need dockerd, docker, busybox and the right to start a dockerd. The Deployment, of two pods, is on a real API
server with its real controllers and a kubelet that runs nothing, which says at once that a pod is ready; it needs etcd,
openssl and `make built`. What is not there is left out; nothing is pulled, and nothing is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from rollbackd import registry
from rollbackd.aiokit import SystemClock
from rollbackd.errors import Temporary
from rollbackd.targets.base import RevertOrder, Target, TargetContext
from tests.support import built
from tests.support.kube_real import ADMIN, Cluster, administering, cluster
from tests.support.kube_shop import IMAGE, Shop, manifest, opened

NAME = "rollbackd-bench-shop"
PLATFORMS = ("swarm", "docker", "kubernetes")
QUICK = ("--stop-signal", "SIGKILL")
"""What runs ends at once: how long a service takes to stop is the same for both."""


@dataclass(frozen=True)
class Took:
    """Seconds after the order."""

    accepted: float
    back: float
    settled: float


@dataclass(frozen=True)
class Row:
    """Medians of one platform, in seconds."""

    platform: str
    ours: Took
    peer: Took


class Engine:
    """A Docker engine of our own."""

    def __init__(self, folder: Path) -> None:
        self.host = f"unix://{folder}/docker.sock"

    def docker(self, *arguments: str, given: bytes | None = None) -> str:
        command = ["docker", "--host", self.host, *arguments]
        ran = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
        if ran.returncode != 0:
            raise SystemExit(f"docker {' '.join(arguments)}: {ran.stderr.decode().strip()}")
        return ran.stdout.decode().strip()

    def image(self, version: str, folder: Path) -> None:
        (folder / "bin").mkdir(exist_ok=True)
        shutil.copy(shutil.which("busybox") or "busybox", folder / "bin/busybox")
        archive = subprocess.run(["tar", "-C", str(folder), "-c", "bin"], capture_output=True, check=True).stdout
        changes = ("--change", 'CMD ["/bin/busybox", "sleep", "100000"]', "--change", f"LABEL release={version}")
        self.docker("import", *changes, "-", f"{NAME}:{version}", given=archive)

    def runs(self, version: str) -> bool:
        return bool(self.docker("ps", "--quiet", "--filter", f"ancestor={NAME}:{version}"))


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine of our own, with images of v1 and v2."""
    with tempfile.TemporaryDirectory(prefix="rollbackd-bench-") as name:
        folder = Path(name)
        one = Engine(folder)
        command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--host", one.host]
        command += ["--pidfile", f"{folder}/pid", "--bridge", "none", "--iptables=false"]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                _until(lambda: process.poll() is None and _answers(one), 40, "dockerd does not answer")
                for version in ("v1", "v2"):
                    one.image(version, folder)
                yield one
            finally:
                process.terminate()
                process.wait(timeout=30)
                unmount(folder)


def unmount(folder: Path) -> None:
    """Let go of what an engine leaves mounted below its folder."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for place in reversed(mounted):
        if place.startswith(f"{folder}/"):
            subprocess.run(["umount", place], capture_output=True, check=False)


def _answers(one: Engine) -> bool:
    with suppress(SystemExit):
        one.docker("version")
        return True
    return False


def _until(condition: Callable[[], object], within: float, otherwise: str) -> None:
    ends = time.monotonic() + within
    while not condition():
        if time.monotonic() > ends:
            raise SystemExit(otherwise)
        time.sleep(0.02)


class Subject:
    """A platform: how v1 and v2 come there, what the peer does, and our target."""

    name: str

    @property
    def settings(self) -> dict[str, object]:
        """The target's."""
        raise NotImplementedError

    def deploy(self, version: str) -> None:
        raise NotImplementedError

    def peer(self) -> None:
        raise NotImplementedError

    def runs(self, version: str) -> bool:
        """Whether a container of it does."""
        raise NotImplementedError

    def remove(self) -> None:
        raise NotImplementedError


class OnEngine(Subject):
    """What is on a Docker engine."""

    def __init__(self, engine: Engine) -> None:
        self.docker, self.engine = engine.docker, engine

    def runs(self, version: str) -> bool:
        return self.engine.runs(version)


class Container(OnEngine):
    name = "docker"

    @property
    def settings(self) -> dict[str, object]:
        return {"container": f"{NAME}-alone", "host": self.engine.host}

    def deploy(self, version: str) -> None:
        if self.docker("ps", "--all", "--quiet", "--filter", f"name={NAME}-alone"):
            self.docker("stop", f"{NAME}-alone")
            self.docker("rm", f"{NAME}-alone")
        self.docker("run", "--detach", "--name", f"{NAME}-alone", "--network", "none", *QUICK, f"{NAME}:{version}")

    def peer(self) -> None:
        self.deploy("v1")

    def remove(self) -> None:
        self.docker("rm", "--force", f"{NAME}-alone")


class Service(OnEngine):
    name = "swarm"
    _made = False

    @property
    def settings(self) -> dict[str, object]:
        return {"service": NAME, "host": self.engine.host}

    def deploy(self, version: str) -> None:
        image = f"{NAME}:{version}"
        if self._made:
            self.docker("service", "update", "--detach", "--no-resolve-image", "--image", image, NAME)
        else:
            with socket.create_server(("127.0.0.1", 0)) as server:
                address = f"127.0.0.1:{server.getsockname()[1]}"
            self.docker("swarm", "init", "--advertise-addr", address, "--listen-addr", address)
            options = ("--network", "host", *QUICK, "--update-monitor", "100ms", "--rollback-monitor", "100ms")
            self.docker("service", "create", "--detach", "--no-resolve-image", "--name", NAME, *options, image)
        self._made = True

    def peer(self) -> None:
        self.docker("service", "rollback", "--detach", NAME)

    def remove(self) -> None:
        self.docker("service", "rm", NAME)
        self.docker("swarm", "leave", "--force")


class Deployment(Subject):
    name = "kubernetes"

    def __init__(self, real: Cluster, shop: Shop) -> None:
        self._real, self._shop = real, shop
        self._revision = ""

    @property
    def settings(self) -> dict[str, object]:
        return {"deployment": "checkout", "kubeconfig": str(self._shop.kubeconfig)}

    def deploy(self, version: str) -> None:
        self._kubectl("apply", "--filename", "-", given=json.dumps(manifest("deployment", version, {})))
        if version == "v2":  # whoever undoes to a revision has looked its number up before
            _until(self._look_up, 30, "there is no revision of v1")

    def _look_up(self) -> bool:
        shown = json.loads(self._kubectl("get", "replicasets", "--output", "json"))
        for one in shown["items"]:
            if one["spec"]["template"]["spec"]["containers"][0]["image"] == f"{IMAGE}:v1":
                self._revision = one["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
                return True
        return False

    def peer(self) -> None:
        self._kubectl("rollout", "undo", "deployment/checkout", f"--to-revision={self._revision}")

    def runs(self, version: str) -> bool:
        asked = urllib.request.Request(f"{self._real.url}/api/v1/namespaces/{self._shop.namespace}/pods")
        asked.add_header("Authorization", f"Bearer {ADMIN}")
        with urllib.request.urlopen(asked, context=self._real.trust, timeout=30) as answer:
            pods = json.load(answer)["items"]
        found = [one for pod in pods for one in pod["status"].get("containerStatuses", ())]
        return any(one["ready"] and one["image"] == f"{IMAGE}:{version}" for one in found)

    def remove(self) -> None:
        self._kubectl("delete", "deployment", "checkout", "--wait=false")

    def _kubectl(self, *arguments: str, given: str = "") -> str:
        kubeconfig = self._real.folder / "admin.yaml"
        command = [str(self._real.kubectl), "--kubeconfig", str(kubeconfig), "--namespace", self._shop.namespace]
        ran = subprocess.run(
            [*command, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False
        )
        if ran.returncode != 0:
            raise SystemExit(f"kubectl {' '.join(arguments)}: {ran.stderr.strip()}")
        return ran.stdout


@asynccontextmanager
async def deployment(folder: Path) -> AsyncIterator[Subject]:
    """A Deployment in a cluster of our own, with the rights that are shipped."""
    with cluster(folder) as real:
        async with administering(real) as admin, opened(real, admin, folder) as shop:
            yield Deployment(real, shop)


async def _settled(target: Target, version: str) -> None:
    while True:
        with suppress(Temporary):
            if await target.settled(version):
                return
        await asyncio.sleep(0.02)


async def _turn(subject: Subject, target: Target, key: str | None) -> Took:
    """v2 is deployed, and v1 put back: by us under that key, or by the peer."""
    await asyncio.to_thread(subject.deploy, "v2")
    await asyncio.wait_for(_settled(target, "v2"), 60)

    def back() -> float:
        _until(lambda: subject.runs("v1"), 60, "v1 does not come back")
        return time.monotonic()

    began = time.monotonic()
    seen = asyncio.create_task(asyncio.to_thread(back))
    if key is None:
        await asyncio.to_thread(subject.peer)
    else:
        await target.revert(RevertOrder(to="v1", expect="v2", key=key))
    accepted = time.monotonic()
    await asyncio.wait_for(_settled(target, "v1"), 60)
    settled = time.monotonic()
    return Took(accepted - began, await seen - began, settled - began)


def _figures(took: Took) -> tuple[float, float, float]:
    return took.accepted, took.back, took.settled


def _median(turns: list[Took]) -> Took:
    return Took(*(round(statistics.median(column), 3) for column in zip(*map(_figures, turns), strict=True)))


async def measure(subject: Subject, state: Path, pairs: int) -> Row:
    """So many times ours, then the peer."""
    adapter = registry.load("target", subject.name)
    config = adapter.config.model_validate(subject.settings)
    target: Target = adapter.build(config, TargetContext(service="shop", clock=SystemClock(), state_dir=state))
    ours, peer = [], []
    try:
        await asyncio.to_thread(subject.deploy, "v1")
        await asyncio.wait_for(_settled(target, "v1"), 60)
        for pair in range(pairs):
            ours.append(await _turn(subject, target, f"key-{pair}"))
            peer.append(await _turn(subject, target, None))
    finally:
        subject.remove()
        await target.close()
    return Row(subject.name, _median(ours), _median(peer))


def _on_an_engine(kinds: Sequence[type[OnEngine]], pairs: int) -> list[Row]:
    with engine() as one, tempfile.TemporaryDirectory() as state:
        return [asyncio.run(measure(kind(one), Path(state) / kind.name, pairs)) for kind in kinds]


async def _on_kubernetes(pairs: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="rollbackd-bench-") as name:
        folder = Path(name) / "bench"  # a namespace is called after it, and not every sign of `name` may stand there
        folder.mkdir()
        async with deployment(folder) as subject:
            return await measure(subject, folder / "state", pairs)


def _not_there(kind: str) -> str | None:
    """What has to be there first; None where all is."""
    wanted = ("etcd", "openssl") if kind == "kubernetes" else ("dockerd", "docker", "busybox")
    if missing := [program for program in wanted if shutil.which(program) is None]:
        return f"not installed: {', '.join(missing)}"
    if kind == "kubernetes" and built.programs("kubernetes") is None:
        return "`make built` has not built it"
    return None


def _measured(chosen: list[str], pairs: int) -> list[Row]:
    """A row for each that can be measured here; of the others, why not, on standard error."""
    there = []
    for kind in chosen:
        if (why := _not_there(kind)) is not None:
            print(f"{kind} is left out: {why}", file=sys.stderr)
        else:
            there.append(kind)
    rows = []
    if kinds := [kind for kind in (Service, Container) if kind.name in there]:
        rows += _on_an_engine(kinds, pairs)
    if "kubernetes" in there:
        rows.append(asyncio.run(_on_kubernetes(pairs)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--pairs", type=int, default=5, help="times that ours and the peer take turns (default: 5)")
    parser.add_argument("--only", choices=PLATFORMS, help="measure one platform alone")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows = _measured([options.only] if options.only else list(PLATFORMS), options.pairs)
    if not rows:
        sys.exit("nothing could be measured")
    if not options.json:
        print(f"{'platform':>12}{'':>8}{'accepted':>12}{'back':>12}{'settled':>12}")
        for row in rows:
            for who, took in (("ours", row.ours), ("peer", row.peer)):
                figures = "".join(f"{value:>10.3f} s" for value in asdict(took).values())
                print(f"{row.platform:>12}{who:>8}{figures}")
        return
    first = rows[0]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    head = {"name": "revert", "unit": "s", "ours": first.ours.settled, "peer": first.peer.settled}
    told = {"ratio": round(first.peer.settled / first.ours.settled, 2), "machine": machine}
    print(json.dumps(head | told | {"rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
