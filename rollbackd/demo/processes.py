"""Starts the demo's processes, and ends each of them whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Self

from rollbackd.errors import Permanent

END_WITHIN_S = 8.0
LAST_LINES = 15


class DemoFailed(Permanent):
    """Something that the demo needs did not work; the message says what, with the end of the log."""


class Child:
    """A process in a session of its own, so that Ctrl-C reaches us alone and we end it in order.

    Its standard input is a pipe: where it reads it, it notices if we are killed. Its output goes to the file `log`.
    """

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        # To be cut short here would leave a process behind: what cancels us once more waits until it has ended.
        await _unstoppable(_end(process))

    def check(self) -> None:
        """Raise DemoFailed if the process has ended."""
        if self._process is not None and self._process.returncode is not None:
            raise DemoFailed(f"{self.name} ended with exit code {self._process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LAST_LINES:])


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None  # noqa: S101  it was asked for as a pipe
    process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_WITHIN_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _unstoppable(work: Coroutine[object, object, None]) -> None:
    """Finish the work even if we are cancelled meanwhile; the cancellation comes after it."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
