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
from rollbackd.sources.log_file import ADAPTER, KEPT_S, MISSING_S, UNFINISHED_S, Following, LogFileConfig
from tests.support.clock import ManualClock
from tests.support.servers import Run, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually

POLL = 0.5


def following(path: Path, clock: ManualClock, state_dir: Path | None = None, **settings: object) -> Source:
    config = LogFileConfig.model_validate({"path": str(path), **settings})
    return ADAPTER.build(config, SourceContext("shop", clock, state_dir))


def add(path: Path, *lines: str) -> None:
    """Write lines that are told one by one: errors, unless they say what they are."""
    with path.open("a") as file:
        file.writelines(
            f"{line if line.startswith(('ERROR', 'INFO', 'WARN', ' ')) else f'ERROR {line}'}\n" for line in lines
        )


def messages(sink: RecordingSink) -> list[str]:
    """What was told one by one."""
    return [event.message.removeprefix("ERROR ") for event in sink.of(Log) if event.message]


async def polled(run: Run) -> None:
    """Two looks: one that reads, one that finds the last record over."""
    await run.after(POLL)
    await run.after(POLL)


async def test_what_was_there_before_is_old_and_what_is_appended_is_read(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    add(path, "ERROR old")
    async with running(following(path, clock), clock) as (run, sink):
        add(path, "ERROR new", "careful")
        await run.after(POLL)
        assert messages(sink) == ["new"]
        await run.after(POLL)
    assert sink.events == [
        Log(t=clock.now() - POLL, service="shop", level="error", message="ERROR new"),
        Log(t=clock.now(), service="shop", level="error", message="ERROR careful"),
    ]
    assert (sink.history, sink.invalid()) == (["up"], [])


async def test_lines_below_an_error_are_counted_and_not_told(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        add(path, "INFO one", "INFO two", "ERROR broke", "  at a", "WARN careful", "INFO three")
        await run.after(POLL)
    assert sink.events == [
        Log(t=clock.now(), service="shop", level="error", message="ERROR broke\n  at a"),
        Log(t=clock.now(), service="shop", level="warning", message="", count=1),
        Log(t=clock.now(), service="shop", level="info", message="", count=3),
    ]


async def test_the_operator_s_rules_say_what_a_line_is(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    rules = [
        {"match": "OOM|out of memory", "level": "critical", "name": "out of memory"},
        {"match": "^ERROR .*cache miss", "level": "debug"},
    ]
    async with running(following(path, clock, rules=rules), clock) as (run, sink):
        add(path, "INFO worker 7: out of memory", "ERROR harmless cache miss", "ERROR real")
        await polled(run)
    told = [(event.level, event.message) for event in sink.of(Log) if event.message]
    assert told == [("critical", "out of memory"), ("error", "ERROR real")]


# -- over a restart of the daemon


async def restarted(
    path: Path, clock: ManualClock, meanwhile: Callable[[], object], away: float = 30.0
) -> tuple[list[str], list[str]]:
    """What is read of the file before and after a restart, in whose midst something happens."""
    told = list[list[str]]()
    for _ in range(2):
        async with running(following(path, clock, path.parent / "state"), clock) as (run, sink):
            if not told:
                add(path, "before")
            await polled(run)
        told.append(messages(sink))
        if len(told) == 1:
            meanwhile()
            await clock.advance(away)
    return told[0], told[1]


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A file with a past."""
    path = tmp_path / "app.log"
    add(path, *(f"old {number}" for number in range(20)))
    return path


async def test_a_restart_goes_on_where_the_last_run_was(logged: Path) -> None:
    assert await restarted(logged, ManualClock(), lambda: add(logged, "meanwhile")) == (["before"], ["meanwhile"])


async def test_a_record_that_was_open_when_the_daemon_stopped_is_read_as_a_whole(logged: Path) -> None:
    clock = ManualClock()
    async with running(following(logged, clock, logged.parent / "state"), clock) as (run, sink):
        add(logged, "ERROR begun", "  at a")
        await run.after(POLL)
        assert messages(sink) == []
    add(logged, "  at b", "next")
    async with running(following(logged, clock, logged.parent / "state"), clock) as (run, sink):
        await polled(run)
        assert messages(sink) == ["begun\n  at a\n  at b", "next"]


async def test_a_rotation_while_the_daemon_was_away_loses_nothing(logged: Path) -> None:
    def rotate() -> None:
        add(logged, "to the old file")
        rename_and_create(logged)
        add(logged, "to the new file")

    assert (await restarted(logged, ManualClock(), rotate))[1] == ["to the old file", "to the new file"]


async def test_a_file_that_was_cut_while_the_daemon_was_away_is_read_anew(logged: Path) -> None:
    def cut() -> None:
        logged.write_text("ERROR after the cut\n")

    assert (await restarted(logged, ManualClock(), cut))[1] == ["after the cut"]


async def test_a_place_that_is_too_old_is_not_gone_back_to(logged: Path) -> None:
    told = await restarted(logged, ManualClock(), lambda: add(logged, "long ago"), away=KEPT_S + 61)
    assert told == (["before"], [])


async def test_a_place_of_another_file_or_a_damaged_one_is_no_place(logged: Path) -> None:
    clock, state = ManualClock(), logged.parent / "state"
    assert (await restarted(logged, clock, lambda: (state / "place.json").write_text("{"))) == (["before"], [])
    other = logged.with_name("other.log")
    add(other, "old")
    async with running(following(other, clock, state), clock) as (run, sink):
        await polled(run)
        assert messages(sink) == []


async def test_the_place_that_is_kept_holds_nothing_of_the_log(logged: Path) -> None:
    await restarted(logged, ManualClock(), lambda: None)
    kept = (logged.parent / "state" / "place.json").read_text()
    assert "before" not in kept
    assert str(logged) in kept


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
            service.write("ERROR late\n")
        add(path, "early")
        await polled(run)
        assert messages(sink) == ["late", "early"]


def test_what_is_written_between_the_looks_at_both_files_is_read(tmp_path: Path) -> None:
    old = tmp_path / "app.1"

    class Racing(type(tmp_path)):  # type: ignore[misc]  # the platform's own kind of path is known at run time only
        def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
            with old.open("a") as file:
                file.write("ERROR late\n")
            return super().stat(follow_symlinks=follow_symlinks)  # type: ignore[no-any-return]  # for the same reason

    path = tmp_path / "app.log"
    path.touch()
    follower = Follower(Racing(path))
    try:
        follower.read()
        path.rename(old)
        add(path, "early")
        assert [follower.read().data, follower.read().data] == [b"ERROR late\n", b"ERROR late\n"]
    finally:
        follower.close()


async def test_a_file_that_was_cut_and_grew_beyond_its_old_size_is_read_anew(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    add(path, "short")
    async with running(following(path, clock), clock) as (run, sink):
        path.write_text("ERROR this is much longer than what was there before\n")
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
        path.write_text(f"ERROR before\n{hostile}\nERROR after\n")
        await polled(run)
        assert messages(sink) == ["before", "after"]


async def test_a_line_is_read_when_it_ends(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        with path.open("a", buffering=1) as file:
            file.write("ERROR half a ")
            file.flush()
            await polled(run)
            assert messages(sink) == []
            file.write("line\n")
            await polled(run)
            assert messages(sink) == ["half a line"]
            file.write("ERROR never ended")
            file.flush()
            for _ in range(int(UNFINISHED_S / POLL) + 1):
                await run.after(POLL)
            assert messages(sink) == ["half a line", "never ended"]


async def test_a_line_of_10_megabytes_is_cut_in_flat_memory(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        path.write_bytes(b"ERROR " + b"x" * 10_000_000 + b"\nERROR next\n")
        tracemalloc.start()
        try:
            await polled(run)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert [len(message) for message in messages(sink)] == [64 * 1024 - 6, 4]
    assert [event.level for event in sink.of(Log)] == ["error", "error"]
    assert sink.drops == {"line_too_long": 1}
    assert peak < 2_000_000


async def test_lines_longer_than_the_bound_are_cut_wherever_they_are(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock, max_line=256), clock) as (run, sink):
        add(path, "a", "b" * 300, "c", "d" * 250)
        await polled(run)
    assert [len(message) for message in messages(sink)] == [1, 250, 1, 250]
    assert sink.drops == {"line_too_long": 1}


async def test_bytes_that_are_no_text_are_survived(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        path.write_bytes(b"ERROR \xff\xfe\x00 end\r\nERROR next\n")
        await polled(run)
    assert messages(sink) == ["��\x00 end", "next"]
    assert sink.invalid() == []


async def test_a_stack_trace_is_one_event_even_when_it_arrives_in_pieces(tmp_path: Path) -> None:
    path, clock = tmp_path / "app.log", ManualClock()
    path.touch()
    async with running(following(path, clock), clock) as (run, sink):
        add(path, "ERROR broke", "  at a")
        await run.after(POLL)
        add(path, "  at b", "INFO next")
        await polled(run)
    assert messages(sink) == ["broke\n  at a\n  at b"]


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
        path.write_text("ERROR cut off")
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
