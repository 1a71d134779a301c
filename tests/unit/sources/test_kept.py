"""What survives a restart, and what happens where it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog.testing

from rollbackd.sources.kept import Kept


async def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    one = Kept(tmp_path / "a" / "b", "place.json")
    assert await one.load() is None
    await one.save(b"first")
    await one.save(b"second")
    one.close()
    again = Kept(tmp_path / "a" / "b", "place.json")
    assert await again.load() == b"second"
    again.close()
    assert os.listdir(tmp_path / "a" / "b") == ["place.json"]  # noqa: PTH208  # a test may block for so long
    assert (tmp_path / "a" / "b" / "place.json").stat().st_mode & 0o777 == 0o600


async def test_without_a_folder_nothing_is_remembered() -> None:
    one = Kept(None, "place.json")
    await one.save(b"x")
    assert await one.load() is None
    one.close()


async def test_a_folder_that_cannot_be_made_is_told_once_and_costs_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = Kept(tmp_path / "file" / "folder", "place.json")
    with structlog.testing.capture_logs() as logged:
        assert await one.load() is None
        await one.save(b"x")
        await one.save(b"y")
    one.close()
    assert [(entry["event"], entry["error"]) for entry in logged] == [("source_place_not_kept", "Not a directory")]


async def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Kept(tmp_path, "place.json")
    await one.save(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    await one.save(b"new")
    assert await one.load() == b"old"
    one.close()
    assert os.listdir(tmp_path) == ["place.json"]  # noqa: PTH208  # a test may block for so long
