"""What tests of the whole share: an engine for containers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.docker import DockerEngine, session_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """A real Docker engine."""
    with session_engine() as found:
        yield found
