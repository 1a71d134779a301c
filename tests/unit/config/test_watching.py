"""The file changes under a running daemon: what is good is taken over, what is bad is refused and the old one stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rollbackd.adapter import AdapterKind
from rollbackd.config.loading import Loaded, load
from rollbackd.config.watching import Reloader, watch
from rollbackd.errors import Permanent
from tests.support.clock import ManualClock, settle
from tests.support.waiting import eventually
from tests.unit.config.catalog import FakeCatalog


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rollbackd.yaml"
    path.write_text("mode: act\n")
    return path


@contextlib.asynccontextmanager
async def watching(path: Path, clock: ManualClock) -> AsyncIterator[list[float]]:
    """The moments at which a change was told."""
    told: list[float] = []

    async def follow() -> None:
        changes = watch(path, clock, every=1)
        while True:
            await anext(changes)
            told.append(clock.monotonic())

    task = asyncio.create_task(follow())
    await settle()
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait([task])


def put(file: Path, text: str) -> None:
    file.write_text(text)


def _unlink(file: Path) -> None:
    file.unlink()


def _rewrite(file: Path) -> None:
    put(file, "mode: shadow # longer\n")


def _replace(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_text("mode: act\n")
    new.rename(file)


@pytest.mark.parametrize("change", [_rewrite, _replace, _unlink])
async def test_a_change_is_told_once_the_file_keeps_still(file: Path, change: Callable[[Path], None]) -> None:
    clock = ManualClock()
    async with watching(file, clock) as told:
        await clock.advance(5)
        assert told == []
        change(file)
        await clock.advance(10)
        assert told == [7]


async def test_a_file_that_is_still_being_written_is_left_alone(file: Path) -> None:
    clock = ManualClock()
    async with watching(file, clock) as told:
        for count in range(1, 6):
            put(file, "#" * count)
            await clock.advance(1)
        assert told == []
        await clock.advance(1)
        assert told == [6]


async def test_a_file_that_comes_and_goes_is_told_both_times(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "late.yaml"
    async with watching(path, clock) as told:
        await clock.advance(3)
        path.write_text("")
        await clock.advance(2)
        path.unlink()
        await clock.advance(2)
        assert told == [5, 7]


async def test_a_swapped_volume_is_a_change(tmp_path: Path) -> None:
    """Kubernetes mounts file -> ..data/file with ..data -> a dated folder, and swaps ..data."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rollbackd.yaml").write_text("mode: act\n")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "rollbackd.yaml").symlink_to("..data/rollbackd.yaml")
    clock = ManualClock()
    async with watching(tmp_path / "rollbackd.yaml", clock) as told:
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await clock.advance(3)
        assert told == [2]


# -- reloading


class CountingCatalog(FakeCatalog):
    """Knows how often a file was read: each reading asks for the ledgers once."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = 0

    def names(self, kind: AdapterKind) -> list[str]:
        self.readings += kind == "ledger"
        return super().names(kind)


@dataclass
class Running:
    """A reloader at work, and what it did."""

    file: Path
    clock: ManualClock = field(default_factory=ManualClock)
    catalog: CountingCatalog = field(default_factory=CountingCatalog)
    applied: list[Loaded] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    cannot: BaseException | None = None

    def __post_init__(self) -> None:
        self.first = load(self.file, self.catalog)
        self.reloader = Reloader(
            self.file, self.catalog, self.first, self._apply, self.clock, every=1, refused=self._refused
        )

    async def _apply(self, loaded: Loaded) -> None:
        if self.cannot is not None:
            raise self.cannot
        self.applied.append(loaded)

    async def _refused(self, problem: str) -> None:
        self.refused.append(problem)

    async def looked(self, times: int) -> None:
        """Wait until the file was read so often, the first loading included, and what came of it is over."""
        await eventually(lambda: self.catalog.readings == times)
        await eventually(lambda: self.reloader.idle)

    @property
    def mode(self) -> str:
        return self.reloader.current.config.mode


@pytest.fixture
async def running(file: Path) -> AsyncIterator[Running]:
    daemon = Running(file)
    task = asyncio.create_task(daemon.reloader.run())
    await eventually(lambda: daemon.clock.sleeping)
    await daemon.looked(2)
    yield daemon
    assert not task.done(), "a reloader never ends by itself"
    task.cancel()
    await asyncio.wait([task])


async def test_a_good_change_is_put_in_force(running: Running, file: Path) -> None:
    with capture_logs() as logs:
        put(file, "mode: shadow\n")
        await running.clock.advance(2)
        await eventually(lambda: running.mode == "shadow")
    assert running.applied == [running.reloader.current]
    assert running.reloader.problem is None
    assert [line["event"] for line in logs] == ["config_reloaded"]


async def test_a_signal_does_not_wait_for_the_next_look(running: Running, file: Path) -> None:
    put(file, "mode: shadow\n")
    running.reloader.request()
    await eventually(lambda: running.mode == "shadow")
    assert running.clock.monotonic() == 0


async def test_a_bad_change_is_refused_with_all_its_faults_and_the_old_one_stays(running: Running, file: Path) -> None:
    with capture_logs() as logs:
        put(file, "mode: x\nlog: 5\n")
        running.reloader.request()
        await eventually(lambda: running.refused)
    assert running.reloader.current is running.first
    assert running.applied == []
    problem = running.reloader.problem
    assert problem is not None
    assert [line.partition(": ")[0] for line in problem.splitlines()] == [f"{file}:1", f"{file}:2"]
    (line,) = logs
    assert (line["event"], line["log_level"], line["faults"]) == ("config_refused", "error", problem.splitlines())


async def test_a_vanished_file_is_refused(running: Running, file: Path) -> None:
    _unlink(file)
    await running.clock.advance(2)
    await eventually(lambda: running.reloader.problem)
    assert "no such file" in str(running.reloader.problem)
    assert running.reloader.current is running.first


async def test_the_same_problem_is_told_to_people_once(running: Running, file: Path) -> None:
    with capture_logs() as logs:
        put(file, "mode: x\n")
        running.reloader.request()
        await eventually(lambda: len(logs) == 1)
        running.reloader.request()
        await eventually(lambda: len(logs) == 2)
    assert len(running.refused) == 1


async def test_the_old_content_put_back_ends_the_problem_and_changes_nothing(running: Running, file: Path) -> None:
    put(file, "mode: x\n")
    running.reloader.request()
    await eventually(lambda: running.reloader.problem)
    put(file, "mode: act\n")
    running.reloader.request()
    await eventually(lambda: running.reloader.problem is None)
    assert running.applied == []
    assert running.reloader.current is running.first


async def test_a_repaired_file_is_put_in_force(running: Running, file: Path) -> None:
    put(file, "mode: x\n")
    running.reloader.request()
    await eventually(lambda: running.reloader.problem)
    put(file, "mode: shadow\n")
    running.reloader.request()
    await eventually(lambda: running.mode == "shadow")
    assert running.reloader.problem is None


@pytest.mark.parametrize(
    ("error", "words"),
    [(Permanent("the port is taken"), "the port is taken"), (OSError("boom"), "OSError, see the log")],
)
async def test_what_cannot_be_put_in_force_leaves_the_old_one(
    running: Running, file: Path, error: BaseException, words: str
) -> None:
    running.cannot = error
    with capture_logs():
        put(file, "mode: shadow\n")
        running.reloader.request()
        await eventually(lambda: running.reloader.problem)
    assert running.reloader.current is running.first
    assert running.refused == [f"{file}: the new configuration cannot be put in force: {words}"]


async def test_what_could_not_be_put_in_force_is_tried_again_on_request(running: Running, file: Path) -> None:
    running.cannot = Permanent("not now")
    put(file, "mode: shadow\n")
    running.reloader.request()
    await eventually(lambda: running.reloader.problem)
    running.cannot = None
    running.reloader.request()
    await eventually(lambda: running.mode == "shadow")


async def test_a_file_touched_without_a_change_changes_nothing(running: Running, file: Path) -> None:
    with capture_logs() as logs:
        os.utime(file)
        await running.clock.advance(3)
        await running.looked(3)
        running.reloader.request()
        await running.looked(4)
    assert logs == []
    assert running.applied == []


async def test_a_change_between_the_first_loading_and_now_is_seen(file: Path) -> None:
    daemon = Running(file)
    put(file, "mode: shadow\n")
    task = asyncio.create_task(daemon.reloader.run())
    await eventually(lambda: daemon.mode == "shadow")
    task.cancel()
    await asyncio.wait([task])
