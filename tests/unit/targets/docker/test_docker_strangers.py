"""Other containers of the engine, and what is asked of them before a revert: none of them may stand in its way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rollbackd.targets import docker_ready
from rollbackd.targets.docker_engine import Docker
from rollbackd.targets.docker_ready import MOST_OTHERS, problems
from rollbackd.targets.docker_shape import decoded
from rollbackd.targets.kept_releases import Kept, Seen
from tests.support.engine import FakeEngine
from tests.support.waiting import WITHIN_S, eventually

OWN = "0" * 64
IMAGE = "sha256:1"


def inspected(name: str, **host: str) -> bytes:
    """A container, as far as its host configuration goes."""
    shown = {"Id": name, "Name": f"/{name[:5]}", "Image": IMAGE, "Created": "", "State": {"Running": True}}
    return json.dumps({**shown, "Config": {"Image": "shop:v1"}, "HostConfig": host}).encode()


class Engine(FakeEngine):
    """An engine with our own container, which is to be replaced, and with strangers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._listed: list[dict[str, object]] = [{"Id": OWN, "Names": ["/shop"]}]
        self.answers[f"/images/{IMAGE}/json"] = (200, b'{"Id": "sha256:1"}')
        self.answers["/networks"] = (200, b"[]")

    def stranger(self, name: str, answer: tuple[int, bytes] | None = None, network: str = "none", **host: str) -> None:
        """Another container, and what is answered when it is inspected, if not what it is."""
        self._listed.append({"Id": name, "Names": [f"/{name}"], "HostConfig": {"NetworkMode": network}})
        self.answers[path(name)] = answer or (200, inspected(name, NetworkMode=network, **host))
        self.answers["/containers/json"] = (200, json.dumps(self._listed).encode())

    async def problems(self, **host: object) -> list[str]:
        """What is in the way of a release that was made with these settings."""
        how: dict[str, object] = {"config": {}, "host": host, "networks": {}}
        seen = Seen(
            image=IMAGE,
            digest=None,
            reference="shop:v1",
            called="v1",
            commit=None,
            fingerprint="f",
            created_at=None,
            how=how,
        )
        async with Docker(f"unix://{self.path}") as docker:
            return await problems(docker, Kept(version="v1", seen=seen), [decoded(inspected(OWN))[0]])


def path(name: str) -> str:
    return f"/containers/{name}/json"


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    """On a busy machine a stranger that answers may take its time."""
    monkeypatch.setattr(docker_ready, "OTHERS_WITHIN_S", WITHIN_S)
    one = Engine(tmp_path)
    await one.start()
    yield one
    await one.stop()


async def test_a_stranger_that_hangs_holds_up_nothing_for_long(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_ready, "OTHERS_WITHIN_S", 0.1)
    engine.stranger("hangs", network=f"container:{OWN}")
    engine.held[path("hangs")] = asyncio.Event()
    assert await engine.problems() == ["container hangs shares the network of 00000, and would lose it"]
    assert path("hangs") in engine.asked


async def test_a_stranger_that_hangs_hides_no_other(engine: Engine) -> None:
    engine.stranger("hangs")
    engine.stranger("other", PidMode=f"container:{OWN}")
    held = engine.held[path("hangs")] = asyncio.Event()
    looking = asyncio.create_task(engine.problems())
    try:
        await eventually(lambda: path("other") in engine.asked)
    finally:
        held.set()
    assert await looking == ["container other shares the processes (--pid) of 00000, and would lose it"]


@pytest.mark.parametrize(
    "answer",
    [(500, b'{"message": "layer does not exist"}'), (403, b""), (404, b""), (200, b"<html>"), (200, b'{"Id": 1}')],
)
async def test_a_stranger_that_cannot_be_inspected_is_in_nobodys_way(engine: Engine, answer: tuple[int, bytes]) -> None:
    engine.stranger("broken", answer)
    engine.stranger("other", IpcMode=f"container:{OWN}")
    assert await engine.problems() == ["container other shares the shared memory (--ipc) of 00000, and would lose it"]


async def test_who_shares_its_network_is_told_however_many_there_are(engine: Engine) -> None:
    for number in range(MOST_OTHERS):
        engine.stranger(f"s{number}")
    engine.stranger("last", network=f"container:{OWN}")
    assert await engine.problems() == ["container last shares the network of 00000, and would lose it"]
    assert path("last") not in engine.asked


@pytest.mark.parametrize(
    ("gone", "shown"), [("storage-of-the-shop", "storage-of-the-shop"), ("ab" * 32, "ab" * 6), ("ab" * 31, "ab" * 31)]
)
async def test_what_is_gone_is_told_by_its_whole_name_or_a_short_id(engine: Engine, gone: str, shown: str) -> None:
    engine.stranger("other")
    engine.answers[path(gone)] = (404, b"")
    (problem,) = await engine.problems(VolumesFrom=[f"{gone}:ro"])
    assert problem.startswith(f"v1 had the volumes of container {shown}, which is gone")
