"""A real daemon on a real folder of releases, for tests of the whole."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from rollbackd.web.views import DecisionView, RollbackView, ServiceView
from tests.support.waiting import eventually_async

CONFIG = """\
listen: 127.0.0.1:{port}
data_dir: {home}/data
auth: {{anonymous: [read, operate, deploy, ingest]}}
{extra}
services:
  shop:
    target: {{release_dir: {{path: {home}/shop, restart: "sh {home}/restart.sh", poll: 100ms}}}}
    sources:
      - probe: {{url: "http://127.0.0.1:{port}/healthz", interval: 100ms}}
    bake: 30s
    warmup: 300ms
    verify_for: 500ms
    verify_within: 20s
    rules: {{alert: {{lasting: 500ms}}}}
"""


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Site:
    """A folder with releases v1 to v3 of `shop`, a restart command that counts its runs, and a configuration."""

    def __init__(self, home: Path, extra: str = "") -> None:
        self.home, self.port = home, free_port()
        for version in ("v1", "v2", "v3"):
            release = home / "shop" / "releases" / version
            release.mkdir(parents=True)
            (release / "app").write_text(version)
        self.link = home / "shop" / "current"
        self.link.symlink_to("releases/v1")
        (home / "restart.sh").write_text(f"cat {self.link}/app >> {home}/restarts; echo >> {home}/restarts\n")
        self.config = home / "rollbackd.yaml"
        self.config.write_text(CONFIG.format(port=self.port, home=home, extra=extra))

    def deploy(self, version: str) -> None:
        """What a deploy script does: a new link in the place of the old one."""
        fresh = self.link.with_name("fresh")
        fresh.symlink_to(f"releases/{version}")
        fresh.replace(self.link)

    @property
    def in_place(self) -> str:
        return self.link.readlink().name

    @property
    def restarts(self) -> list[str]:
        """The release that was in place at each restart."""
        done = self.home / "restarts"
        return done.read_text().split() if done.exists() else []


class LiveDaemon:
    """The daemon as a process. `point` names where it shall kill itself; see `killed_daemon`."""

    def __init__(self, site: Site, point: str | None = None) -> None:
        self._site = site
        self._argv = [sys.executable, "-m", "rollbackd", "run", "-c", str(site.config)]
        if point is not None:
            self._argv = [sys.executable, "-m", "tests.support.killed_daemon", str(site.config), point]
        self.url = f"http://127.0.0.1:{site.port}"

    async def __aenter__(self) -> Self:
        log = (self._site.home / "daemon.log").open("ab")
        with log:
            self.process = await asyncio.create_subprocess_exec(
                *self._argv, stderr=log, stdout=log, stdin=asyncio.subprocess.DEVNULL, env={**os.environ}
            )
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.close()
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
                async with self._http.get(f"{self.url}/readyz") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await eventually_async(answers, within=20)

    async def get(self, path: str) -> bytes:
        async with self._http.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        async with self._http.post(self.url + path, json=body) as answer:
            return answer.status, await answer.json()

    async def shop(self) -> ServiceView:
        return msgspec.json.decode(await self.get("/api/v1/services/shop"), type=ServiceView)

    async def rollbacks(self) -> list[RollbackView]:
        return msgspec.json.decode(await self.get("/api/v1/rollbacks"), type=list[RollbackView])

    async def decisions(self) -> list[DecisionView]:
        return msgspec.json.decode(await self.get("/api/v1/decisions"), type=list[DecisionView])

    async def until_watching(self, version: str) -> None:
        """Return once a deployment of that version is being watched."""

        async def watching() -> bool:
            watch = (await self.shop()).watch
            return watch is not None and watch.version == version

        await eventually_async(watching, within=15)

    async def alert(self, status: str, name: str = "CheckoutBroken") -> None:
        """What Alertmanager posts."""
        moment = datetime.now(UTC).isoformat()
        body = {
            "version": "4",
            "groupKey": "k",
            "status": status,
            "receiver": "rollbackd",
            "alerts": [
                {
                    "status": status,
                    "labels": {"alertname": name, "service": "shop", "severity": "critical"},
                    "annotations": {},
                    "startsAt": moment,
                    "endsAt": moment if status == "resolved" else "0001-01-01T00:00:00Z",
                    "fingerprint": name,
                }
            ],
        }
        code, answer = await self.post("/hooks/alertmanager", body)
        assert code == 200, answer
