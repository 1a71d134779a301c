"""What the suite for targets needs: a real place for each registered target, and what somebody else can do to it."""

from __future__ import annotations

import os
import signal
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from rollbackd import registry
from rollbackd.aiokit import Clock
from rollbackd.targets.base import Target, TargetContext
from tests.support.clock import ManualClock
from tests.support.repository import Repository
from tests.support.waiting import eventually

SECRET = "sesame-7f3a9c"
SECRET_VARIABLE = "ROLLBACKD_TEST_TOKEN"

FINISH = """
echo $$ >> {root}/pids
while [ -e {root}/hold ]; do sleep 0.02; done
if [ -e {root}/fail ]; then echo "cannot log in with $TOKEN"; exit 1; fi
echo "$ROLLBACKD_KEY $ROLLBACKD_TO" >> {root}/finished
"""
"""The end of every revert here: tells its process id, waits while held, fails when told to, leaves a line when done."""


class Place(ABC):
    """Where releases v1, v2 and v3 of one service lie, with v2 in place. `state_dir` is the target's own."""

    POLL = 1.0
    LOCKS = True
    """Whether two objects of the target refuse to revert at the same time; otherwise the second changes nothing."""

    ATOMIC: ClassVar[bool] = False
    """Whether the switch is the whole revert, with nothing left to do after it; `finished` then tells switches."""

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


class ReleaseDirPlace(Place):
    """Release folders behind a symlink, and a restart script."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.script = root / "restart"
        _program(self.script, FINISH.format(root=root))
        self.deploy("v2")

    @property
    def settings(self) -> Mapping[str, object]:
        return {
            "path": str(self.world),
            "restart": [str(self.script)],
            "poll": "1s",
            "env": {"TOKEN": {"env": SECRET_VARIABLE}},
        }

    def deploy(self, version: str) -> None:
        draft = self.world / "draft"
        draft.symlink_to(f"releases/{version}")
        draft.replace(self.world / "current")

    def vanish(self) -> None:
        (self.world / "current").unlink()

    def _point_at(self, text: str) -> None:
        self.vanish()
        (self.world / "current").symlink_to(text)

    def _real_folder(self) -> None:
        self.vanish()
        (self.world / "current").mkdir()

    FAULTS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "the folder is gone": lambda place: place.world.rename(place.root / "elsewhere"),
        "the link points to a file": lambda place: place._point_at("releases/v1/app"),
        "the link points outside": lambda place: place._point_at("/tmp"),
        "the link points to itself": lambda place: place._point_at("current"),
        "the link is a folder": lambda place: place._real_folder(),
        "the link is gone": lambda place: place.vanish(),
        "the releases are gone": lambda place: (place.world / "releases").rename(place.root / "elsewhere"),
        "the restart program is gone": lambda place: place.script.unlink(),
        "the restart program may not be run": lambda place: place.script.chmod(0o600),
        "the journal is damaged": lambda place: _damage(place.state_dir),
    }


class CommandPlace(Place):
    """Scripts around a file that names the release in place."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.scripts = {name: root / name for name in ("current", "history", "revert")}
        _program(self.scripts["current"], f"cat {self.world}/in-place 2>/dev/null; exit 0")
        _program(self.scripts["history"], f"ls -r {self.world}/releases")
        switch = f'printf "%s\\n" "$ROLLBACKD_TO" > {self.world}/draft && mv {self.world}/draft {self.world}/in-place'
        _program(self.scripts["revert"], f"{switch}\n{FINISH.format(root=root)}")
        self.deploy("v2")

    @property
    def settings(self) -> Mapping[str, object]:
        commands = {name: [str(script)] for name, script in self.scripts.items()}
        return {**commands, "timeout": "5s", "poll": "1s", "env": {"TOKEN": {"env": SECRET_VARIABLE}}}

    def deploy(self, version: str) -> None:
        draft = self.world / "draft"
        draft.write_text(f"{version}\n")
        draft.replace(self.world / "in-place")

    def vanish(self) -> None:
        (self.world / "in-place").unlink()

    def _all_scripts(self, body: str) -> None:
        for script in self.scripts.values():
            _program(script, body)

    FAULTS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "the scripts are gone": lambda place: [script.unlink() for script in place.scripts.values()],
        "the scripts may not be run": lambda place: [script.chmod(0o600) for script in place.scripts.values()],
        "the scripts are no programs": lambda place: [
            script.write_bytes(b"\x7fELF?") for script in place.scripts.values()
        ],
        "the scripts fail": lambda place: place._all_scripts('echo "no: $TOKEN" >&2; exit 1'),
        "the scripts want to be tried later": lambda place: place._all_scripts("exit 75"),
        "the scripts call what is not there": lambda place: place._all_scripts("no-such-program-here"),
        "the scripts are killed": lambda place: place._all_scripts("kill -9 $$"),
        "the scripts print garbage": lambda place: place._all_scripts(r"printf '\377\376\001\n{\n\n{}\n'"),
        "the scripts print without end": lambda place: place._all_scripts("yes | head -c 3000000"),
        "nothing is in place": lambda place: place.vanish(),
        "the journal is damaged": lambda place: _damage(place.state_dir),
    }


class GitPlace(Place):
    """A bare repository in which a manifest names the release; its hooks take the place of what runs at a revert."""

    ATOMIC = True
    _MANIFEST = "apps/checkout/values.yaml"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.repository = Repository(self.world / "deploy.git")
        for version in ("v1", "v3", "v2"):
            self.deploy(version)
        switched = f"""
read old new ref
key=$(git log -1 --format="%(trailers:key=Rollbackd-Key,valueonly,separator=)" $new)
to=$(git log -1 --format="%(trailers:key=Rollbackd-To,valueonly,separator=)" $new)
echo "$key $to" >> {root}/finished
cut -d" " -f5 /proc/$$/stat >> {root}/pids
while [ -e {root}/hold ]; do sleep 0.02; done"""
        self.repository.hook("post-receive", switched)

    @property
    def settings(self) -> Mapping[str, object]:
        return {
            "url": self.repository.url,
            "path": "apps/checkout",
            "image": {"file": self._MANIFEST, "key": "image.tag"},
            "token": {"env": SECRET_VARIABLE},
            "poll": "1s",
            "timeout": "20s",
        }

    def deploy(self, version: str) -> None:
        # each deployment differs in something, as those that people make do
        self.repository.commit({self._MANIFEST: f"image: {{tag: {version}}}\n# at {self.repository.clock}\n"})

    def vanish(self) -> None:
        self.repository.commit({self._MANIFEST: None})

    def fail(self) -> None:
        """From now on the connection is cut in the middle of a push, after the server has repeated the secret."""
        self.repository.hook("pre-receive", f'echo "cannot log in with {SECRET}" >&2; sleep 0.1; kill -9 $PPID')

    def heal(self) -> None:
        (self.repository.folder / "hooks" / "pre-receive").unlink()

    def snapshot(self) -> list[tuple[str, int, int, str]]:
        refs = self.repository.git("for-each-ref", "--format=%(refname) %(objectname)")
        return [("refs", 0, 0, refs), ("finished", 0, 0, "\n".join(self.finished))]

    FAULTS: ClassVar[Mapping[str, Callable[[Any], object]]] = {
        "the repository is gone": lambda place: place.world.rename(place.root / "elsewhere"),
        "the repository is damaged": lambda place: (place.repository.folder / "HEAD").write_bytes(b"\0garbage\n"),
        "the branch is gone": lambda place: place.repository.git("update-ref", "-d", "refs/heads/main"),
        "the manifest is gone": lambda place: place.vanish(),
        "the manifest is no YAML": lambda place: place.repository.commit({place._MANIFEST: "image: {{ tag }}: ["}),
        "the manifest has no version": lambda place: place.repository.commit({place._MANIFEST: "image: {}"}),
        "the state folder cannot be written": lambda place: place.state_dir.write_text("a file"),
    }


def build(name: str, settings: Mapping[str, object], state_dir: Path, clock: Clock) -> Target:
    """The target; a second one on the same state folder is the same target after a restart."""
    adapter = registry.load("target", name)
    target: Target = adapter.build(
        adapter.config.model_validate(settings), TargetContext(service="checkout", clock=clock, state_dir=state_dir)
    )
    return target


def _program(path: Path, body: str) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(f"#!/bin/sh\n{body}\n")
    draft.chmod(0o755)
    draft.replace(path)


def _damage(state_dir: Path) -> None:
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
