"""Files of a target: one thread of its own, bounded time, and the errors of files in our own words."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rollbackd.errors import Permanent, Temporary

T = TypeVar("T")

_WANTS_THE_OPERATOR = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Faults that stay until somebody changes a file, a right or the configuration. All others (full, busy, stale) pass."""


@contextmanager
def own_errors() -> Iterator[None]:
    """Turns an OSError into Permanent or Temporary that names the path and the system's reason."""
    try:
        yield
    except OSError as error:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        message = f"{place}{error.strerror or error.__class__.__name__}"
        if error.errno in _WANTS_THE_OPERATOR:
            raise Permanent(message) from None
        raise Temporary(message) from None


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Disk:
    """Runs a target's file operations outside the event loop, one after another.

    A thread for each target, and not a shared pool: a file system that hangs holds up its own target alone.
    """

    def __init__(self, name: str, within: float = 10.0) -> None:
        """`within` is how long one call may take, in seconds."""
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"disk-{name}")
        self._within = within

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`. Raises Temporary where it takes too long, and what `own_errors` makes of an OSError.

        Cancelling waits for a call that has begun, so that nobody acts on files which are still being changed.
        """

        def work() -> T:
            with own_errors():
                return call()

        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError:
            raise Temporary("this target is closed") from None
        try:
            done, _ = await asyncio.wait({future}, timeout=self._within)
        except asyncio.CancelledError:
            await asyncio.wait({future}, timeout=self._within)
            self._abandon(future)
            raise
        if not done:
            self._abandon(future)
            raise Temporary(f"the file system did not answer within {self._within:g} s")
        return future.result()

    def close(self) -> None:
        """Take no more calls. Safe to call twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _abandon(future: asyncio.Future[T]) -> None:
        """Nobody asks for the result any more; a call that has not begun never will."""
        future.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
        future.cancel()
