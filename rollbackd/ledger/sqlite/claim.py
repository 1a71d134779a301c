"""One daemon a ledger: a lock beside the file, which the system takes away when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from rollbackd.errors import Permanent


class Claim:
    """Holds the ledger at `path` until released. Raises Permanent where another process holds it.

    flock(2) belongs to the open file, so kill -9 releases it. The file stays behind: removing it would let two
    processes hold locks on two different files of that name.
    """

    def __init__(self, path: Path) -> None:
        beside = path.with_name(path.name + ".lock")
        self._fd = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise Permanent(
                f"another rollbackd (pid {holder}) uses the ledger {path}: stop it, or give this one another `data_dir`"
            ) from None
        except BaseException:
            os.close(self._fd)
            raise
        # the number only serves the message above, so a full disk must not stand in the way here
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another daemon have the ledger."""
        os.close(self._fd)
