"""The demo's shop under its service manager: faults, restarts that harm nobody, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rollbackd.demo.processes import Child
from rollbackd.demo.stage import GOOD, NEW, Fault, Stage, build
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.timeout(60)


class Shop:
    """A running shop, and a client."""

    def __init__(self, stage: Stage, http: aiohttp.ClientSession) -> None:
        self.stage, self._http = stage, http

    async def get(self, path: str) -> tuple[int, str, str]:
        """Status, release and body; status 0 where nobody answers."""
        return await self._ask("GET", path)

    async def order(self) -> tuple[int, str, str]:
        """The same for an order; aiohttp does not repeat it if the connection breaks off."""
        return await self._ask("POST", "/order")

    async def _ask(self, method: str, path: str) -> tuple[int, str, str]:
        try:
            async with self._http.request(method, self.stage.shop_url + path) as answer:
                return answer.status, answer.headers["X-Release"], await answer.text()
        except aiohttp.ClientError:
            return 0, "", ""

    async def orders(self, count: int) -> Counter[int]:
        """How many of so many orders got which status."""
        answers = await asyncio.gather(*(self.order() for _ in range(count)))
        return Counter(status for status, _, _ in answers)

    async def restart(self) -> int:
        process = await asyncio.create_subprocess_exec(*self.stage.restart, stdout=asyncio.subprocess.DEVNULL)
        return await process.wait()

    async def deploy(self, version: str) -> None:
        self.stage.switch_to(version)
        assert await self.restart() == 0


@contextlib.asynccontextmanager
async def running(folder: Path, fault: Fault) -> AsyncIterator[Shop]:
    stage = build(folder, fault)
    connector = aiohttp.TCPConnector(force_close=True, limit=20)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as http,
        Child("shop", stage.keep, folder / "manager.log"),
    ):
        shop = Shop(stage, http)

        async def healthy() -> bool:
            return (await shop.get("/healthz"))[0] == 200

        await eventually_async(healthy)
        yield shop


async def test_a_good_release_sells(tmp_path: Path) -> None:
    async with running(tmp_path, "none") as shop:
        assert await shop.order() == (200, GOOD, "sold\n")


async def test_orders_are_counted_and_timed(tmp_path: Path) -> None:
    async with running(tmp_path, "none") as shop:
        await shop.orders(5)
        _, _, text = await shop.get("/metrics")
        samples = {
            (sample.name, sample.labels.get("code"), sample.labels.get("le")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert samples["http_requests_total", "200", None] == 5
        assert samples["http_request_duration_seconds_bucket", None, "+Inf"] == 5


async def test_errors_are_some_and_not_all(tmp_path: Path) -> None:
    async with running(tmp_path, "errors") as shop:
        await shop.deploy(NEW)
        found = await shop.orders(60)  # none, or all, of 60 at one in five: less than once in 600,000
        assert set(found) == {200, 500}


async def test_a_flooded_log_harms_no_order(tmp_path: Path) -> None:
    async with running(tmp_path, "logs") as shop:
        await shop.deploy(NEW)
        assert set(await shop.orders(60)) == {200}
        lines = [json.loads(line) for line in (shop.stage.shop / "service.log").read_text().splitlines()]
        assert any("is negative" in line["message"] and line["level"] == "error" for line in lines)


async def test_a_crashing_release_is_started_again(tmp_path: Path) -> None:
    async with running(tmp_path, "crash") as shop:
        await shop.deploy(NEW)

        log = shop.stage.shop / "service.log"

        async def came_back() -> bool:
            _before, crashed, after = log.read_text().partition("out of memory")
            return bool(crashed) and f"release {NEW} is ready" in after

        await eventually_async(came_back)


async def test_a_restart_drops_no_request(tmp_path: Path) -> None:
    """Not one of those under way, with twenty users who order without a break."""
    async with running(tmp_path, "none") as shop:
        restarting = asyncio.create_task(shop.deploy(NEW))

        async def user() -> Counter[int]:
            found: Counter[int] = Counter()
            while not restarting.done():
                found.update([(await shop.order())[0]])
            return found

        found = sum(await asyncio.gather(*(user() for _ in range(20))), Counter[int]())
        await restarting
        assert set(found) == {200}
        assert (await shop.order())[1] == NEW


async def test_a_release_that_does_not_start_leaves_the_old_one_serving(tmp_path: Path) -> None:
    async with running(tmp_path, "none") as shop:
        (shop.stage.shop / "releases" / NEW / "service.py").write_text("raise SystemExit(3)")
        shop.stage.switch_to(NEW)
        assert await shop.restart() == 1
        assert await shop.order() == (200, GOOD, "sold\n")


async def test_without_a_service_manager_a_restart_says_so(tmp_path: Path) -> None:
    stage = build(tmp_path, "none")
    process = await asyncio.create_subprocess_exec(*stage.restart, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"does not answer" in said


async def test_nobody_serves_once_whoever_started_it_is_gone(tmp_path: Path) -> None:
    """Not even if that one was killed: only the pipe on standard input tells."""
    stage = build(tmp_path, "none")
    manager = await asyncio.create_subprocess_exec(
        *stage.keep, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert manager.stdin is not None
    assert manager.stdout is not None
    assert await manager.stdout.readline() == b"ready\n"
    manager.stdin.close()
    assert await manager.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", stage.shop_port)
