"""File operations beside the event loop: bounded in time, and never left half done by a cancellation."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.targets.disk import Disk, Wanted


@pytest.fixture
def disk() -> Iterator[Disk]:
    one = Disk("test")
    yield one
    one.close()


async def test_a_file_system_that_hangs_is_left_after_a_while() -> None:
    disk, release = Disk("test", within=0.05), threading.Event()
    with pytest.raises(Temporary, match=r"0\.05 s"):
        await disk.run(release.wait)
    with pytest.raises(Temporary):
        await disk.run(lambda: "this waits behind the first")
    release.set()
    disk.close()


async def test_a_change_that_was_given_up_learns_it_before_it_takes_effect() -> None:
    disk, release, done = Disk("test", within=0.2), threading.Event(), []

    def change(wanted: Wanted) -> None:
        release.wait()
        wanted.check()
        done.append("changed")

    with pytest.raises(Temporary, match=r"0\.2 s"):
        await disk.change(change)
    disk._within = 30.0
    release.set()
    await idle(disk)
    assert done == []
    await disk.change(change)
    assert done == ["changed"]
    disk.close()


async def test_a_result_that_comes_too_late_is_taken_back() -> None:
    disk, release = Disk("test", within=0.2), threading.Event()
    taken_back: list[str] = []

    def open_late() -> str:
        release.wait()
        return "opened"

    with pytest.raises(Temporary):
        await disk.run(open_late, taken_back.append)
    disk._within = 30.0
    release.set()
    await idle(disk)
    assert taken_back == ["opened"]
    assert await disk.run(open_late, taken_back.append) == "opened"
    assert taken_back == ["opened"]
    disk.close()


async def idle(disk: Disk) -> None:
    """One thread, so what was begun before is over when this call is."""
    await disk.run(lambda: None)


async def test_cancelling_waits_for_what_has_begun(disk: Disk) -> None:
    begun, release, done = threading.Event(), threading.Event(), []

    def change() -> None:
        begun.set()
        release.wait()
        done.append("changed")

    task = asyncio.create_task(disk.run(change))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, release.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["changed"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, Permanent),
        (errno.EACCES, Permanent),
        (errno.EROFS, Permanent),
        (errno.ELOOP, Permanent),
        (errno.ENOSPC, Temporary),
        (errno.EIO, Temporary),
        (errno.ESTALE, Temporary),
        (errno.EMFILE, Temporary),
    ],
)
async def test_the_systems_errors_become_ours(disk: Disk, number: int, kind: type[RollbackdError]) -> None:
    def fail() -> None:
        raise OSError(number, "the reason", "/srv/checkout/current")

    with pytest.raises(kind, match=r"^/srv/checkout/current: the reason$"):
        await disk.run(fail)


async def test_a_closed_one_says_so(disk: Disk, tmp_path: Path) -> None:
    disk.close()
    disk.close()
    with pytest.raises(Temporary, match="closed"):
        await disk.run(tmp_path.exists)
