"""Files of a target: one thread of its own, bounded time, and the errors of files in our own words."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step that survives a crash; it can be read by the daemon's user alone."""
    with own_errors():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(path)
        sync_folder(path.parent)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While a file is changed: after a reload, the target of the configuration before may still look."""
    with own_errors():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


class Wanted:
    """Whether somebody still waits for a call. A thread cannot be ended: it goes on when its file system answers."""

    def __init__(self) -> None:
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._given_up.set()

    def check(self) -> None:
        """Ask right before an effect. Raises Temporary where it would come too late to be meant."""
        if self._given_up.is_set():
            raise Temporary("given up meanwhile: nothing was changed")


class Disk:
    """Runs a target's file operations outside the event loop, one after another.

    A thread for each target, and not a shared pool: a file system that hangs holds up its own target alone.
    """

    def __init__(self, name: str, within: float = 10.0) -> None:
        """`within` is how long one call may take, in seconds."""
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"disk-{name}")
        self._within = within

    async def run(self, call: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """The result of `call`. Raises Temporary where it takes too long, and what `own_errors` makes of an OSError.

        Cancelling waits for a call that has begun, so that nobody acts on files which are still being changed. `undo`
        takes back a result for which nobody waits any more.
        """
        return await self.change(lambda _wanted: call(), undo)

    async def change(self, call: Callable[[Wanted], T], undo: Callable[[T], object] | None = None) -> T:
        """As `run`, for a call with an effect: `call` has to ask the Wanted it is given right before the effect."""
        wanted = Wanted()

        def work() -> T:
            with own_errors():
                return call(wanted)

        try:
            job = self._threads.submit(work)
        except RuntimeError:
            raise Temporary("this target is closed") from None
        future = asyncio.wrap_future(job)
        try:
            done, _ = await asyncio.wait({future}, timeout=self._within)
        except asyncio.CancelledError:
            await asyncio.wait({future}, timeout=self._within)
            wanted.give_up()
            self._abandon(job, future, undo)
            raise
        if not done:
            wanted.give_up()
            self._abandon(job, future, undo)
            raise Temporary(f"the file system did not answer within {self._within:g} s")
        return future.result()

    def close(self) -> None:
        """Take no more calls. Safe to call twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _abandon(job: Future[T], future: asyncio.Future[T], undo: Callable[[T], object] | None) -> None:
        """Nobody asks for the result any more; a call that has not begun never will."""

        def take_back(ended: Future[T]) -> None:
            if undo is not None and not ended.cancelled() and ended.exception() is None:
                undo(ended.result())

        future.cancel()
        job.add_done_callback(take_back)
