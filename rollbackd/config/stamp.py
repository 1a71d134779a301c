"""Which configuration it was: the hash of the file, and the git commit it comes from, where it has one."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from rollbackd.ledger.base import ConfigStamp

_PATIENCE_S = 2.0


def stamp(path: Path, raw: bytes) -> ConfigStamp:
    """The stamp of a file that held `raw` when it was read. Git is asked, where there is one; it never fails."""
    return ConfigStamp(sha256=hashlib.sha256(raw).hexdigest(), commit=commit_of(path))


def commit_of(path: Path) -> str | None:
    """The commit checked out where the file lies, with `-dirty` where the file is not as in that commit; else None."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        return None
    head = _git(real.parent, "rev-parse", "--verify", "HEAD")
    if not head:
        return None
    changed = _git(real.parent, "status", "--porcelain", "--ignored", "--", f":(literal){real.name}")
    return head if changed == "" else f"{head}-dirty"


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it cannot or will not say."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *_trusted(folder), *arguments],
            env=environment | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def _trusted(folder: Path) -> list[str]:
    """Options that let git read a repository of root's, which it refuses to other users unless told.

    The daemon's user is not to own its configuration. What root keeps is trusted as the configuration itself is; of a
    repository of anybody else's, git is the judge (see `safe.directory` in git-config(1)).
    """
    for place in (folder, *folder.parents):
        try:
            owners = {place.stat().st_uid, (place / ".git").stat().st_uid}
        except OSError:
            continue
        return ["-c", f"safe.directory={place}"] if owners == {0} else []
    return []
