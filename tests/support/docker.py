"""A real Docker engine for tests: the machine's where one answers, else one of our own for the whole test session.

Images are made without a registry: from busybox, and from a Debian with systemd that debootstrap makes once. Whoever
uses the session's engine registers with its process id; the last one to leave stops it, whatever worker started it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

PROGRAMS = ("dockerd", "docker", "busybox")
"""What tests of containers need; those with systemd need `debootstrap` too."""

PREFIX = "rollbackd-test"

_ENOUGH_MEMORY = 4 * 1024**3
"""Bytes; the image with systemd takes about 300 MB of them, the other images a few."""

_DEBIAN = "bookworm"
_PACKAGES = ("dbus", "python3", "systemd", "systemd-sysv")
_LEFT_OUT = ("./var/cache/apt", "./var/lib/apt", "./usr/share/doc", "./usr/share/locale", "./usr/share/man")

LOCAL_IMAGES = "DOCKER_SERVICE_PREFER_OFFLINE_IMAGE"
"""What makes an engine take the image it has for a task of Swarm, where it asks a registry first otherwise.

https://github.com/moby/moby/blob/v20.10.24/daemon/cluster/executor/container/controller.go
"""

SYSTEMD_OPTIONS = (
    *("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
)
"""What a container needs for systemd to be its PID 1, short of being privileged."""


class DockerEngine:
    """An engine by its address, asked through its command line."""

    def __init__(self, host: str) -> None:
        self.host = host

    def docker(self, *arguments: str, stdin: bytes | None = None, within: float = 60.0) -> str:
        """What the command prints; fails where it fails."""
        ran = subprocess.run(
            ["docker", "--host", self.host, *arguments], input=stdin, capture_output=True, timeout=within, check=False
        )
        assert ran.returncode == 0, ran.stderr.decode()
        return ran.stdout.decode().strip()

    @property
    def answers(self) -> bool:
        with suppress(AssertionError, OSError, subprocess.TimeoutExpired):
            self.docker("version", within=5)
            return True
        return False

    def run(self, image: str, *command: str, options: tuple[str, ...] = (), name: str | None = None) -> str:
        """Start a container; its name, for `docker`. It is to be removed by who started it."""
        called = name or f"{PREFIX}-{uuid.uuid4().hex[:12]}"
        network = () if any(option.startswith("--network") for option in options) else ("--network", "none")
        self.docker("run", "--detach", "--name", called, *network, *options, image, *command)
        return called

    def script(self, image: str, script: str, *options: str, name: str | None = None) -> str:
        """Start a container that runs a shell script."""
        return self.run(image, "/bin/sh", "-c", script, options=options, name=name)

    def remove(self, *names: str) -> None:
        """Remove containers, whether they run or not; those that are gone already are no fault."""
        if names:
            command = ["docker", "--host", self.host, "rm", "--force", "--volumes", *names]
            subprocess.run(command, capture_output=True, timeout=60, check=False)

    def has(self, image: str) -> bool:
        return bool(self.docker("images", "--quiet", image))

    def image(self, reference: str, *, changes: tuple[str, ...] = ()) -> str:
        """Make an image with busybox, its applets in /bin, and give it that name; its id."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "bin").mkdir()
            (root / "tmp").mkdir()
            shutil.copy(shutil.which("busybox") or "busybox", root / "bin/busybox")
            for applet in ("sh", "sleep", "echo", "cat", "head", "tr", "kill", "true", "touch", "usleep"):
                (root / "bin" / applet).symlink_to("busybox")
            archive = subprocess.run(["tar", "-C", folder, "-c", "."], capture_output=True, check=True).stdout
        options = [part for change in changes for part in ("--change", change)]
        return self.docker("import", *options, "-", reference, stdin=archive)

    def systemd_image(self) -> str:
        """An image of Debian whose PID 1 is systemd, made at most once a session and kept in a folder for temporary
        things by what goes into it: making it takes debootstrap about 45 s."""
        key = hashlib.sha256(repr((_DEBIAN, _PACKAGES, _LEFT_OUT)).encode()).hexdigest()[:12]
        reference = f"{PREFIX}/systemd:{key}"
        with _locked(_folder() / f"systemd-{key}.lock"):
            if not self.has(reference):
                archive = _folder() / f"systemd-{key}.tar"
                if not archive.exists():
                    _make_debian(archive)
                self.docker("import", "--change", 'CMD ["/sbin/init"]', str(archive), reference, within=120)
        return reference


def _make_debian(archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        root, fresh = Path(folder) / "root", Path(folder) / "root.tar"
        packages = f"--include={','.join(_PACKAGES)}"
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", packages, _DEBIAN, str(root)],
            capture_output=True, timeout=360, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout.decode()[-2000:] + made.stderr.decode()[-2000:]
        left_out = [f"--exclude={path}" for path in _LEFT_OUT]
        subprocess.run(["tar", "-C", str(root), *left_out, "-c", "-f", str(fresh), "."], check=True, timeout=120)
        fresh.rename(archive)


class OwnEngine(DockerEngine):
    """An engine of our own, with all it keeps in one folder. It has no bridge: containers use `--network none`."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(f"unix://{folder}/docker.sock")
        self.folder, self._options = folder, options

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        command += ["--pidfile", f"{self.folder}/pid", "--host", self.host, "--bridge", "none", "--iptables=false"]
        # nobody's child: the worker that stops it may be another one
        detached = f'setsid "$@" </dev/null >>{shlex.quote(str(self.folder / "log"))} 2>&1 & echo $!'
        ran = subprocess.run(
            ["sh", "-c", detached, "sh", *command, *self._options],
            env={**os.environ, LOCAL_IMAGES: "1"}, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        self._started.write_text(ran.stdout)
        deadline = time.monotonic() + 40
        while not self.answers:
            if not _lives(int(ran.stdout)) or time.monotonic() > deadline:
                raise AssertionError(f"dockerd does not answer\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, and return once it is gone; what it kept stays."""
        _end(int(self._started.read_text()))

    @property
    def _started(self) -> Path:
        return self.folder / "started"

    def wipe(self) -> None:
        """Remove its containers, end it and delete its folder."""
        if self.answers:
            self.remove(*self.docker("ps", "--all", "--quiet").split())
        self.stop()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([one for one in mounts if one.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", mount], check=True)  # with `live-restore`, it leaves some
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.wipe()


def _end(pid: int) -> None:
    """End a process that this worker or another one started."""
    for number, within in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + within
        while _lives(pid):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@contextmanager
def session_engine() -> Iterator[DockerEngine]:
    """The machine's engine, or the one that this test session's workers share."""
    machines = DockerEngine(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    if machines.answers:
        yield machines
        return
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone-{os.getpid()}")[:16]
    folder = quick_folder() / f"engine-{run}"
    engine = OwnEngine(folder)
    user = f"{os.getpid()} {uuid.uuid4()}"
    with _users(folder) as users:
        if not users:
            engine.start()
        users.append(user)
    try:
        yield engine
    finally:
        with _users(folder) as users:
            users.remove(user)
            if not users:
                engine.wipe()


@contextmanager
def _users(folder: Path) -> Iterator[list[str]]:
    """Who uses the session's engine, to be changed while nobody else does; who has died is left out."""
    kept = folder.with_suffix(".users")
    with _locked(folder.with_name("engines.lock")):
        known = kept.read_text().splitlines() if kept.exists() else []
        users = [one for one in known if _lives(int(one.partition(" ")[0]))]
        yield users
        kept.write_text("\n".join(users))
        if not users:
            kept.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def quick_folder() -> Path:
    """Where an engine of ours keeps its things: in memory where there is enough, as it waits for the disk at each step
    of a container's life."""
    memory = Path("/dev/shm")
    with suppress(OSError):
        if shutil.disk_usage(memory).free >= _ENOUGH_MEMORY and os.access(memory, os.W_OK):
            return memory / f"{PREFIX}-{os.getuid()}"
    return _folder()


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"{PREFIX}-{os.getuid()}"
