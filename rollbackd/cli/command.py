"""What a command module is, and the errors that the command line turns into exit codes."""

from __future__ import annotations

import argparse
from typing import Protocol, TypeAlias

from rollbackd.errors import Permanent, Temporary

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  argparse names it no better
"""What `add` registers its parser with."""

OK, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3
"""Exit codes: done; refused, or it did not work; wrong usage or configuration; the daemon cannot be reached."""


class Command(Protocol):
    """A module of `rollbackd.cli`: one command."""

    def add(self, commands: Commands) -> None:
        """Register the command's parser; it must `set_defaults(run=run)`."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it and return the exit code. Raises RollbackdError; the message is printed as it is."""


class Usage(Permanent):
    """The command line asks for something that makes no sense; exit code 2."""


class RefusedByDaemon(Permanent):
    """The daemon understood and said no; exit code 1."""


class Unreachable(Temporary):
    """No daemon answers at that address; exit code 3."""
