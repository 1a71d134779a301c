"""Runs a program that must not outlive the demo: it ends when standard input does, however the demo ended."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

END_WITHIN_S = 6.0
"""How long the program may take to end before it is killed; less than the demo waits for us."""


def tethered(command: Sequence[str], remove: Path | None) -> list[str]:
    """The command under our watch; where the demo is killed, `remove` goes as well."""
    own = [sys.executable, "-m", "rollbackd.demo.tether", f"--demo={os.getpid()}"]
    return [*own, *([f"--remove={remove}"] if remove is not None else []), "--", *command]


def told_to_end() -> asyncio.Event:
    """Set once standard input ends, or we are told by a signal."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)

    def let_go() -> None:
        loop.remove_reader(sys.stdin.fileno())  # the end of a pipe can be read again and again
        told.set()

    loop.add_reader(sys.stdin.fileno(), let_go)
    return told


async def hold(command: Sequence[str]) -> int:
    """Run the program until it ends, standard input ends, or we are told to end. Its exit code."""
    told = told_to_end()
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    waiting = [asyncio.create_task(process.wait()), asyncio.create_task(told.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    waiting[1].cancel()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(waiting[0], END_WITHIN_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    code = await process.wait()
    return code if code >= 0 else 128 - code


def main() -> int:
    """`[--remove FOLDER] --demo PID -- COMMAND...`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=int, required=True)
    parser.add_argument("--remove", type=Path)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    code = asyncio.run(hold(options.command))
    if options.remove is not None and os.getppid() != options.demo:  # nobody is left who would
        shutil.rmtree(options.remove, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
