"""What the daemon remembers: over a full disk, over restarts, over clocks that jump, and in its recordings."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from rollbackd.aiokit import SystemClock
from rollbackd.cli.main import main
from rollbackd.recording import read
from tests.support.inside import FastClock, Inside, Shop
from tests.support.live import LiveDaemon, Site
from tests.support.servers import Server
from tests.support.waiting import eventually, eventually_async


async def test_a_full_disk_stops_acting_and_accepting_and_loses_nothing(tmp_path: Path) -> None:
    """A release is convicted while the disk is full: only when there is space again is it reverted, and once."""
    site = Site(tmp_path)
    starved = ["-m", "tests.support.starved_daemon", str(site.config)]
    async with LiveDaemon(site, program=starved) as daemon:
        await daemon.ready()
        await daemon.until_watching("v1")
        site.deploy("v2")
        await daemon.until_watching("v2")
        status, _ = await daemon.alert("firing")
        assert status == 200
        daemon.process.send_signal(signal.SIGUSR1)

        async def refused() -> bool:
            status, answer = await daemon.post("/api/v1/deployments", {"service": "shop", "version": "v3"})
            return status == 503 and "ledger" in answer["message"]

        await eventually_async(refused)
        status, body = await daemon.ask("GET", "/readyz")
        assert (status, b"ledger.db cannot be used now: the disk" in body) == (503, True), body

        async def convicted() -> bool:
            """Then a decision waits for the disk, and what is seen of the service waits behind it."""
            return (await daemon.metric("rollbackd_queued_events") or 0) >= 3

        await eventually_async(convicted)
        assert (await daemon.ask("GET", "/readyz"))[0] == 503
        assert await daemon.metric("rollbackd_ledger_up") == 0
        status, _ = await daemon.post("/api/v1/services/shop/rollback", {})
        assert status == 503
        assert (site.in_place, site.restarts) == ("v2", [])
        daemon.process.send_signal(signal.SIGUSR2)
        await eventually(lambda: site.in_place == "v1")
        await daemon.alert("resolved")
        rollback = await daemon.ended()
        assert (rollback.state, site.restarts) == ("verified", ["v1"])
        assert [one.decision.action for one in await daemon.decisions()] == ["rollback"]
        assert (await daemon.ask("GET", "/readyz"))[0] == 200
        status, answer = await daemon.post("/api/v1/deployments", {"service": "shop", "version": "v1", "id": "x"})
        assert (status, answer["accepted"]) == (200, 1)
    assert daemon.process.returncode == 0


async def test_people_hear_of_it_even_if_their_receiver_was_down_and_the_daemon_restarted(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def hear(request: web.Request) -> web.StreamResponse:
        heard.append(await request.json())
        return web.Response()

    clock = FastClock()
    async with Shop(tmp_path) as shop, Server(hear) as ear:
        extra = f"notify: [webhook: {{url: {ear.url('/')}, topics: [decision, rollback]}}]"
        await ear.stop()
        async with Inside(tmp_path, shop.block(), extra=extra, clock=clock) as daemon:
            await daemon.until_known()
            shop.deploy("v2")
            rollback = await daemon.ended()
            (decision,) = await daemon.decisions()
        assert heard == []
        await ear.start()
        async with Inside(tmp_path, shop.block(), extra=extra, clock=clock):
            wanted = {decision.id, f"{rollback.id}:reverting", f"{rollback.id}:verified"}
            await eventually(lambda: {one["key"] for one in heard} == wanted)
        assert len(heard) == 3, "each is told once"


class Jumping(SystemClock):
    """The daemon's own clock, over a wall clock that is set back, with its time running fast."""

    def __init__(self, back: float = 0.0) -> None:
        self.back, self._fast = back, FastClock()
        super().__init__(wall=lambda: self._fast.now() - self.back, monotonic=self._fast.monotonic)

    async def sleep(self, seconds: float) -> None:
        await self._fast.sleep(seconds)


async def test_a_clock_set_back_by_an_hour_disturbs_no_watch(tmp_path: Path) -> None:
    """While the daemon runs it rides that out; after a restart it begins its watches anew, and catches what is bad."""
    clock, recording = Jumping(), tmp_path / "events.jsonl"
    async with Shop(tmp_path) as shop:
        async with Inside(tmp_path, shop.block(), clock=clock, record=recording) as daemon:
            await daemon.until_known()
            clock.back = 3600.0
            shop.deploy("v2")
            assert (await daemon.ended()).state == "verified"
        assert len(list(read(recording))) > 20, "the recording's times do not run backwards"
        later = Jumping(back=2 * 3600.0)
        shop.faults["v3"] = "errors"
        async with Inside(tmp_path, shop.block(cooldown="0"), clock=later) as daemon:
            assert (await daemon.shop()).last_known_good == "v1"
            await daemon.until_known()
            shop.deploy("v3")
            assert (await daemon.ended(count=2)).state == "verified"


def told(decision: Any) -> dict[str, Any]:
    """What a replay has to say again, word by word."""
    fields = ("t", "service", "version", "action", "to", "rule", "reason", "evidence")
    return {name: decision[name] for name in fields}


async def test_a_replay_of_the_recording_prints_the_decisions_that_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two services at once, in whatever order their events came; the same bytes each time, in other processes too."""
    recording = tmp_path / "events.jsonl"
    async with (
        Shop(tmp_path, "shop") as shop,
        Shop(tmp_path, "blog", {"v2": "logs"}) as blog,
        Inside(tmp_path, shop.block(), blog.block(), record=recording) as daemon,
    ):
        await daemon.until_known("shop")
        await daemon.until_known("blog")
        shop.deploy("v2")
        blog.deploy("v2")
        assert (await daemon.ended("shop")).state == "verified"
        assert (await daemon.ended("blog")).state == "verified"
        made = msgspec.json.decode(await daemon.get("/api/v1/decisions"))
    wanted = sorted((told(one["decision"]) for one in made), key=itemgetter("t"))
    argv = ["replay", "-c", str(daemon.config), "--format", "json", str(recording)]
    capsys.readouterr()
    printed = set()
    for _ in range(8):
        assert main(argv) == 0
        printed.add(capsys.readouterr().out)
    for seed in ("1", "2"):
        printed.add(await asyncio.to_thread(replayed, argv, seed))
    assert len(printed) == 1
    assert [told(msgspec.json.decode(line)) for line in printed.pop().splitlines()] == wanted


def replayed(argv: list[str], seed: str) -> str:
    """What another process prints, whose sets and dictionaries have another order."""
    command = [sys.executable, "-m", "rollbackd", *argv]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=30).stdout
