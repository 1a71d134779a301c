"""The play when something that it needs does not work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rollbackd.demo.play import play
from rollbackd.demo.report import Report
from rollbackd.demo.stage import Stage
from tests.unit.demo.test_report import Listener


async def perform(folder: Path, listener: Listener) -> Report:
    return await play("errors", folder, None, listener)


@pytest.mark.parametrize("part", ["daemon", "keep"])
async def test_a_part_that_cannot_run_ends_the_demo_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(
        Stage, part, property(lambda _stage: [sys.executable, "-c", "raise SystemExit('no room here')"])
    )
    listener = Listener()
    report = await perform(tmp_path, listener)
    assert not report.ok
    assert report.problem is not None
    assert "ended with exit code 1" in report.problem
    assert "no room here" in report.problem
    assert [moment.event for moment in listener.told][-1] == "failed"
    assert (report.total_requests, report.decision) == (0, None)


async def test_a_new_release_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The restart fails before the daemon has anything to judge; the first release is taken as baked."""
    monkeypatch.setattr("rollbackd.demo.watching.Daemon.found_good", _at_once)
    monkeypatch.setattr(
        Stage, "restart", property(lambda _stage: [sys.executable, "-c", "raise SystemExit('port in use')"])
    )
    report = await perform(tmp_path, Listener())
    assert report.problem == "v2 could not be started: port in use"


async def _at_once(_daemon: object, _version: str) -> bool:
    return True
