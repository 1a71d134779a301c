"""`rollbackd resume`: act again after a pause."""

from __future__ import annotations

import argparse

from rollbackd.cli.client import decode
from rollbackd.cli.command import OK, Commands
from rollbackd.cli.options import add_client, add_output, client, print_json
from rollbackd.cli.terminal import printable
from rollbackd.web.views import ResumeRequest, StatusView


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser("resume", description="Act again, on one service or on all.")
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="only this one")
    add_client(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Resume. Raises RefusedByDaemon, Unreachable."""
    answer = client(options).post("resume", body=ResumeRequest(service=options.service))
    status = decode(answer, StatusView)
    if options.format == "json":
        return print_json(answer)
    print(printable(f"Acting again: {options.service or 'all services'}."))
    if options.service and status.paused is not None:
        print(printable(f"All services are still paused ({status.paused.reason}): `rollbackd resume` ends that."))
    return OK
