"""From a real Prometheus to a reverted release: its own scrapes, its past, and its being gone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rollbackd import registry
from rollbackd.config.loading import load
from rollbackd.engine import Engine
from rollbackd.model import Decision
from rollbackd.recording import read
from rollbackd.web.views import SourceView
from tests.support.inside import FastClock, Inside, Shop
from tests.support.prometheus import Past, Scraping, Shape, real_prometheus
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.needs("prometheus")

SPEED = 2.0
"""Prometheus lives in real time and cannot follow a faster one; the daemon sees a scrape each half second."""
FAST = {"metrics": None, "logs": None, "probe": None}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with Shop(tmp_path, faults={"v2": "errors"}) as shop:
        yield shop


async def source(daemon: Inside) -> SourceView:
    (view,) = (await daemon.service("shop")).sources
    return view


def sources(url: str, interval: str = "500ms") -> str:
    return f"[{{prometheus: {{url: '{url}', interval: {interval}}}}}]"


async def known(daemon: Inside, events: int) -> None:
    async def enough() -> bool:
        view = await daemon.service("shop")
        return view.current is not None and view.sources[0].events >= events

    await eventually_async(enough)


async def test_a_bad_release_that_prometheus_scrapes_is_reverted(tmp_path: Path, shop: Shop) -> None:
    block = shop.block(**FAST, sources="PLACE", bake="60s", warmup="1s")
    async with Scraping(tmp_path, "shop", f"127.0.0.1:{shop.server.port}", "200ms") as prometheus:
        await eventually(lambda: len(shop.server.requests) > 15)  # a past, from before the daemon
        written = block.replace("PLACE", sources(prometheus.url))
        async with Inside(tmp_path, written, clock=FastClock(SPEED)) as daemon:
            await known(daemon, 15)
            shop.deploy("v2")
            assert (await daemon.ended()).state == "verified"
            assert shop.in_place == "v1"
            (decision,) = await daemon.decisions()
            assert (decision.decision.action, decision.decision.rule, decision.decision.to) == (
                "rollback",
                "error_ratio",
                "v1",
            )


async def test_prometheus_gone_in_mid_bake_is_no_reason_to_roll_back(tmp_path: Path) -> None:
    up = 'rollbackd_source_up{service="shop",source="prometheus"}'
    async with Shop(tmp_path, faults={}) as shop:
        block = shop.block(**FAST, sources="PLACE", bake="8s", warmup="1s")
        async with Scraping(tmp_path, "shop", f"127.0.0.1:{shop.server.port}", "200ms") as prometheus:
            written = block.replace("PLACE", sources(prometheus.url))
            async with Inside(tmp_path, written, clock=FastClock(SPEED)) as daemon:
                await known(daemon, 15)
                shop.deploy("v2")
                await daemon.until_watching("v2")
                watch = (await daemon.shop()).watch
                assert watch is not None
                await prometheus.kill()

                async def down() -> bool:
                    return (await source(daemon)).state == "down"

                await eventually_async(down)
                assert "refused" in (await source(daemon)).reason
                assert await daemon.metric(up) == 0
                page = (await daemon.get("/")).decode()
                assert "down" in page
                await eventually(lambda: daemon.now() > watch.ends_at + 3)
                after = (await daemon.shop()).watch
                assert after is not None, "silence is no health: the bake does not end in it"
                assert after.deployed_at == watch.deployed_at
                assert (await daemon.shop()).verdict == "insufficient", "what cannot be seen is not called healthy"
                await prometheus.start()

                async def good() -> bool:
                    return (await daemon.shop()).last_known_good == "v2"

                await eventually_async(good)
                assert await daemon.metric(up) == 1
                assert await daemon.decisions() == []
                assert shop.in_place == "v2"


class From(FastClock):
    """A fast clock that begins at a moment of the test's choice."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self._start = start


async def test_a_daemon_that_has_just_started_judges_by_the_past_that_prometheus_keeps(tmp_path: Path) -> None:
    """An hour of good service, then a release that fails a minute after the start. What is yet to come is in the
    server already: the daemon asks for no more than what was until now."""
    begin = time.time() // 1
    past = Past()
    sick = Shape(failing=0.3)
    past.serve("shop", begin - 3600, begin + 60, lambda _t: ("v1", Shape()))
    past.serve("shop", begin + 60, begin + 400, lambda _t: ("v2", sick))
    shelf = Shop(tmp_path)
    block = shelf.block(**FAST, sources="PLACE", bake="30m", warmup="10s", verify_within="5m")
    async with real_prometheus(tmp_path, past) as url:
        clock = From(begin)
        written = block.replace("PLACE", sources(url, "5s"))
        async with Inside(tmp_path, written, clock=clock, record=tmp_path / "day.jsonl") as daemon:
            await eventually(lambda: clock.now() > begin + 60)
            assert (await source(daemon)).events > 400
            shelf.deploy("v2")

            async def decided() -> bool:
                return bool(await daemon.decisions())

            await eventually_async(decided)
            (decision,) = await daemon.decisions()
            assert (decision.decision.action, decision.decision.rule, decision.decision.to) == (
                "rollback",
                "error_ratio",
                "v1",
            )
            assert clock.now() < begin + 300
            await eventually(lambda: shelf.in_place == "v1")
    config = load(tmp_path / "inside.yaml", registry).config
    engine = Engine(config.policy_for, config.fleet)
    replayed = [one for event in read(tmp_path / "day.jsonl") for one in engine.feed(event)]
    (again,) = [one for one in replayed if isinstance(one, Decision)]
    assert (again.t, again.rule, again.evidence) == (
        decision.decision.t,
        decision.decision.rule,
        decision.decision.evidence,
    )
