"""`rollbackd status`: what is watched, and how it stands."""

from __future__ import annotations

import argparse

from rollbackd.cli.client import decode
from rollbackd.cli.command import OK, Commands
from rollbackd.cli.options import add_client, add_output, client, print_json
from rollbackd.cli.render import make_console
from rollbackd.cli.render_status import status_text
from rollbackd.web.views import StatusView


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser("status", description="What is watched, how it stands, and what the evidence is.")
    add_client(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the status. Raises RefusedByDaemon, Unreachable."""
    daemon = client(options)
    answer = daemon.get("status")
    status = decode(answer, StatusView)
    if options.format == "json":
        return print_json(answer)
    status_text(make_console(options.color), status, daemon.address)
    return OK
