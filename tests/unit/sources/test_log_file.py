"""Following a real file through everything that happens to log files."""

from __future__ import annotations

import asyncio
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from rollbackd.model import AnyEvent, Log
from rollbackd.sources import log_file
from rollbackd.sources.base import Source, SourceContext
from rollbackd.sources.follow import CHUNK_BYTES, Follower
from rollbackd.sources.log_file import ADAPTER, MISSING_S, UNFINISHED_S, Following, LogFileConfig
from tests.support.clock import ManualClock
from tests.support.servers import Run, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually

POLL = 0.5


def following(path: Path, clock: ManualClock, **settings: object) -> Source:
    config = LogFileConfig.model_validate({"path": str(path), **settings})
    return ADAPTER.build(config, SourceContext("shop", clock))


def add(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def messages(sink: RecordingSink) -> list[str]:
    return [event.message for event in sink.of(Log)]


async def polled(run: Run) -> None:
    """Two looks: one that reads, one that finds the last record over."""
    await run.after(POLL)
    await run.after(POLL)


async def test_what_was_there_before_is_old_and_what_is_appended_is_read(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    add(path, "ERROR old")
    async with running(following(path, clock), clock) as (run, sink):
        add(path, "ERROR new", "fine")
        await run.after(POLL)
        assert messages(sink) == ["ERROR new"]
        await run.after(POLL)
    assert sink.events == [
        Log(t=clock.now() - POLL, service="shop", level="error", message="ERROR new"),
        Log(t=clock.now(), service="shop", level="info", message="fine"),
    ]
    assert (sink.history, sink.invalid()) == (["up"], [])


async def test_a_file_that_comes_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    async with running(following(path, clock), clock) as (run, sink):
        assert sink.state == f"down: cannot read {path}: No such file or directory"
        add(path, "first", "second")
        await polled(run)
        assert (messages(sink), sink.state) == (["first", "second"], "up")


def rename_and_create(path: Path) -> None:
    path.rename(path.with_suffix(".1"))
    path.touch()


def copy_and_truncate(path: Path) -> None:
    path.with_suffix(".1").write_bytes(path.read_bytes())
    os.truncate(path, 0)


def delete_and_create(path: Path) -> None:
    path.unlink()
    path.touch()


@pytest.mark.parametrize("rotate", [rename_and_create, copy_and_truncate, delete_and_create])
async def test_rotation_loses_nothing_and_repeats_nothing(tmp_path: Path, rotate: Callable[[Path], None]) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    add(path, "old")
    async with running(following(path, clock), clock) as (run, sink):
        expected = []
        for turn in range(3):
            add(path, f"before {turn}")
            await polled(run)
            rotate(path)
            add(path, f"after {turn}")
            await polled(run)
            expected += [f"before {turn}", f"after {turn}"]
        assert (messages(sink), sink.history) == (expected, ["up"])


async def test_lines_written_to_the_old_file_after_its_rotation_are_read(tmp_path: Path) -> None:
    """The service keeps writing to the renamed file until it is told to reopen."""
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        with path.open("a") as service:
            rename_and_create(path)
            await polled(run)
            service.write("late\n")
        add(path, "early")
        await polled(run)
        assert messages(sink) == ["late", "early"]


def test_what_is_written_between_the_looks_at_both_files_is_read(tmp_path: Path) -> None:
    old = tmp_path / "app.1"

    class Racing(type(tmp_path)):  # type: ignore[misc]  # the platform's own kind of path is known at run time only
        def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
            with old.open("a") as file:
                file.write("late\n")
            return super().stat(follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]  # for the same reason

    path = tmp_path / "app.log"
    path.touch()
    follower = Follower(Racing(path))
    try:
        follower.read()
        path.rename(old)
        add(path, "early")
        assert [follower.read().data, follower.read().data] == [b"late\n", b"late\n"]
    finally:
        follower.close()


async def test_a_file_that_was_cut_and_grew_beyond_its_old_size_is_read_anew(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    add(path, "short")
    async with running(following(path, clock), clock) as (run, sink):
        path.write_text("this is much longer than what was there before\n")
        await polled(run)
        assert messages(sink) == ["this is much longer than what was there before"]


async def test_a_deleted_file_is_missed_after_a_moment_and_found_again(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        path.unlink()
        await run.after(POLL)
        assert sink.state == "up"
        for _ in range(int(MISSING_S / POLL) + 1):
            await run.after(POLL)
        assert sink.state == f"down: cannot read {path}: No such file or directory"
        add(path, "back")
        await polled(run)
        assert (messages(sink), sink.state) == (["back"], "up")


async def test_a_link_that_moves_on_and_back_repeats_nothing(tmp_path: Path) -> None:
    """As a release directory's `current` does on a deployment and on its rollback."""
    clock = ManualClock()
    for release in ("v1", "v2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "app.log").touch()
    current = tmp_path / "current"

    def switch(release: str) -> None:
        (tmp_path / "next").symlink_to(release)
        (tmp_path / "next").rename(current)

    switch("v1")
    add(current / "app.log", "old v1")
    async with running(following(current / "app.log", clock), clock) as (run, sink):
        add(current / "app.log", "v1 runs")
        await polled(run)
        switch("v2")
        add(current / "app.log", "v2 starts")
        await polled(run)
        switch("v1")
        add(current / "app.log", "v1 is back")
        await polled(run)
        assert messages(sink) == ["v1 runs", "v2 starts", "v1 is back"]


async def test_an_older_file_moved_into_place_is_not_news(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    old = tmp_path / "old.log"
    add(old, "ERROR years ago")
    os.utime(old, (1, 1))
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        old.rename(path)
        await polled(run)
        add(path, "now")
        await polled(run)
        assert messages(sink) == ["now"]


class FailingSink(RecordingSink):
    """Breaks at the first event."""

    async def emit(self, event: AnyEvent) -> None:
        await super().emit(event)
        if len(self.events) == 1:
            raise RuntimeError("broken")


@pytest.mark.parametrize("rotate", [lambda path: None, rename_and_create])
async def test_a_source_that_crashed_goes_on_where_it_was(tmp_path: Path, rotate: Callable[[Path], None]) -> None:
    """What is written before it runs again is news."""
    path, clock, sink = tmp_path / "app.log", ManualClock(), FailingSink()
    path.touch()
    source = following(path, clock)
    run = Run(source, clock, sink)
    await run.idle()
    add(path, "first", "second")
    with pytest.raises(RuntimeError, match="broken"):
        await run.after(POLL)
    rotate(path)
    add(path, "while it was down")
    run = Run(source, clock, sink)
    try:
        await polled(run)
    finally:
        await run.stop()
    assert messages(sink) == ["first", "while it was down"]


async def test_a_source_that_crashed_before_the_first_line_misses_none(tmp_path: Path) -> None:
    path, clock, sink = tmp_path / "app.log", ManualClock(), RecordingSink()
    path.touch()
    source = following(path, clock)
    run = Run(source, clock, sink)
    await run.idle()
    await run.stop()
    add(path, "first")
    run = Run(source, clock, sink)
    try:
        await polled(run)
    finally:
        await run.stop()
    assert messages(sink) == ["first"]


async def test_a_line_that_is_nested_too_deeply_is_plain_text_and_costs_no_other(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    hostile = '{"level":"info","a":' + "[" * 2000 + "]" * 2000 + "}"
    async with running(following(path, clock), clock) as (run, sink):
        add(path, "ERROR before", hostile, "ERROR after")
        await polled(run)
        assert messages(sink) == ["ERROR before", hostile, "ERROR after"]


async def test_a_line_is_read_when_it_ends(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        with path.open("a", buffering=1) as file:
            file.write("half a ")
            file.flush()
            await polled(run)
            assert messages(sink) == []
            file.write("line\n")
            await polled(run)
            assert messages(sink) == ["half a line"]
            file.write("never ended")
            file.flush()
            for _ in range(int(UNFINISHED_S / POLL) + 1):
                await run.after(POLL)
            assert messages(sink) == ["half a line", "never ended"]


async def test_a_line_of_10_megabytes_is_cut_in_flat_memory(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        path.write_bytes(b"ERROR " + b"x" * 10_000_000 + b"\nnext\n")
        tracemalloc.start()
        try:
            await polled(run)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert [len(message) for message in messages(sink)] == [64 * 1024, 4]
    assert [event.level for event in sink.of(Log)] == ["error", "info"]
    assert sink.drops == {"line_too_long": 1}
    assert peak < 2_000_000


async def test_lines_longer_than_the_bound_are_cut_wherever_they_are(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock, max_line=256), clock) as (run, sink):
        add(path, "a", "b" * 300, "c", "d" * 256)
        await polled(run)
    assert [len(message) for message in messages(sink)] == [1, 256, 1, 256]
    assert sink.drops == {"line_too_long": 1}


async def test_bytes_that_are_no_text_are_survived(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        path.write_bytes(b"ERROR \xff\xfe\x00 end\r\nnext\n")
        await polled(run)
    assert messages(sink) == ["ERROR ��\x00 end", "next"]
    assert sink.invalid() == []


async def test_a_stack_trace_is_one_event_even_when_it_arrives_in_pieces(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        add(path, "ERROR broke", "  at a")
        await run.after(POLL)
        add(path, "  at b", "INFO next")
        await polled(run)
    assert messages(sink) == ["ERROR broke\n  at a\n  at b", "INFO next"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "is not a regular file"),
        (lambda path: os.mkfifo(path), "is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/nowhere/at/all"), "No such file or directory"),
    ],
)
async def test_what_cannot_be_followed_is_a_gap(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    make(path)
    async with running(following(path, clock), clock) as (_, sink):
        assert sink.state.startswith("down: ")
        assert reason in sink.state


async def test_a_long_backlog_leaves_turns_to_others(tmp_path: Path) -> None:
    path, turns = tmp_path / "app.log", 0
    path.touch()
    following = Following(
        LogFileConfig(path=path), SourceContext("shop", ManualClock()), Follower(path), RecordingSink()
    )

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    try:
        await following.catch_up()
        path.write_bytes(b"\n" * (8 * CHUNK_BYTES))
        before = turns
        await following.catch_up()
        assert turns - before >= 8
    finally:
        counter.cancel()
        await following.close()


async def test_a_file_system_that_hangs_holds_up_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source says so, and reads on once it answers."""
    path, clock, answering = tmp_path / "app.log", ManualClock(), threading.Event()
    path.touch()
    pread = os.pread

    def hanging(file: int, size: int, at: int) -> bytes:
        answering.wait(10)
        return pread(file, size, at)

    monkeypatch.setattr(log_file, "SILENT_S", 0.01)
    async with running(following(path, clock), clock) as (run, sink):
        monkeypatch.setattr(os, "pread", hanging)
        try:
            add(path, "new")
            await clock.advance(POLL)
            await eventually(lambda: sink.state == f"down: cannot read {path}: its file system does not answer")
        finally:
            answering.set()
        await polled(run)
        assert (messages(sink), sink.state) == (["new"], "up")


async def test_an_unfinished_line_is_not_continued_by_another_file(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        path.write_text("cut off")
        await run.after(POLL)
        rename_and_create(path)
        add(path, "new")
        await polled(run)
    assert messages(sink) == ["cut off", "new"]


async def test_a_full_queue_stops_the_reading(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        sink.hold()
        add(path, *(f"line {number}" for number in range(10)))
        await clock.advance(POLL)
        await eventually(lambda: sink.waiting)
        await clock.advance(60)
        assert (sink.waiting, sink.events) == (1, [])
        sink.release()
        await run.idle()
        await polled(run)
        assert len(sink.events) == 10


async def test_one_file_is_open_at_a_time_and_none_after_the_end(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()

    def open_here() -> list[str]:
        return [link for fd in Path("/proc/self/fd").iterdir() if (link := _target(fd)).startswith(str(tmp_path))]

    async with running(following(path, clock), clock) as (run, _):
        assert open_here() == [str(path)]
        rename_and_create(path)
        add(path, "new")
        await polled(run)
        assert open_here() == [str(path)]
    assert open_here() == []


def _target(fd: Path) -> str:
    try:
        return str(fd.readlink())
    except OSError:
        return ""


@pytest.mark.parametrize("settings", [{"format": "xml"}, {"poll": "1ms"}, {"max_line": 10}, {"paths": "x"}])
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        LogFileConfig.model_validate({"path": "/x", **settings})
