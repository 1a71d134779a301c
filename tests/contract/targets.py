"""What the suite for targets needs: a real place for each registered target, and what somebody else can do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from rollbackd import registry
from rollbackd.aiokit import Clock
from rollbackd.targets.base import Target, TargetContext
from tests.contract.docker_places import ComposePlace, DockerPlace, EnginePlace, SwarmPlace
from tests.contract.kubernetes_place import KubernetesPlace
from tests.contract.place import SECRET, SECRET_VARIABLE, Place, damage
from tests.support.docker import DockerEngine
from tests.support.repository import Repository

FINISH = """
echo $$ >> {root}/pids
while [ -e {root}/hold ]; do sleep 0.02; done
if [ -e {root}/fail ]; then echo "cannot log in with $TOKEN"; exit 1; fi
echo "$ROLLBACKD_KEY $ROLLBACKD_TO" >> {root}/finished
"""
"""The end of every revert here: tells its process id, waits while held, fails when told to, leaves a line when done."""


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
        "the journal is damaged": lambda place: damage(place.state_dir),
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
        "the journal is damaged": lambda place: damage(place.state_dir),
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


PLACES: Mapping[str, type[Place]] = {
    "command": CommandPlace,
    "compose": ComposePlace,
    "docker": DockerPlace,
    "git": GitPlace,
    "kubernetes": KubernetesPlace,
    "release_dir": ReleaseDirPlace,
    "swarm": SwarmPlace,
}
"""The place each registered target is tested on. A target without a line here fails the suite."""


def make_place(name: str, root: Path, engine: Callable[[str], DockerEngine]) -> Place:
    """The place; `engine` starts the Docker engine of that name."""
    kind = PLACES[name]
    if issubclass(kind, EnginePlace):
        assert kind.ENGINE is not None
        return kind(root, engine(kind.ENGINE))
    return kind(root)


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
