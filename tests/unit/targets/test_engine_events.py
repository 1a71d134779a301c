"""Which of an engine's events wake a target, on a real Swarm of one node."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest

from rollbackd.docker.commands import Commands
from rollbackd.targets.swarm import ADAPTER
from tests.support.docker import DockerEngine
from tests.support.swarm import Service
from tests.support.waiting import eventually
from tests.support.watching import watching
from tests.unit.targets.making import making

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]


async def test_a_service_is_not_woken_by_another_one(
    tmp_path: Path, manager: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is by its own changes and its own tasks."""
    heard: list[bytes] = []
    listening: list[bool] = []
    original = Commands.events

    async def events(self: Commands, filters: Mapping[str, list[str]]) -> AsyncGenerator[bytes, None]:
        listening.append(True)
        async for event in original(self, filters):
            heard.append(event)
            yield event

    monkeypatch.setattr(Commands, "events", events)
    own, other = Service(manager), Service(manager)
    usual: dict[str, object] = {"service": own.name, "host": manager.host, "poll": 0.2}
    try:
        own.create("v1")
        async with making(ADAPTER, usual, tmp_path / "state") as make, watching(make()) as _:
            await eventually(lambda: bool(listening), within=20)
            other.create("v1")
            own.deploy("v2")
            await eventually(
                lambda: _about(heard, own.name, b'"service"') and _about(heard, own.name, b'"start"'), within=30
            )
    finally:
        own.close()
        other.close()
    assert not _about(heard, other.name, b"")


def _about(heard: list[bytes], name: str, of: bytes) -> bool:
    return any(name.encode() in event and of in event for event in heard)
