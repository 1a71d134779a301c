"""`rollbackd pause`: stop acting; watching and deciding go on."""

from __future__ import annotations

import argparse

from rollbackd.cli.client import decode
from rollbackd.cli.command import OK, Commands, Usage
from rollbackd.cli.options import add_client, add_output, client, print_json
from rollbackd.cli.terminal import printable
from rollbackd.web.views import PauseRequest, StatusView


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "pause", description="Stop acting, for one service or for all. Watching and deciding go on; people are told."
    )
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="only this one")
    parser.add_argument("--reason", required=True, help="why; whoever looks at the status sees it")
    add_client(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Pause. Raises Usage, RefusedByDaemon, Unreachable."""
    if not options.reason.strip():
        raise Usage("--reason must say something: whoever looks at the status sees it")
    answer = client(options).post("pause", body=PauseRequest(service=options.service, reason=options.reason))
    decode(answer, StatusView)
    if options.format == "json":
        return print_json(answer)
    again = f" {options.service}" if options.service else ""
    print(printable(f"Paused: {options.service or 'all services'}. `rollbackd resume{again}` acts again."))
    return OK
