"""What tests of targets share: an engine for containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containers import Shop, shop_on
from tests.support.docker import DockerEngine, session_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A real Docker engine."""
    with session_engine() as found:
        yield found


@pytest.fixture
def shop(engine: DockerEngine) -> Iterator[Shop]:
    """Containers of one service, taken away afterwards."""
    with shop_on(engine) as one:
        yield one
