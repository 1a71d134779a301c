"""Which orders a target has carried out: an append-only file that makes a revert happen once for a key."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.disk import Disk, own_errors, sync_folder, write_whole

State: TypeAlias = Literal["begun", "done"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An order and how far it got. `mark` tells the deployment it was to undo from a later one of the same release."""

    key: str
    to: str
    expect: str
    mark: str
    at: float
    state: State


class Next(Enum):
    """What is to be done about an order."""

    SWITCH = auto()
    """`expect` is in place: put `to` there."""
    FINISH = auto()
    """`to` is in place because of this key, which was never reported done: do what may be left."""
    ADOPT = auto()
    """`to` is in place, but not because of this key."""
    NOTHING = auto()
    """This key is done."""


class SpentKeys:
    """The orders of one target, in its state folder.

    Methods do file I/O and raise Temporary or Permanent. It remembers the newest `keep` keys; an order whose key is
    older than those is judged by what it expects to find.
    """

    def __init__(self, folder: Path, keep: int = 1000) -> None:
        self._folder = folder
        self._path = folder / "reverts.jsonl"
        self._keep = keep
        self._one_at_a_time = asyncio.Lock()
        self._decoder = msgspec.json.Decoder(Entry)

    @asynccontextmanager
    async def exclusive(self, disk: Disk) -> AsyncIterator[None]:
        """Hold this while reverting. Waits for a revert of this object; raises Temporary while another one reverts.

        The other one is an object on the same folder: of the configuration before a reload, or of a second daemon.
        The lock is taken on `disk`, since a file system that hangs holds up whoever opens or locks a file there.
        """
        async with self._one_at_a_time:
            lock = await disk.run(self._lock, undo=os.close)
            try:
                yield
            finally:
                os.close(lock)

    def _lock(self) -> int:
        """A descriptor that holds the lock until it is closed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / "reverts.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Temporary(f"another revert of this target is running ({self._folder} is locked)") from None
        except OSError:
            os.close(lock)
            raise
        return lock

    def judge(self, order: RevertOrder, current: str | None, mark: str = "") -> Next:
        """What is to be done, given the release in place and the mark of its deployment.

        Raises Conflict where somebody else deployed or the key is spent, Permanent where the key names another order.
        """
        entries = self._entries()
        entry = entries.get(order.key)
        if entry is None:
            return self._fresh(order, current)
        if (entry.to, entry.expect) != (order.to, order.expect):
            raise Permanent(f"key {order.key} is taken: it orders {entry.expect} -> {entry.to}")
        if next(reversed(entries)) != order.key:
            raise Conflict(f"key {order.key} is spent: this target was reverted again since")
        if entry.state == "done":
            if current == order.to:
                return Next.NOTHING
            raise Conflict(f"key {order.key} is spent: {current or 'nothing'} was put in place since")
        if current == order.to:
            return Next.FINISH
        if current == order.expect and mark != entry.mark:
            raise Conflict(f"{current} was deployed again since the revert to {order.to} began")
        if current in (order.expect, None):
            return Next.SWITCH
        raise Conflict(f"{current} was put in place since the revert to {order.to} began")

    @staticmethod
    def _fresh(order: RevertOrder, current: str | None) -> Next:
        if current == order.to:
            return Next.ADOPT
        if current == order.expect:
            return Next.SWITCH
        raise Conflict(f"{current or 'nothing'} is in place, not {order.expect}: somebody else deployed")

    def mark_of(self, key: str) -> str | None:
        """The mark that this key was begun with; None where it was not."""
        entry = self._entries().get(key)
        return entry.mark if entry is not None else None

    def begin(self, order: RevertOrder, at: float, mark: str = "") -> None:
        """Remember, on disk, that this order is about to take effect. Again for the same key changes nothing."""
        entries = self._entries()
        if order.key in entries:
            return
        entry = Entry(key=order.key, to=order.to, expect=order.expect, mark=mark, at=at, state="begun")
        if len(entries) >= 2 * self._keep:
            self._rewrite([*entries.values(), entry][-self._keep :])
        else:
            self._append(entry)

    def finish(self, order: RevertOrder, at: float) -> None:
        """Remember, on disk, that nothing is left to do for this order."""
        self._append(msgspec.structs.replace(self._entries()[order.key], at=at, state="done"))

    def unfinished(self, to: str) -> bool:
        """Whether the newest order put `to` in place and was never done."""
        newest = self.newest()
        return newest is not None and newest.to == to and newest.state == "begun"

    def newest(self) -> Entry | None:
        """The order that began last."""
        return next(reversed(self._entries().values()), None)

    def problem(self) -> str | None:
        """Why no order could be remembered, as a sentence; None where it could."""
        try:
            self._entries()
        except (Permanent, Temporary) as error:
            return str(error)
        place = self._folder
        while not place.exists() and place != place.parent:
            place = place.parent
        if not os.access(place, os.W_OK | os.X_OK):
            return f"the daemon's user may not write in {place}"
        return full(place)

    # -- the file: one JSON object a line; only its end can be torn, by a crash while it was written

    def _entries(self) -> dict[str, Entry]:
        """The last word on each key, in the order in which they began."""
        with own_errors():
            try:
                whole = self._path.read_bytes()
            except FileNotFoundError:
                return {}
        entries: dict[str, Entry] = {}
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                entry = self._decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise Permanent(
                    f"{self._path}:{number}: not a line of ours; when no revert is under way, move the file away"
                ) from None
            entries[entry.key] = entry
        return entries

    def _append(self, entry: Entry) -> None:
        with own_errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = not self._path.exists()
            with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
                whole = file.read()
                end = whole.rfind(b"\n") + 1
                file.seek(end)
                file.truncate()
                file.write(msgspec.json.encode(entry) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self._folder)

    def _rewrite(self, entries: list[Entry]) -> None:
        write_whole(self._path, b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))


def full(place: Path) -> str | None:
    """Whether the file system of this place can take no more files, as a sentence."""
    with own_errors():
        room = os.statvfs(place)
    if room.f_bavail == 0:
        return f"the file system of {place} is full"
    if room.f_files and room.f_favail == 0:
        return f"the file system of {place} has no inodes left"
    return None
