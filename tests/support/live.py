"""A real daemon on real folders of releases, for tests of the whole."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from rollbackd.ledger.base import FINAL_STATES
from rollbackd.web.views import DecisionView, DeploymentView, RollbackView, ServiceView, StatusView
from tests.support.servers import Server, text
from tests.support.waiting import eventually_async

CONFIG = """\
listen: 127.0.0.1:{port}
data_dir: {home}/data
auth: {{anonymous: [read, operate, deploy, ingest]}}
{extra}
services:
  shop:
    target: {{release_dir: {{path: {home}/shop, restart: "sh {home}/shop.restart.sh", poll: 100ms}}}}
    sources:
      - probe: {{url: "http://127.0.0.1:{shown}/healthz", interval: 100ms}}
    bake: 30s
    warmup: 300ms
    verify_for: 500ms
    verify_within: 20s
    rules: {{alert: {{lasting: 500ms}}}}
"""


class ReservedPort:
    """A loopback port that nobody else is given while this lives.

    It is bound and not listened on: Linux gives such a port to no one who asks for any, and yet to one who asks for
    this very port with SO_REUSEADDR, as asyncio does.
    """

    def __init__(self) -> None:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self.number: int = held.getsockname()[1]
        weakref.finalize(self, os.close, held.detach())


class Shelf:
    """A folder with releases v1 to v3 of a service, v1 in place, and a restart command that counts its runs."""

    def __init__(self, home: Path, name: str) -> None:
        self.name, self.folder = name, home / name
        for version in ("v1", "v2", "v3"):
            release = self.folder / "releases" / version
            release.mkdir(parents=True)
            (release / "app").write_text(version)
        self.link = self.folder / "current"
        self.link.symlink_to("releases/v1")
        self._restarts = home / f"{name}.restarts"
        self.restart = home / f"{name}.restart.sh"
        self.restart.write_text(f"cat {self.link}/app >> {self._restarts}; echo >> {self._restarts}\n")

    def deploy(self, version: str) -> None:
        """What a deploy script does: a new link in the place of the old one."""
        fresh = self.link.with_name("fresh")
        fresh.symlink_to(f"releases/{version}")
        fresh.replace(self.link)

    def hold_restarts(self) -> Path:
        """From now on, the restart command waits for this file before all else."""
        gate = self.folder / "gate"
        self.restart.write_text(f"while ! test -e {gate}; do sleep 0.02; done\n" + self.restart.read_text())
        return gate

    @property
    def in_place(self) -> str:
        return self.link.readlink().name

    @property
    def restarts(self) -> list[str]:
        """The release that was in place at each restart."""
        return self._restarts.read_text().split() if self._restarts.exists() else []


class Site(Shelf):
    """The service `shop`, which is well while the daemon runs, and the configuration that watches it."""

    def __init__(self, home: Path, extra: str = "") -> None:
        super().__init__(home, "shop")
        self._ports = ReservedPort(), ReservedPort()
        self.home, self.port = home, self._ports[0].number
        self.server = Server(text("well"))
        self.server.port = self._ports[1].number
        self.config = home / "rollbackd.yaml"
        self.config.write_text(CONFIG.format(port=self.port, shown=self.server.port, home=home, extra=extra))


class Api:
    """A running daemon at `url`, asked over HTTP."""

    url: str
    _http: aiohttp.ClientSession

    def now(self) -> float:
        """The daemon's time."""
        return time.time()

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer, whatever it is; `body` is sent as it is where it is bytes, else as JSON."""
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        sent = ({"Content-Type": "application/json"} if data is not None else {}) | dict(headers or {})
        stream = io.BytesIO(data) if data is not None else None  # aiohttp warns of large bodies as bytes
        async with self._http.request(method, self.url + path, data=stream, headers=sent) as told:
            return told.status, await told.read()

    async def get(self, path: str) -> bytes:
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        status, answer = await self.ask("POST", path, body)
        return status, msgspec.json.decode(answer)

    async def status(self) -> StatusView:
        return msgspec.json.decode(await self.get("/api/v1/status"), type=StatusView)

    async def service(self, name: str) -> ServiceView:
        return msgspec.json.decode(await self.get(f"/api/v1/services/{name}"), type=ServiceView)

    async def shop(self) -> ServiceView:
        return await self.service("shop")

    async def rollbacks(self, service: str = "shop") -> list[RollbackView]:
        return msgspec.json.decode(await self.get(f"/api/v1/rollbacks?service={service}"), type=list[RollbackView])

    async def decisions(self, service: str = "shop") -> list[DecisionView]:
        return msgspec.json.decode(await self.get(f"/api/v1/decisions?service={service}"), type=list[DecisionView])

    async def deployments(self, service: str = "shop") -> list[DeploymentView]:
        return msgspec.json.decode(await self.get(f"/api/v1/deployments?service={service}"), type=list[DeploymentView])

    async def metric(self, sample: str) -> float | None:
        """The value of a sample, such as `rollbackd_source_up{service="shop",source="scrape"}`; None where absent."""
        lines = (await self.get("/metrics")).decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == sample), None)

    async def until_watching(self, version: str, service: str = "shop") -> None:
        """Return once a deployment of that version is being watched."""

        async def watching() -> bool:
            watch = (await self.service(service)).watch
            return watch is not None and watch.version == version

        await eventually_async(watching)

    async def ended(self, service: str = "shop", count: int = 1) -> RollbackView:
        """The newest rollback, once so many have come to their end."""

        async def done() -> bool:
            found = await self.rollbacks(service)
            return len(found) >= count and all(one.state in FINAL_STATES for one in found)

        await eventually_async(done)
        return (await self.rollbacks(service))[0]

    async def alert(self, status: str, name: str = "CheckoutBroken", service: str = "shop") -> tuple[int, Any]:
        """What Alertmanager posts."""
        moment = datetime.fromtimestamp(self.now(), UTC).isoformat()
        return await self.post("/hooks/alertmanager", notification(status, name, service, moment))


def notification(status: str, name: str, service: str, moment: str) -> dict[str, object]:
    """Alertmanager's notification of one alert that began, or ended, at that moment."""
    alert = {
        "status": status,
        "labels": {"alertname": name, "service": service, "severity": "critical"},
        "annotations": {},
        "startsAt": moment,
        "endsAt": moment if status == "resolved" else "0001-01-01T00:00:00Z",
        "fingerprint": name,
    }
    return {"version": "4", "groupKey": "k", "status": status, "receiver": "rollbackd", "alerts": [alert]}


class LiveDaemon(Api):
    """The daemon as a process. `point` names where it shall kill itself; see `killed_daemon`."""

    def __init__(
        self,
        site: Site,
        point: str | None = None,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        self._site, self._environment = site, environment or {}
        self._argv = [sys.executable, "-m", "rollbackd", "run", "-c", str(site.config), *arguments]
        if point is not None:
            self._argv = [sys.executable, "-m", "tests.support.killed_daemon", str(site.config), point]
        if program is not None:
            self._argv = [sys.executable, *program]
        self.url = f"http://127.0.0.1:{site.port}"

    async def __aenter__(self) -> Self:
        await self._site.server.start()
        log = (self._site.home / "daemon.log").open("ab")
        with log:
            self.process = await asyncio.create_subprocess_exec(
                *self._argv,
                stderr=log,
                stdout=log,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **self._environment},
            )
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.close()
        try:
            await self._ended()
        finally:
            await self._site.server.stop()

    async def _ended(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(15):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
                raise AssertionError("the daemon did not end on SIGTERM\n" + self.log) from None

    @property
    def log(self) -> str:
        return (self._site.home / "daemon.log").read_text()

    async def died(self, within: float = 20.0) -> int:
        """Its exit status, once it is gone."""
        async with asyncio.timeout(within):
            return await self.process.wait()

    async def ready(self) -> None:
        """Return once it serves."""

        async def answers() -> bool:
            if self.process.returncode is not None:
                raise AssertionError("the daemon ended:\n" + self.log)
            try:
                return (await self.ask("GET", "/readyz"))[0] == 200
            except aiohttp.ClientError:
                return False

        await eventually_async(answers)
