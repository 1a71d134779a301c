"""The real daemon inside the test's own process, its time running faster, and services that behave as asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web

from rollbackd import registry
from rollbackd.aiokit import Clock, SystemClock
from rollbackd.config.blocks import Catalog
from rollbackd.config.loading import load
from rollbackd.daemon import Daemon
from rollbackd.sdnotify import SystemdNotifier
from tests.support.live import Api, Shelf
from tests.support.servers import Server
from tests.support.waiting import eventually, eventually_async

SPEED = 20.0
"""Seconds of the daemon's that pass in one of ours."""

FILE = """\
listen: 127.0.0.1:0
data_dir: {home}/data
{auth}
fleet: {{rollbacks_per_hour: 50}}
{extra}
defaults:
  bake: 60s
  warmup: 3s
  verify_for: 3s
  verify_within: 90s
  rules: {{alert: {{lasting: 3s}}, availability: {{down_for: 5s}}, log_signature: {{lines: 5}}}}
services:
{services}
"""


LONGEST_STEP_S = 0.05
"""The most of our time that counts from one reading to the next."""


class FastClock:
    """Real time, but `speed` times as much of it, which stands still while this process does not get to run.

    On a busy machine half a second may pass between two steps of the event loop. To the daemon that would be ten
    seconds in which its sources saw nothing, and its bakes and deadlines would end in them.
    """

    def __init__(self, speed: float = SPEED) -> None:
        self._speed, self._start = speed, time.time()
        self._passed, self._read = 0.0, time.monotonic()
        self._one_reads = threading.Lock()

    def now(self) -> float:
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        with self._one_reads:
            read = time.monotonic()
            self._passed += min(read - self._read, LONGEST_STEP_S)
            self._read = read
            return self._passed * self._speed

    async def sleep(self, seconds: float) -> None:
        ends = self.monotonic() + seconds
        while seconds > 0:
            await asyncio.sleep(min(seconds / self._speed, LONGEST_STEP_S / 2))
            seconds = ends - self.monotonic()
        await asyncio.sleep(0)


class Shop(Shelf):
    """A service whose behaviour follows from the release in place: `faults` tells which releases fail, and how.

    Each look at its metrics finds a hundred requests more, of which a release with fault `errors` failed thirty. One
    with `probe` is not healthy; one with `logs` writes an error of its own, its `complaint`, at each look.
    """

    def __init__(self, home: Path, name: str = "shop", faults: Mapping[str, str] | None = None) -> None:
        super().__init__(home, name)
        self.faults = dict({"v2": "errors"} if faults is None else faults)
        self.log = home / f"{name}.log"
        self.complaint = "ERROR cart is broken beyond repair"
        self.log.touch()
        self.server = Server(self._answer)
        self._good = self._bad = 0

    @property
    def fault(self) -> str:
        """What is wrong with the release in place; empty where nothing is."""
        return self.faults.get(self.in_place, "")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/healthz":
            return web.Response(status=503 if self.fault == "probe" else 200)
        bad = 30 if self.fault == "errors" else 0
        self._good, self._bad = self._good + 100 - bad, self._bad + bad
        with self.log.open("a") as log:
            log.write(f"{self.complaint}\n" if self.fault == "logs" else "INFO served a hundred\n")
        return web.Response(
            text="# TYPE http_requests_total counter\n"
            f'http_requests_total{{code="200"}} {self._good}\nhttp_requests_total{{code="500"}} {self._bad}\n'
        )

    def block(self, **settings: str | None) -> str:
        """The service's part of a configuration; settings are added, replace those here, or (None) take them out."""
        written = {
            "target": f'{{release_dir: {{path: {self.folder}, restart: "sh {self.restart}", poll: 1s}}}}',
            "metrics": f"{{url: {self.server.url()}, interval: 1s}}",
            "probe": f"{{url: {self.server.url('/healthz')}, interval: 1s}}",
            "logs": str(self.log),
        } | settings
        return "\n".join(
            [f"  {self.name}:", *(f"    {key}: {value}" for key, value in written.items() if value is not None)]
        )

    async def __aenter__(self) -> Self:
        await self.server.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.server.stop()


class Supervisor(SystemdNotifier):
    """Takes what systemd would be told."""

    def __init__(self) -> None:
        super().__init__({})
        self.ready = asyncio.Event()

    def send(self, state: str) -> None:
        if state.startswith("READY=1"):
            self.ready.set()


class Inside(Api):
    """The daemon as a task of the test. `services` are blocks of the configuration, `extra` is put above them."""

    def __init__(
        self,
        home: Path,
        *services: str,
        extra: str = "",
        clock: Clock | None = None,
        catalog: Catalog = registry,
        record: Path | None = None,
    ) -> None:
        self.home, self.config = home, home / "inside.yaml"
        self._clock, self._catalog, self._record = clock or FastClock(), catalog, record
        self.write(*services, extra=extra)

    def write(self, *services: str, extra: str = "") -> None:
        """Write the configuration file anew."""
        fresh = self.config.with_suffix(".new")
        auth = "" if "auth:" in extra else "auth: {anonymous: [read, operate, deploy, ingest]}"
        fresh.write_text(FILE.format(home=self.home, auth=auth, extra=extra, services="\n".join(services)))
        fresh.replace(self.config)

    async def __aenter__(self) -> Self:
        supervisor = Supervisor()
        loaded = load(self.config, self._catalog)
        self.daemon = Daemon(self.config, loaded, self._catalog, self._clock, supervisor, self._record)
        self.task = asyncio.create_task(self.daemon.run())
        await eventually(lambda: supervisor.ready.is_set() or self.task.done())
        if self.task.done():
            self.task.result()
        self._http = aiohttp.ClientSession()
        self.url = self.daemon.url
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.close()
        self.daemon.stop()
        async with asyncio.timeout(15):
            await self.task

    def now(self) -> float:
        return self._clock.now()

    async def until_known(self, service: str = "shop", looks: int = 12) -> None:
        """Return once the service was seen so often that there is a baseline to compare with."""

        async def known() -> bool:
            view = await self.service(service)
            seen = all(stream.state == "up" for stream in view.sources)
            return seen and view.current is not None and min(stream.events for stream in view.sources) >= looks

        await eventually_async(known)

    async def until_seen_again(self, service: str = "shop", looks: int = 30) -> None:
        """Return once each source of the service was read so many times more: a look a second, by the daemon's clock.

        After more than fifteen, guards that hold something back have been asked again.
        """
        before = [stream.events for stream in (await self.service(service)).sources]

        async def seen() -> bool:
            now = [stream.events for stream in (await self.service(service)).sources]
            return all(one >= other + looks for one, other in zip(now, before, strict=True))

        await eventually_async(seen)


def jumping(back: list[float]) -> SystemClock:
    """A clock of this system, whose wall clock is behind by the sum of `back`."""
    return SystemClock(wall=lambda: time.time() - sum(back))
