"""Follows a growing file by its path: through rotation, truncation, deletion and late creation. Blocking."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rollbackd.errors import Temporary

CHUNK_BYTES = 256 * 1024
REMEMBERED_FILES = 16
"""How many files that the path once named are remembered with the place reached in them."""

SEARCHED_FILES = 1000
"""So many files beside the path are looked at for one that was rotated."""

_FINGERPRINT_BYTES = 64


class Unreadable(Temporary):
    """The path names nothing that can be followed now."""


@dataclass(frozen=True)
class Place:
    """How far a file was read: which file, how many bytes, and the digest of the last ones, never the bytes themselves:
    they may hold a secret."""

    device: int
    inode: int
    position: int
    digest: str


@dataclass(frozen=True)
class Piece:
    """Bytes that were appended. `fresh` says that they do not continue what came before."""

    data: bytes
    fresh: bool = False


class Follower:
    """Reads what is appended to the file at `path`; `read` never waits for more.

    A file that is there at the first look is read from its end, one that comes later from its beginning: unless it was
    followed before (a link that was switched back), or was last written before the one it replaces; what it then
    holds is old. A replaced file is read to its end first, and kept for as long as the new one is empty. After `close`
    the next `read` goes on where the last one ended.

    With a `place` that an earlier follower reached, the first look goes on there, if that file still holds what was
    read of it: at the path, or beside it under the name that it was rotated to.
    """

    def __init__(self, path: Path, place: Place | None = None) -> None:
        self._path = path
        self._kept = place
        self._file: int | None = None
        self._id = (0, 0)
        self._position = 0
        self._before = b""
        self._last = b"", b""
        self._left: OrderedDict[tuple[int, int], tuple[int, bytes]] = OrderedDict()
        self._was_missing = False

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        if self._file is not None:
            self._leave(self._file)
            self._file = None

    def place(self, back: int = 0) -> Place | None:
        """How far the file that is open was read, less the last `back` bytes; None where that lies too far back."""
        seen = b"".join(self._last)
        seen = seen[: len(seen) - back]
        if (
            self._file is None
            or back > self._position
            or (len(seen) < _FINGERPRINT_BYTES and back + len(seen) < self._position)
        ):
            return None
        return Place(*self._id, self._position - back, _digest(seen[-_FINGERPRINT_BYTES:]))

    def read(self) -> Piece:
        """The next bytes, at most CHUNK_BYTES; empty where there are none. Raises Unreadable."""
        try:
            return self._read()
        except OSError as error:
            self._was_missing = self._was_missing or isinstance(error, FileNotFoundError)
            raise Unreadable(f"cannot read {self._path}: {error.strerror or 'input/output error'}") from None

    def _read(self) -> Piece:
        if self._file is None:
            return Piece(self._open(), fresh=True)
        fresh = self._rewritten(self._file)
        data = self._next(self._file)
        if not data and self._replaced():
            data = self._next(self._file)  # written between the look at the old file and the look at the new one
            if not data:
                return Piece(self._open(), fresh=True)
        return Piece(data, fresh)

    def _next(self, file: int) -> bytes:
        data = os.pread(file, CHUNK_BYTES, self._position)
        if data:
            self._position += len(data)
            self._last = self._before, data
            self._before = (self._before + data[-_FINGERPRINT_BYTES:])[-_FINGERPRINT_BYTES:]
        return data

    def _rewritten(self, file: int) -> bool:
        """Whether the file was cut short, or cut and written anew: then it is read from its beginning."""
        if _fits(file, self._position, self._before):
            return False
        self._position, self._before, self._last = 0, b"", (b"", b"")
        return True

    def _replaced(self) -> bool:
        """Whether the path now names another file that has begun."""
        now = self._path.stat()
        return (now.st_dev, now.st_ino) != self._id and (now.st_size > 0 or not stat.S_ISREG(now.st_mode))

    def _open(self) -> bytes:
        kept, self._kept = self._kept, None
        path = self._path if kept is None else self._path_of(kept) or self._path
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable(f"cannot follow {self._path}: it is not a regular file")
            if kept is not None and (found.st_dev, found.st_ino) == (kept.device, kept.inode):
                self._remember(file, kept)
            self._begin(file, found)
        except BaseException:
            os.close(file)
            raise
        return self._next(file)

    def _path_of(self, kept: Place) -> Path | None:
        """Where the file is now of which the place was kept; None where it is not to be found."""
        with suppress(OSError):
            if (now := self._path.stat()).st_ino == kept.inode and now.st_dev == kept.device:
                return self._path
        with suppress(OSError), os.scandir(self._path.parent) as entries:
            for entry in islice(entries, SEARCHED_FILES):
                if entry.inode() == kept.inode and entry.is_file(follow_symlinks=False):
                    return Path(entry.path)
        return None

    def _remember(self, file: int, kept: Place) -> None:
        """Take it for a file that was left there, if it holds what was read of it."""
        start = max(kept.position - _FINGERPRINT_BYTES, 0)
        before = os.pread(file, kept.position - start, start)
        if _digest(before) == kept.digest and len(before) == kept.position - start:
            self._left[(kept.device, kept.inode)] = kept.position, before
        else:
            self._left[(kept.device, kept.inode)] = 0, b""  # it was cut since, so all that it holds is new

    def _begin(self, file: int, found: os.stat_result) -> None:
        position, before = self._left.get((found.st_dev, found.st_ino), (-1, b""))
        if position < 0 or not _fits(file, position, before):
            position = found.st_size if self._is_old(found) else 0
            start = max(position - _FINGERPRINT_BYTES, 0)
            before = os.pread(file, position - start, start)
        if self._file is not None:
            self._leave(self._file)
        self._file, self._id, self._position = file, (found.st_dev, found.st_ino), position
        self._before, self._last = before, (before, b"")

    def _leave(self, file: int) -> None:
        self._left[self._id] = (self._position, self._before)
        while len(self._left) > REMEMBERED_FILES:
            self._left.popitem(last=False)
        os.close(file)

    def _is_old(self, found: os.stat_result) -> bool:
        if self._file is None:
            return not self._was_missing and not self._left
        return found.st_mtime_ns < os.fstat(self._file).st_mtime_ns


def _fits(file: int, position: int, before: bytes) -> bool:
    """Whether the file still holds what was read of it last."""
    return os.pread(file, len(before), position - len(before)) == before


def _digest(before: bytes) -> str:
    return hashlib.blake2b(before, digest_size=16).hexdigest()
