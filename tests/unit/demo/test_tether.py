"""What the demo's daemon is tied to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollbackd.demo.tether import tethered

WAITS = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"


def start(program: str, remove: Path | None = None, demo: int | None = None) -> subprocess.Popen[str]:
    command = tethered([sys.executable, "-c", program], remove)
    if demo is not None:
        command = [f"--demo={demo}" if part.startswith("--demo=") else part for part in command]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("by_signal", [True, False])
def test_the_program_ends_when_it_is_told_to_or_let_go(by_signal: bool) -> None:
    with start(WAITS) as tether:
        assert tether.stdout is not None
        assert tether.stdin is not None
        pid = int(tether.stdout.readline())
        if by_signal:
            tether.terminate()
        else:
            tether.stdin.close()
        assert tether.wait(40) == 143
    assert gone(pid)


def test_the_programs_own_end_is_passed_on() -> None:
    with start("raise SystemExit(7)") as tether:
        assert tether.wait(40) == 7


@pytest.mark.parametrize("killed", [True, False])
def test_the_folder_goes_only_when_the_demo_cannot_remove_it_itself(tmp_path: Path, killed: bool) -> None:
    folder = tmp_path / "demo"
    (folder / "data").mkdir(parents=True)
    with start(WAITS, folder, demo=1 if killed else None) as tether:
        assert tether.stdout is not None
        assert tether.stdin is not None
        tether.stdout.readline()
        tether.stdin.close()
        tether.wait(40)
    assert folder.exists() is not killed
