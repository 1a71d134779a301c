"""A machine of its own with a real systemd and a real journal, in a container; its journal can be read from outside."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.docker import SYSTEMD_OPTIONS, DockerEngine

UNIT = """\
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh /given/{name}.sh
{settings}
"""


class Machine:
    """Starts it and stops it. `journal` is its /var/log/journal, which lies in `folder`."""

    def __init__(self, engine: DockerEngine, folder: Path, options: tuple[str, ...] = ()) -> None:
        self._engine, self._options, self.journal = engine, options, folder / "journal"
        self.journal.mkdir()
        self._units = folder / "units"
        self._units.mkdir()

    def __enter__(self) -> Self:
        mounts = ("-v", f"{self.journal}:/var/log/journal", "-v", f"{self._units}:/given:ro")
        options = (*SYSTEMD_OPTIONS, *mounts, *self._options)
        self.name = self._engine.run(self._engine.systemd_image(), options=options)
        deadline = time.monotonic() + 30
        while self.sh("systemctl is-system-running 2>/dev/null || true") not in ("running", "degraded"):
            assert time.monotonic() < deadline, "systemd does not come up"
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.remove(self.name)

    def sh(self, script: str) -> str:
        """Run a shell script there; what it prints."""
        return self._engine.docker("exec", self.name, "/bin/sh", "-c", script)

    def write(self, name: str, script: str, settings: str = "") -> None:
        """Write a unit that runs a shell script, and let systemd know it."""
        (self._units / f"{name}.sh").write_text(script)
        (self._units / name).write_text(UNIT.format(name=name, settings=settings))
        self.sh(f"cp /given/{name} /run/systemd/system/{name} && systemctl daemon-reload")

    def say(self, name: str, script: str) -> None:
        """Run a script as that unit, to its end."""
        self.write(name, script, "Type=oneshot")
        self.sh(f"systemctl start {name}")

    def journalctl(self, *arguments: str) -> str:
        """What this host's journalctl prints of its journal."""
        command = ["journalctl", f"--directory={self.journal}", "--no-pager", "--quiet", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
