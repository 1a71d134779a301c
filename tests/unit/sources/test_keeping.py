"""What a source keeps over a restart, and what keeping it costs the others."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import pytest
import structlog.testing

from rollbackd.sources.keeping import KEEP_EVERY_S, Keeper
from tests.support.clock import ManualClock


class Place(msgspec.Struct, frozen=True):
    """A place in some stream."""

    at: int


async def test_it_is_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    clock = ManualClock()
    keeper = Keeper(Place, tmp_path, clock)

    async def again() -> Place | None:
        return await Keeper(Place, tmp_path, clock).load()

    await keeper.keep(Place(1))
    assert await again() is None
    await clock.advance(KEEP_EVERY_S)
    await keeper.keep(Place(2))
    await keeper.keep(Place(3))
    assert await again() == Place(2)
    await keeper.keep_now(Place(4))
    assert await again() == Place(4)
    keeper.close()
    await keeper.keep_now(Place(5))
    assert await again() == Place(5), "a run that begins anew keeps on"


async def test_a_slow_disk_is_never_waited_for_by_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor at the end of a run, which for a quiet journal comes once a minute."""
    threads: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: threads.append(threading.get_ident()))
    await Keeper(Place, tmp_path, ManualClock()).keep_now(Place(1))
    assert threads
    assert threading.get_ident() not in threads


async def test_what_is_no_place_is_told_and_left(tmp_path: Path) -> None:
    (tmp_path / "place.json").write_bytes(b"\xff{")
    with structlog.testing.capture_logs() as logged:
        assert await Keeper(Place, tmp_path, ManualClock()).load() is None
    assert [entry["event"] for entry in logged] == ["place_unusable"]
