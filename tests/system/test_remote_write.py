"""Prometheus looks at a service and writes on to the daemon: a bad release is caught and reverted by that alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd.aiokit import SystemClock
from tests.support.inside import Inside, Shop
from tests.support.remote_write import real_sender
from tests.support.waiting import eventually, eventually_async


@pytest.mark.needs("prometheus")
async def test_a_bad_release_is_reverted_by_what_prometheus_writes(tmp_path: Path) -> None:
    async with Shop(tmp_path) as shop:
        block = shop.block(metrics=None, probe=None, logs=None)
        inside = Inside(tmp_path, block, extra="intake: {remote_write: {}}", clock=SystemClock())
        async with inside as daemon, real_sender(tmp_path, daemon.url, {"shop": shop.server.port}, interval="500ms"):

            async def heard() -> bool:
                streams = (await daemon.shop()).sources
                return [(one.name, one.state) for one in streams if one.events >= 6] == [("remote_write", "up")]

            await eventually_async(heard)
            shop.deploy("v2")
            await daemon.until_watching("v2")
            await eventually(lambda: shop.in_place == "v1")
            (told,) = await daemon.decisions()
            assert (told.decision.action, told.decision.version, told.decision.to) == ("rollback", "v2", "v1")
            assert told.decision.rule == "error_ratio"
            unwanted = 'rollbackd_intake_dropped_total{intake="remote_write",reason="unwanted"}'
            assert await daemon.metric(unwanted), "what Prometheus adds of its own"
            behind = await daemon.metric('rollbackd_intake_behind_seconds{intake="remote_write"}')
            assert behind is not None
            assert behind < 5
