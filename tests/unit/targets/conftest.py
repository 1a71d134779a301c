"""What tests of targets share: a shop of containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containers import Shop, shop_on
from tests.support.docker import DockerEngine


@pytest.fixture
def shop(engine: DockerEngine) -> Iterator[Shop]:
    """Containers of one service, taken away afterwards."""
    with shop_on(engine) as one:
        yield one
