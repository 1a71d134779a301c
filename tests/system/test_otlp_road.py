"""From a service instrumented with OpenTelemetry's SDK, which pushes to the daemon, to a reverted release."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from rollbackd.aiokit import SystemClock
from tests.support.inside import Inside, Shop
from tests.support.waiting import eventually, eventually_async

EVERY_S = 0.25
SILENT = {"metrics": None, "logs": None, "probe": None}


async def serve(shop: Shop, url: str) -> None:
    """Be the service: a process for each release that is put in place, of which a bad one fails three in ten."""
    while True:
        version = shop.in_place
        exporter = OTLPMetricExporter(f"{url}/v1/metrics")
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=EVERY_S * 1000)
        provider = MeterProvider([reader], Resource.create({"service.name": "shop", "service.version": version}))
        histogram = provider.get_meter("shop").create_histogram("http.server.request.duration", unit="s")
        try:
            while shop.in_place == version:
                for number in range(20):
                    status = 500 if shop.fault == "errors" and number % 3 == 0 else 200
                    histogram.record(0.02, {"http.response.status_code": status, "http.request.method": "GET"})
                await asyncio.sleep(0.05)
        finally:
            await asyncio.to_thread(provider.shutdown)


@asynccontextmanager
async def served(shop: Shop, url: str) -> AsyncIterator[None]:
    serving = asyncio.create_task(serve(shop, url))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.timeout(120)
async def test_a_bad_release_that_tells_of_itself_by_otlp_is_reverted(tmp_path: Path) -> None:
    shop = Shop(tmp_path, faults={"v2": "errors"})
    block = shop.block(**SILENT, bake="60s", warmup="1s", verify_for="2s")
    extra = "intake: {otlp_metrics: on}"
    async with Inside(tmp_path, block, extra=extra, clock=SystemClock()) as daemon, served(shop, daemon.url):

        async def known() -> bool:
            view = await daemon.shop()
            return view.current is not None and any(one.events >= 10 for one in view.sources)

        await eventually_async(known)
        shop.deploy("v2")
        rollback = await daemon.ended()
        assert (rollback.state, rollback.version, rollback.to) == ("verified", "v2", "v1"), rollback.steps
        (told,) = await daemon.decisions()
        assert (told.decision.action, told.decision.rule) == ("rollback", "error_ratio")
        assert shop.in_place == "v1"
        (stream,) = (await daemon.shop()).sources
        assert (stream.name, stream.kind, stream.state) == ("otlp_metrics", "otlp_metrics", "up")
        await eventually(lambda: shop.restarts == ["v1"])
        async with aiohttp.ClientSession() as client, client.get(f"{daemon.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        numbers = dict(line.rsplit(" ", 1) for line in lines if line.startswith("rollbackd_intake_"))
        assert float(numbers['rollbackd_intake_events_total{intake="otlp_metrics",result="accepted"}']) >= 20
        assert float(numbers['rollbackd_intake_behind_seconds{intake="otlp_metrics"}']) < 30
