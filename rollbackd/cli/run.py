"""`rollbackd run`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from pathlib import Path

from rollbackd import registry
from rollbackd.aiokit import SystemClock
from rollbackd.cli.command import OK, Commands
from rollbackd.config.loading import Loaded, load
from rollbackd.daemon import Daemon
from rollbackd.telemetry import configure_logs

SWITCH_S = 0.0005
"""After so long a thread that computes lets the event loop go on. Python's own 5 ms would be lost at each of the loop's
reads and writes: while a thread reads one large delivery after the other, /healthz would take a second."""


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser("run", description="Watch the configured services and revert bad releases.")
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the configuration")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write every event to this recording")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT. Raises ConfigError, Permanent and Temporary where it cannot start or go on."""
    loaded = load(options.config, registry)
    configure_logs(loaded.config.log.format, loaded.config.log.level)
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what was imported stays: the collector need not walk it again and again
    asyncio.run(_run(options.config, loaded, options.record))
    return OK


async def _run(path: Path, loaded: Loaded, record: Path | None) -> None:
    await Daemon(path, loaded, registry, SystemClock(), record=record).run()
