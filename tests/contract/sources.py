"""What the suite for sources needs: a real far side for each registered one, that can be broken and healed."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web

from rollbackd import registry
from rollbackd.sources.base import Source, SourceContext
from tests.support.clock import ManualClock
from tests.support.engine import FakeEngine
from tests.support.journal import Journal
from tests.support.kube_server import KubeServer
from tests.support.loki import LokiServer
from tests.support.servers import Server, text
from tests.support.waiting import eventually

SECRET = "pl4nted-s3cret"
"""Planted wherever a source's configuration takes a secret."""


class FarSide(Protocol):
    """What a source reads, and how it is configured to."""

    interval: float
    """Seconds between two looks under `settings`."""

    async def start(self) -> None:
        """Be there, and healthy."""

    def settings(self) -> Mapping[str, object]:
        """The configuration as an operator writes it, with SECRET behind each field that can hold one."""

    async def happen(self) -> None:
        """Let something happen that gives events."""

    async def break_(self) -> None:
        """Be unreadable."""

    async def heal(self) -> None:
        """Be readable again."""

    def asked(self) -> int | None:
        """How often the source came to look; None where that cannot be told."""

    async def stop(self) -> None:
        """Be gone, leaving nothing behind."""


class Metrics:
    """An exposition, served by an HTTP server that goes away and comes back at its address."""

    interval = 10.0

    def __init__(self, folder: Path) -> None:
        self._token = folder / "token"
        self._served = 0
        self._server = Server(self._show)

    async def _show(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=f'http_requests_total{{code="200"}} {self._served}\n')

    async def start(self) -> None:
        self._token.write_text(SECRET)
        await self._server.start()

    def settings(self) -> Mapping[str, object]:
        token = {"file": str(self._token)}
        return {"url": self._server.url(f"/metrics?token={SECRET}"), "bearer": token, "headers": {"X-Key": token}}

    async def happen(self) -> None:
        self._served += 7

    async def break_(self) -> None:
        await self._server.stop()

    async def heal(self) -> None:
        await self._server.start()

    def asked(self) -> int | None:
        return len(self._server.requests)

    async def stop(self) -> None:
        await self._server.stop()


class Kept:
    """A server of Prometheus' query API that keeps one service's counter, seen every five seconds."""

    interval = 10.0

    def __init__(self, folder: Path) -> None:
        self._token = folder / "token"
        self._served = 0
        self._seen: dict[int, int] = {}
        self._server = Server(self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        query, now = str(form["query"]), float(str(form["time"]))
        labels = {"service": "shop", "instance": "a"}
        if query.startswith("count by (service)"):
            return self._said("vector", [{"metric": {"service": "shop"}, "value": [now, "1"]}])
        seconds = float(query.rpartition("[")[2].removesuffix("ms]")) / 1000
        start = min(self._seen, default=int(now // 5))
        for place in range(start, int(now // 5) + 1):
            self._seen.setdefault(place, self._served)
        metric = {"__name__": "http_requests_total", "code": "200", **labels}
        values = [(5.0 * place, str(n)) for place, n in self._seen.items() if now - seconds < 5.0 * place <= now]
        return self._said("matrix", [{"metric": metric, "values": values}] if values else [])

    @staticmethod
    def _said(kind: str, result: list[dict[str, object]]) -> web.Response:
        return web.json_response({"status": "success", "data": {"resultType": kind, "result": result}})

    async def start(self) -> None:
        self._token.write_text(SECRET)
        await self._server.start()

    def settings(self) -> Mapping[str, object]:
        token = {"file": str(self._token)}
        return {"url": self._server.url(f"/?token={SECRET}"), "bearer": token, "headers": {"X-Scope-OrgID": token}}

    async def happen(self) -> None:
        self._served += 7

    async def break_(self) -> None:
        await self._server.stop()

    async def heal(self) -> None:
        await self._server.start()

    def asked(self) -> int | None:
        return len(self._server.requests)

    async def stop(self) -> None:
        await self._server.stop()


class Endpoint:
    """An HTTP server to be probed. It being gone would be evidence, so what breaks is the probe's credential."""

    interval = 10.0

    def __init__(self, folder: Path) -> None:
        self._token = folder / "token"
        self._server = Server(text("ok"))

    async def start(self) -> None:
        self._token.write_text(SECRET)
        await self._server.start()

    def settings(self) -> Mapping[str, object]:
        password = {"username": "me", "password": {"file": str(self._token)}}
        return {"url": self._server.url(f"/healthz?token={SECRET}"), "basic": password}

    async def happen(self) -> None:
        return  # a probe makes its own events

    async def break_(self) -> None:
        self._token.unlink()

    async def heal(self) -> None:
        self._token.write_text(SECRET)

    def asked(self) -> int | None:
        return len(self._server.requests)

    async def stop(self) -> None:
        await self._server.stop()


class LogFile:
    """A file that is written to, taken away and created again."""

    interval = 0.5

    def __init__(self, folder: Path) -> None:
        self._path = folder / "app.log"
        self._lines = 0

    async def start(self) -> None:
        self._path.touch()

    def settings(self) -> Mapping[str, object]:
        return {"path": str(self._path)}

    async def happen(self) -> None:
        self._lines += 1
        with self._path.open("a") as file:
            file.write(f"ERROR line {self._lines}\nINFO line {self._lines}\n")

    async def break_(self) -> None:
        self._path.unlink()

    async def heal(self) -> None:
        self._path.touch()

    def asked(self) -> int | None:
        return None

    async def stop(self) -> None:
        self._path.unlink(missing_ok=True)


class _UnixSocket:
    """A sender to a unix socket. What breaks is the folder of the socket, as when somebody clears /run: the port of a
    listener that has it cannot be taken away."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run" / "in.sock"
        self._sending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.path.parent.mkdir()

    def send(self, *datagrams: str) -> None:
        """As a relay does: what finds nobody there now is kept until somebody is."""
        self._sending = asyncio.create_task(self._deliver(datagrams))

    async def _deliver(self, datagrams: tuple[str, ...]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            await eventually(self.path.exists, every=0)
            for datagram in datagrams:
                sender.sendto(datagram.encode(), str(self.path))

    async def break_(self) -> None:
        shutil.rmtree(self.path.parent)

    async def heal(self) -> None:
        self.path.parent.mkdir()

    def asked(self) -> int | None:
        return None

    async def stop(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
        shutil.rmtree(self.path.parent, ignore_errors=True)


class Syslog(_UnixSocket):
    """A program that logs as glibc's syslog(3) does."""

    interval = 0.5

    def settings(self) -> Mapping[str, object]:
        return {"listen": f"unix://{self.path}"}

    async def happen(self) -> None:
        self.send("<11>Nov 24 12:00:00 shop[7]: it broke", "<14>Nov 24 12:00:00 shop[7]: all fine")


class Pods:
    """Pods of a Deployment, of which those of the release in place crash and recover."""

    interval = 10.0

    def __init__(self, folder: Path) -> None:
        self._server, self._folder = KubeServer(SECRET), folder

    async def start(self) -> None:
        await self._server.start()
        template = {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {"containers": [{"name": "app", "image": "shop:v1"}]},
        }
        spec = {"replicas": 2, "selector": {"matchLabels": {"app": "shop"}}, "template": template}
        self._server.store.put("deployments", {"metadata": {"name": "shop"}, "spec": spec})
        for _ in range(2):
            self._server.controllers.run()
        self._server.kubeconfig(self._folder / "kubeconfig")

    def settings(self) -> Mapping[str, object]:
        return {"deployment": "shop", "kubeconfig": str(self._folder / "kubeconfig")}

    async def happen(self) -> None:
        broken = self._server.controllers.broken
        broken ^= {"shop:v1"}
        for pod in self._server.store.all("pods"):
            self._server.store.delete("pods", pod["metadata"]["name"])
        self._server.controllers.run()

    async def break_(self) -> None:
        await self._server.stop()

    async def heal(self) -> None:
        await self._server.start()

    def asked(self) -> int | None:
        return len(self._server.requests)

    async def stop(self) -> None:
        await self._server.stop()


class Statsd(_UnixSocket):
    """A program that counts its requests."""

    interval = 10.0

    def settings(self) -> Mapping[str, object]:
        errors = {"metric": "requests", "where": {"status": "5.."}}
        return {"listen": f"unix://{self.path}", "metrics": {"requests": "requests", "errors": errors}}

    async def happen(self) -> None:
        self.send("shop.requests:7|c|#status:200\nshop.requests:1|c|#status:500")


class Loki:
    """A Loki, asked for new lines with a token; it takes those that are written at the moment it was asked last."""

    interval = 10.0

    def __init__(self, folder: Path) -> None:
        self._token = folder / "token"
        self._lines = 0
        self._server = LokiServer()

    async def start(self) -> None:
        self._token.write_text(SECRET)
        await self._server.start()

    def settings(self) -> Mapping[str, object]:
        token = {"file": str(self._token)}
        return {"url": self._server.url(f"/?token={SECRET}"), "bearer": token, "headers": {"X-Key": token}}

    async def happen(self) -> None:
        self._lines += 1
        await self._server.push(f"ERROR line {self._lines}")

    async def break_(self) -> None:
        await self._server.stop()

    async def heal(self) -> None:
        await self._server.start()

    def asked(self) -> int | None:
        return len(self._server.requests)

    async def stop(self) -> None:
        await self._server.stop()


class SystemdJournal:
    """A journal whose journalctl fails and works again."""

    interval = 0.5

    def __init__(self, folder: Path) -> None:
        self._journal, self._lines = Journal(folder), 0

    async def start(self) -> None:
        await self._journal.start()

    def settings(self) -> Mapping[str, object]:
        return {"unit": "shop.service", "program": str(self._journal.program)}

    async def happen(self) -> None:
        self._lines += 1
        for level in ("ERROR", "INFO"):
            await self._journal.log(MESSAGE=f"{level} line {self._lines}", PRIORITY="6")

    async def break_(self) -> None:
        await self._journal.tell_fault("Failed to open the journal: Input/output error")

    async def heal(self) -> None:
        self._journal.fault = None

    def asked(self) -> int | None:
        return len(self._journal.asked)

    async def stop(self) -> None:
        await self._journal.stop()


class Containers:
    """An engine that goes away and comes back, and a container of it that goes on."""

    interval = 0.5

    def __init__(self, folder: Path) -> None:
        self._engine, self._lines = FakeEngine(folder), 0

    async def start(self) -> None:
        await self._engine.start()

    def settings(self) -> Mapping[str, object]:
        return {"image": "shop", "host": f"unix://{self._engine.path}"}

    async def happen(self) -> None:
        self._lines += 1
        for level in ("ERROR", "INFO"):
            self._engine.print(f"{level} line {self._lines}")

    async def break_(self) -> None:
        await self._engine.stop()

    async def heal(self) -> None:
        await self._engine.start()

    def asked(self) -> int | None:
        return self._engine.reads

    async def stop(self) -> None:
        await self._engine.stop()


FAR_SIDES: Mapping[str, Callable[[Path], FarSide]] = {
    "docker_logs": Containers,
    "journald": SystemdJournal,
    "kubernetes": Pods,
    "log_file": LogFile,
    "loki": Loki,
    "probe": Endpoint,
    "prometheus": Kept,
    "scrape": Metrics,
    "statsd": Statsd,
    "syslog": Syslog,
}
"""The far side of each registered source. A source without a line here fails the suite."""


def build(name: str, far_side: FarSide, clock: ManualClock) -> Source:
    """The source, configured to read that far side."""
    adapter = registry.load("source", name)
    source: Source = adapter.build(adapter.config.model_validate(far_side.settings()), SourceContext("shop", clock))
    return source
