"""`python -m tests.support.starved_daemon CONFIG`: the real daemon, whose disk is full from SIGUSR1 to SIGUSR2.

The system itself refuses each write that would make a file larger, as it does on a full disk, the log included.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

from rollbackd import registry
from rollbackd.aiokit import SystemClock
from rollbackd.config.loading import load
from rollbackd.daemon import Daemon
from rollbackd.telemetry import configure_logs


def allow(size: int) -> None:
    """Let files grow to so many bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


async def main(path: Path) -> None:
    """Run the daemon."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, allow, 1)
    loop.add_signal_handler(signal.SIGUSR2, allow, resource.RLIM_INFINITY)
    loaded = load(path, registry)
    configure_logs("json", "info")
    await Daemon(path, loaded, registry, SystemClock()).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
