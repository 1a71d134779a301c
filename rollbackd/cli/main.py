"""The command line: finds the command, imports its module and no other, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

from rollbackd import __version__
from rollbackd.cli.command import REFUSED, UNREACHABLE, USAGE, Command, Unreachable, Usage
from rollbackd.cli.terminal import printable
from rollbackd.errors import ConfigError, RollbackdError

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("run", "watch the configured services and revert bad releases", "rollbackd.cli.run"),
    ("check", "validate a configuration file", "rollbackd.cli.check"),
    ("schema", "print the configuration's JSON Schema", "rollbackd.cli.schema"),
    ("status", "what is watched, and how it stands", "rollbackd.cli.status"),
    ("history", "deployments, decisions and rollbacks in order of time", "rollbackd.cli.history"),
    ("show", "all about one deployment, decision or rollback", "rollbackd.cli.show"),
    ("rollback", "put a release back by hand", "rollbackd.cli.rollback"),
    ("pause", "stop acting; watching and deciding go on", "rollbackd.cli.pause"),
    ("resume", "act again", "rollbackd.cli.resume"),
    ("replay", "what would have been decided about a recording", "rollbackd.cli.replay"),
    ("backtest", "what would have been decided about past deployments", "rollbackd.cli.backtest"),
    ("demo", "watch a bad release being caught and reverted, on this machine", "rollbackd.cli.demo"),
)
"""Name, one-line help, and the module that holds the command."""

BROKEN_PIPE, INTERRUPTED = 141, 130  # 128 + the signal's number, as shells report it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `--help`, `--version` and wrong arguments raise SystemExit."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer has no reader: without this, the interpreter complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(arguments: Sequence[str]) -> int:
    options = _parser(arguments).parse_args(arguments)
    run = cast("Callable[[argparse.Namespace], int]", options.run)
    try:
        return run(options)
    except RollbackdError as error:
        print(f"rollbackd: {printable(str(error))}", file=sys.stderr)
        if isinstance(error, Unreachable):
            return UNREACHABLE
        return USAGE if isinstance(error, Usage | ConfigError) else REFUSED


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rollbackd",
        description="Watches deployed services and puts the last known good release back when a new one is bad.",
        epilog="`rollbackd COMMAND --help` tells more about one command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rollbackd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, summary, module in COMMANDS:
        if name == chosen:
            if name == "run":
                _import_without("rich", "structlog")
            cast("Command", importlib.import_module(module)).add(commands)
        else:
            commands.add_parser(name, help=summary)
    return parser


def _import_without(unwanted: str, package: str) -> None:
    """Import a package as if another one, which it makes use of where it is there, were not installed.

    structlog imports rich for tracebacks that the daemon never writes: 3 MB, and a tenth of the time to start.
    """
    if unwanted in sys.modules:
        return
    sys.modules[unwanted] = None  # type: ignore[assignment]  # how Python's import is told that there is none
    try:
        importlib.import_module(package)
    finally:
        del sys.modules[unwanted]
