"""Release folders behind a symlink, as they lie on disk: reading them, and switching the link atomically."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rollbackd.errors import Conflict, Permanent, RollbackdError
from rollbackd.model import Release
from rollbackd.targets.disk import Wanted, sync_folder

_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_LONGEST_REVISION = 200


@dataclass(frozen=True)
class Link:
    """The link as it was seen: the release it names, its text, and what tells this very link from one made later."""

    version: str
    text: str
    mark: str
    since: float


class ReleaseFolders:
    """`path/releases/<version>/` and the link `path/current`. Methods do file I/O and raise OSError or Permanent."""

    def __init__(self, path: Path, releases: str, current: str) -> None:
        self.path = path
        self.releases = path / releases
        self.link = path / current

    def in_place(self) -> Link | None:
        """What the link points to, whether or not that is there; None where there is no link."""
        while True:
            try:
                before = os.lstat(self.link)
                if not stat.S_ISLNK(before.st_mode):
                    raise Permanent(
                        f"{self.link} is no symlink: move it to a folder in {self.releases} and link to that"
                    )
                text = str(self.link.readlink())
                after = os.lstat(self.link)
            except FileNotFoundError:
                if not self.path.is_dir():
                    raise Permanent(f"{self.path} does not exist or is no folder") from None
                return None
            if _mark(before) == _mark(after):
                return Link(version=self._version(text), text=text, mark=_mark(after), since=after.st_ctime)

    def _version(self, text: str) -> str:
        folder = self.link.parent / text
        name = folder.name
        if os.path.realpath(folder.parent) != os.path.realpath(self.releases) or name in ("", ".."):
            raise Permanent(f"{self.link} points to {_shown(text)}, which is no folder in {self.releases}")
        if not _tellable(name):
            raise Permanent(f"{self.link} points to {_shown(text)}, a name that is not UTF-8: rename the release")
        return name

    def current(self) -> Release | None:
        """The release in place. Raises Permanent where the link points to what is not there."""
        link = self.in_place()
        if link is None:
            return None
        try:
            return self._release(link.version)
        except (FileNotFoundError, NotADirectoryError):
            raise Permanent(f"{self.link} points to {link.text}, which is no folder: link to a release") from None

    def all(self) -> list[Release]:
        """Releases that could be put in place, the one changed last first."""
        with os.scandir(self.releases) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and _tellable(entry.name)]
        found = []
        for name in names:
            if self.releases / name != self.link and self.unusable(name) is None:
                with suppress(FileNotFoundError, NotADirectoryError):  # tidied away since
                    found.append(self._release(name))
        return sorted(found, key=lambda release: (release.created_at or 0.0, release.version), reverse=True)

    def unusable(self, version: str) -> str | None:
        """Why the link could not point to this release, as a sentence; None where it could."""
        if "/" in version or "\0" in version or version.startswith(".") or not version or not _tellable(version):
            return f"{_shown(version)} is not the name of a release folder"
        folder = self.releases / version
        try:
            with os.scandir(folder) as entries:
                empty = next(entries, None) is None
        except FileNotFoundError:
            return f"release {version} is not in {self.releases}"
        except NotADirectoryError:
            return f"{folder} is not a folder"
        except OSError as error:
            return f"{folder} cannot be read: {error.strerror}"
        return f"{folder} is empty" if empty else None

    def switch(self, to: str, seen: Link, tag: str, wanted: Wanted) -> None:
        """Point the link to release `to`, written as it was (relative or absolute), in one step that survives a crash.

        `tag` names the order: a draft that a crash left behind is replaced when the same order is tried again. Raises
        Conflict where the link is not the one that was `seen` any more, and Temporary where this is not `wanted` now.
        """
        draft = self.link.with_name(f".{self.link.name}.{tag}")
        with suppress(FileNotFoundError):
            draft.unlink()
        draft.symlink_to(Path(seen.text).parent / to)
        try:
            self._still(seen)
            wanted.check()
            draft.replace(self.link)
        except (OSError, RollbackdError):
            draft.unlink(missing_ok=True)
            raise
        sync_folder(self.link.parent)

    def _still(self, seen: Link) -> None:
        try:
            mark = _mark(os.lstat(self.link))
        except FileNotFoundError:
            mark = ""
        if mark != seen.mark:
            raise Conflict(f"{self.link} was changed just now: somebody else is deploying")

    def _release(self, version: str) -> Release:
        folder = self.releases / version
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError
        return Release(version=version, commit=_commit(folder / "REVISION"), created_at=status.st_mtime)


def _mark(status: os.stat_result) -> str:
    return f"{status.st_ino}:{status.st_mtime_ns}"


def _commit(file: Path) -> str | None:
    """The commit a release was made from, where its folder says so (Capistrano writes REVISION)."""
    try:
        # a pipe or a device of that name must not keep us waiting, and what lies elsewhere is not the release's word
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            text = opened.read(_LONGEST_REVISION).decode("ascii", errors="replace").strip()
    except OSError:
        return None
    return text if _COMMIT.fullmatch(text) else None


def _tellable(name: str) -> bool:
    """Whether a file's name can be part of an event: the system allows bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text.encode(errors="backslashreplace").decode())[:200]
