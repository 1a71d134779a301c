"""What tests of the target `docker` share: targets on the shop's container."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rollbackd.aiokit import SystemClock
from rollbackd.targets.docker import ADAPTER
from tests.support.containers import Shop
from tests.unit.targets.making import Make, making


class Ahead(SystemClock):
    """The system's clock, of which a test can take away what is to be waited for."""

    def __init__(self) -> None:
        self.by = 0.0
        super().__init__(monotonic=lambda: time.monotonic() + self.by)


@pytest.fixture
def clock() -> Ahead:
    return Ahead()


@pytest.fixture
async def make(tmp_path: Path, shop: Shop, clock: Ahead) -> AsyncIterator[Make]:
    usual: dict[str, object] = {"container": shop.name, "host": shop.engine.host, "stable_for": 0.1}
    async with making(ADAPTER, usual, tmp_path / "state", clock) as made:
        yield made
