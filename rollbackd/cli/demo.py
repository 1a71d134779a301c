"""`rollbackd demo`: a bad release is caught and put back, with real processes on this machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rollbackd.cli.command import OK, REFUSED, Commands, Usage
from rollbackd.cli.options import add_color, print_json
from rollbackd.cli.render import make_console
from rollbackd.cli.render_demo import Screen
from rollbackd.demo.play import play
from rollbackd.demo.report import Audience, Moment, Report
from rollbackd.demo.stage import FAULTS, PLACES, beside, write_beside
from rollbackd.demo.traffic import Tally
from rollbackd.web.views import ServiceView

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "demo",
        description="Starts a small service from release folders, sends it requests, lets a good release bake, deploys "
        "a new one with a fault, and lets rollbackd do its work. Needs neither root nor network, takes less than a "
        "minute, and leaves nothing behind. Exit code 0 only if the right thing happened.",
    )
    parser.add_argument("--fault", choices=FAULTS, default="errors", help="what is wrong with the new release")
    parser.add_argument(
        "--target",
        choices=PLACES,
        default="release_dir",
        help="where the service runs: from release folders, in a Docker container, or as a Swarm service; the engine "
        "is the one DOCKER_HOST names or the usual one, and has to be on this machine",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, and nothing else")
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="keep what the daemon saw, for `rollbackd replay`; FILE.yaml then holds how it was judged",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="use this folder, and leave logs and ledger in it")
    add_color(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Perform the demo. Raises Usage."""
    if options.record is not None:
        _prepare(options.record)
    with _folder(options.keep) as folder:
        return asyncio.run(_perform(options, folder))


def _prepare(record: Path) -> None:
    for file in (record, beside(record)):
        if file.exists():
            raise Usage(f"{file} exists already: give --record a new name")
    try:
        write_beside(record)
    except OSError as error:
        raise Usage(f"--record cannot write to {record.parent}: {error.strerror}") from None


async def _perform(options: argparse.Namespace, folder: Path) -> int:
    playing = asyncio.create_task(_json(options, folder) if options.json else _text(options, folder))
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if not caught:  # a second one must not cut short the ending of processes
            caught.append(number)
            playing.cancel()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        report = await playing
    except asyncio.CancelledError:
        if not caught:
            raise
        print("rollbackd: the demo was stopped, and has cleaned up after itself", file=sys.stderr)
        return 128 + caught[0]
    return OK if report.ok else REFUSED


async def _text(options: argparse.Namespace, folder: Path) -> Report:
    screen = Screen(make_console(options.color), options.fault)
    with screen:
        report = await play(
            options.fault, folder, options.record, screen, passing=options.keep is None, on=options.target
        )
    screen.finish(report)
    return report


async def _json(options: argparse.Namespace, folder: Path) -> Report:
    report = await play(
        options.fault, folder, options.record, _Nobody(), passing=options.keep is None, on=options.target
    )
    print_json(msgspec.json.encode(report))
    return report


class _Nobody(Audience):
    """Watches in silence."""

    def moment(self, moment: Moment) -> None:
        """Nothing is shown."""

    def progress(self, phase: str, service: ServiceView | None, tally: Tally) -> None:
        """Nothing is shown."""


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """An empty folder; it is removed at the end unless it is the operator's. Raises Usage."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="rollbackd-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise Usage(f"{keep} is not empty: --keep wants an empty folder or a new one")
    except OSError as error:
        raise Usage(f"{keep} cannot be used: {error.strerror}") from None
    yield keep
