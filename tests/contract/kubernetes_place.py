"""The place where the target `kubernetes` is tested: a small Kubernetes on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web

from tests.contract.place import SECRET, Place
from tests.support.clock import ManualClock, settle
from tests.support.kube_server import KubeServer, status
from tests.support.kube_store import Object, Refused
from tests.support.waiting import eventually

IMAGE = "registry.test/shop/checkout"


class KubernetesPlace(Place):
    """A Deployment whose revisions are v1, v2 and v3. A revert ends when the pods are replaced."""

    LOCKS = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.server = KubeServer(SECRET)
        self.server.controllers.on_complete = self._completed
        self._finished: list[str] = []
        self._held: asyncio.Event | None = None
        self._arrived = False

    async def start(self) -> None:
        await self.server.start()
        self.server.kubeconfig(self.root / "kubeconfig")
        for version in ("v1", "v3", "v2"):
            self.deploy(version)

    async def stop(self) -> None:
        if self._held is not None:
            self._held.set()
        await self.server.stop()

    @property
    def settings(self) -> Mapping[str, object]:
        return {"deployment": "checkout", "kubeconfig": str(self.root / "kubeconfig"), "timeout": "5s"}

    def deploy(self, version: str) -> None:
        store = self.server.store
        try:
            found = store.get("deployments", "checkout")
        except Refused:
            found = {"metadata": {"name": "checkout"}, "spec": {"replicas": 2}}
        found["spec"] |= {"selector": {"matchLabels": {"app": "checkout"}}, "template": _template(version)}
        store.put("deployments", found)
        for _ in range(2):
            self.server.controllers.run()

    def vanish(self) -> None:
        self.server.store.delete("deployments", "checkout")

    def _completed(self, deployment: Object) -> None:
        notes = deployment["metadata"]["annotations"]
        keys = json.loads(notes.get("io.rollbackd/key", "[]"))
        tag = deployment["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]
        ours = self.server.patched and self.server.patched[-1]["spec"] == deployment["spec"]
        if ours and (line := f"{keys[-1]} {tag}") not in self._finished:
            self._finished.append(line)

    # -- the end of a revert

    @property
    def held(self) -> bool:
        return self._arrived

    def hold(self) -> None:
        self._held = asyncio.Event()
        self.server.controllers.stalled = True
        self.server.after_patch = self._wait

    async def _wait(self, _request: web.Request) -> web.StreamResponse | None:
        self._arrived = True
        if self._held is not None:
            await self._held.wait()
        return None

    def let_go(self) -> None:
        assert self._held is not None
        self._held.set()
        self.server.controllers.stalled = False

    def fail(self) -> None:
        self.server.controllers.stalled = True
        self.server.after_patch = self._refuse

    async def _refuse(self, request: web.Request) -> web.StreamResponse | None:
        return status(500, "InternalError", f"cannot log in with {request.headers['Authorization']}")

    def heal(self) -> None:
        self.server.after_patch = None
        self.server.controllers.stalled = False

    @property
    def finished(self) -> list[str]:
        return [*self._finished]

    def snapshot(self) -> list[tuple[str, int, int, str]]:
        objects = self.server.store.objects.items()
        return [(f"{kind}/{name}", 0, 0, json.dumps(one, sort_keys=True)) for (kind, name), one in sorted(objects)]

    # -- watching

    async def caught_up(self, clock: ManualClock) -> None:
        """Every watch was told everything, and nothing came of it that is not done."""
        away = self.server.misbehave is not None

        def done() -> bool:
            return bool(clock.sleeping) if away else bool(self.server.watching) and self.server.quiet

        for _ in range(200):
            if not away and not self.server.watching and clock.sleeping:
                await clock.advance(1.0)
            await asyncio.sleep(0.005)
            if done():
                break
        await eventually(done)
        for _ in range(5):
            await asyncio.sleep(0.002)
            await settle()
        await eventually(done)

    def go_away(self) -> None:
        async def away(_request: web.Request) -> web.StreamResponse:
            return status(503, "ServiceUnavailable", "the server is currently unable to handle the request")

        self.server.misbehave = away
        for task in [*self.server.watching]:
            if task is not None:
                task.cancel()

    def come_back(self) -> None:
        self.server.misbehave = None

    # -- faults

    def _answers(self, make: Callable[[], web.StreamResponse]) -> None:
        async def answer(_request: web.Request) -> web.StreamResponse:
            return make()

        self.server.misbehave = answer

    def _mute(self) -> None:
        async def wait(_request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(30)
            return web.Response()

        self.server.misbehave = wait

    def _move_port(self) -> None:
        path = self.root / "kubeconfig"
        path.write_text(path.read_text().replace(f":{self.server.port}", ":1"))

    def _write_kubeconfig(self, content: bytes) -> None:
        (self.root / "kubeconfig").write_bytes(content)

    def _damage_memory(self) -> None:
        self.state_dir.mkdir(exist_ok=True)
        (self.state_dir / "revisions.json").write_bytes(b"\0garbage\n")

    def _drop_revision(self) -> None:
        for one in self.server.store.all("replicasets"):
            if one["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":v1"):
                self.server.store.delete("replicasets", one["metadata"]["name"])

    FAULTS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "the server is not there": lambda place: place._move_port(),
        "the server is overloaded": lambda place: place._answers(lambda: status(429, "TooManyRequests", SECRET)),
        "the server fails": lambda place: place._answers(lambda: status(500, "InternalError", SECRET)),
        "the server knows nobody": lambda place: place._answers(lambda: status(401, "Unauthorized", SECRET)),
        "the server allows nothing": lambda place: place._answers(lambda: status(403, "Forbidden", SECRET)),
        "the server is another one": lambda place: place._answers(lambda: web.Response(text="<html>", status=404)),
        "the server talks garbage": lambda place: place._answers(lambda: web.Response(body=b"\xff{\0")),
        "the server nests without end": lambda place: place._answers(lambda: web.Response(text="[" * 200_000)),
        "the server redirects": lambda place: place._answers(lambda: web.Response(status=302)),
        "the token is another one": lambda place: setattr(place.server, "token", "another"),
        "the kubeconfig is gone": lambda place: (place.root / "kubeconfig").unlink(),
        "the kubeconfig is garbage": lambda place: place._write_kubeconfig(b"\0{"),
        "the kubeconfig is empty": lambda place: place._write_kubeconfig(b""),
        "the Deployment is gone": lambda place: place.vanish(),
        "the revision is gone": lambda place: place._drop_revision(),
        "the memory is damaged": lambda place: place._damage_memory(),
        "a right is missing": lambda place: (
            place.server.denied.add("patch deployments"),
            place._answers_to("PATCH", lambda: status(403, "Forbidden", "no")),
        ),
    }

    def _answers_to(self, method: str, make: Callable[[], web.StreamResponse]) -> None:
        async def answer(request: web.Request) -> web.StreamResponse | None:
            return make() if request.method == method else None

        self.server.misbehave = answer


def _template(version: str) -> Object:
    container = {"name": "app", "image": f"{IMAGE}:{version}"}
    return {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [container]}}
