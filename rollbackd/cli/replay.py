"""`rollbackd replay`: what would have been decided about recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rollbackd import registry
from rollbackd.cli.command import OK, Commands
from rollbackd.cli.options import add_output
from rollbackd.cli.replay_text import Sum, print_story, print_sum
from rollbackd.cli.terminal import printable
from rollbackd.config.loading import load
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import Engine
from rollbackd.model import Decision, Outcome
from rollbackd.recording import read


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "replay",
        description="Feed a recording to the engine and print what it decides: the same bytes every time.",
    )
    parser.add_argument("recordings", nargs="+", type=Path, metavar="RECORDING", help="a JSON Lines recording")
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="judge by this configuration's policies (default: RECORDING.yaml if it exists, else the default policy)",
    )
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay each recording by itself. Raises ConfigError and RecordingError."""
    total = Sum()
    for path in options.recordings:
        outcomes = _outcomes(path, options.config or _beside(path))
        if options.format == "json":
            for outcome in outcomes:
                if isinstance(outcome, Decision):
                    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
        else:
            print_story(path, outcomes, options.color, total)
    if options.format == "text" and len(options.recordings) > 1:
        print_sum(total, options.color)
    return OK


def _beside(recording: Path) -> Path | None:
    """The configuration that lies beside a recording, as `RECORDING.yaml`."""
    config = recording.with_name(recording.name + ".yaml")
    found = config.is_file()
    policy = config.name if found else f"the default policy: there is no {config.name} beside it, and -c names none"
    print(printable(f"rollbackd: {recording.name} is judged by {policy}"), file=sys.stderr)
    return config if found else None


def _outcomes(path: Path, config: Path | None) -> Iterator[Outcome]:
    engine = _engine(config)
    for event in read(path):
        yield from engine.feed(event)


def _engine(config: Path | None) -> Engine:
    if config is not None:
        loaded = load(config, registry, reveal=False).config
        return Engine(loaded.policy_for, loaded.fleet)
    policy = Policy()
    return Engine(lambda _service: policy, FleetPolicy())
