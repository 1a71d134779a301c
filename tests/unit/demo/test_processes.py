"""Processes of the demo end, whatever happens."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from rollbackd.demo import processes
from rollbackd.demo.processes import Child, DemoFailed
from tests.support.waiting import eventually

STUBBORN = (
    "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
)


def child(folder: Path, program: str) -> Child:
    return Child("the thing", [sys.executable, "-c", program], folder / "log")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def pid_of(folder: Path) -> int:
    """The process id that the program printed first."""
    log = folder / "log"
    await eventually(lambda: log.exists() and log.read_text().endswith("\n"))
    return int(log.read_text().split()[0])


async def test_a_child_ends_with_its_block(tmp_path: Path) -> None:
    async with child(tmp_path, "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"):
        pid = await pid_of(tmp_path)
    assert gone(pid)


async def test_a_child_is_asked_to_end_before_it_is_made_to(tmp_path: Path) -> None:
    polite = (
        "import signal, time\n"
        "def end(*_): print('goodbye', flush=True); raise SystemExit\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    async with child(tmp_path, polite):
        await eventually(lambda: "up" in (tmp_path / "log").read_text())
    assert "goodbye" in (tmp_path / "log").read_text()


async def test_a_child_ends_when_the_block_fails(tmp_path: Path) -> None:
    async def fail() -> None:
        async with child(tmp_path, "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"):
            await pid_of(tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert gone(await pid_of(tmp_path))


async def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "END_WITHIN_S", 0.05)
    async with child(tmp_path, "import os\nprint(os.getpid(), flush=True)\n" + STUBBORN):
        pid = await pid_of(tmp_path)
        await eventually(lambda: "up" in (tmp_path / "log").read_text())
    assert gone(pid)


async def test_being_cancelled_while_ending_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when somebody presses Ctrl-C a second time."""
    monkeypatch.setattr(processes, "END_WITHIN_S", 0.3)
    pids: list[int] = []

    async def work() -> None:
        async with child(tmp_path, "import os\nprint(os.getpid(), flush=True)\n" + STUBBORN):
            pids.append(await pid_of(tmp_path))
            await eventually(lambda: "up" in (tmp_path / "log").read_text())

    task = asyncio.create_task(work())
    await eventually(lambda: pids)
    await eventually(lambda: "up" in (tmp_path / "log").read_text())
    for _ in range(3):  # the first may still end the block, the others come while the child is being ended
        task.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(pids[0])


async def test_a_child_that_ended_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with child(tmp_path, "print('I give up')\nraise SystemExit(7)") as thing:

        def ended() -> bool:
            try:
                thing.check()
            except DemoFailed as error:
                return "the thing ended with exit code 7" in str(error) and "I give up" in str(error)
            return False

        await eventually(ended)
