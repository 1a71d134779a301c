"""What every place is, on which a target is tested, and what somebody else can do to it."""

from __future__ import annotations

import os
import signal
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from tests.support.clock import ManualClock
from tests.support.waiting import eventually

SECRET = "sesame-7f3a9c"
SECRET_VARIABLE = "ROLLBACKD_TEST_TOKEN"


class Place(ABC):
    """Where releases v1, v2 and v3 of one service lie, with v2 in place. `state_dir` is the target's own."""

    POLL = 1.0
    LOCKS: ClassVar[bool] = True
    """Whether two objects of the target refuse to revert at the same time; otherwise the second changes nothing."""
    ATOMIC: ClassVar[bool] = False
    """Whether the switch is the whole revert, with nothing left to do after it; `finished` then tells switches."""
    RUNS_PROGRAMS: ClassVar[bool] = True
    """Whether a revert runs a program of the operator's, which can be held up, fail, and tell what it was told."""
    PROGRAMS: ClassVar[tuple[str, ...]] = ()
    """What has to be installed."""
    ENGINE: ClassVar[str | None] = None
    """The fixture of the Docker engine that it is made on, if any."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_dir = root / "state"
        self.world = root / "world"
        self.world.mkdir()
        for version in ("v1", "v2", "v3"):
            (self.world / "releases" / version).mkdir(parents=True)
            (self.world / "releases" / version / "app").write_text(version)

    async def start(self) -> None:  # noqa: B027  most places are there from the beginning
        """Begin to be there."""

    async def stop(self) -> None:
        """Leave nothing behind."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """The target's configuration, with a secret handed to whatever it runs."""

    @abstractmethod
    def deploy(self, version: str) -> None:
        """What somebody else does to put a release in place."""

    @abstractmethod
    def vanish(self) -> None:
        """For a while, nothing is in place."""

    FAULTS: ClassVar[Mapping[str, Callable[[Any], object]]]
    """Ways in which such a place can break, by name."""

    def go_away(self) -> None:
        """From now on the whole place cannot be reached."""
        self.world.rename(self.root / "elsewhere")

    def come_back(self) -> None:
        (self.root / "elsewhere").rename(self.world)

    async def caught_up(self, clock: ManualClock) -> None:
        """Return once a target that watches on this clock has seen everything there is to see."""
        await eventually(lambda: clock.sleeping)

    # -- the end of a revert: a restart, a script's last step
    def hold(self) -> None:
        """From now on, reverts switch and then wait."""
        (self.root / "hold").touch()

    def let_go(self) -> None:
        (self.root / "hold").unlink()

    def fail(self) -> None:
        """From now on, reverts switch and then fail, printing the secret."""
        (self.root / "fail").touch()

    def heal(self) -> None:
        (self.root / "fail").unlink()

    @property
    def held(self) -> bool:
        """Whether a revert has switched and waits."""
        return bool(self.pids)

    @property
    def finished(self) -> list[str]:
        """One line `KEY VERSION` for each revert that came to its end."""
        return _lines(self.root / "finished")

    @property
    def pids(self) -> list[int]:
        """The process that each revert ran, oldest first; each leads a process group."""
        return [int(line) for line in _lines(self.root / "pids")]

    def snapshot(self) -> list[tuple[str, int, int, str]]:
        """Everything in the place, as it is now: path, inode, time of change, content."""
        return [_fingerprint(path, self.world) for path in sorted(self.world.rglob("*"))] + [
            ("finished", 0, 0, "\n".join(self.finished))
        ]


def damage(state_dir: Path) -> None:
    """Whatever the target remembers becomes garbage."""
    state_dir.mkdir(exist_ok=True)
    for name in {"reverts.jsonl", *(path.name for path in state_dir.iterdir())}:
        (state_dir / name).write_bytes(b"\0garbage\n")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _fingerprint(path: Path, root: Path) -> tuple[str, int, int, str]:
    status = path.lstat()
    is_link = stat.S_ISLNK(status.st_mode)
    content = str(path.readlink()) if is_link else path.read_text() if path.is_file() else ""
    return str(path.relative_to(root)), status.st_ino, status.st_mtime_ns, content
