"""`rollbackd rollback SERVICE`: put a release back by hand."""

from __future__ import annotations

import argparse
import sys

from rollbackd.cli.client import Client, decode
from rollbackd.cli.command import OK, REFUSED, Commands, Usage
from rollbackd.cli.options import add_client, add_output, client, print_json
from rollbackd.cli.terminal import printable
from rollbackd.cli.words import short
from rollbackd.web.views import RollbackRequest, RollbackView, ServiceView


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "rollback", description="Put the last known good release back, or the one that --to names."
    )
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument("--to", metavar="VERSION", help="the release to put back (default: the last known good one)")
    parser.add_argument("--reason", default="", help="why; it is kept in the journal")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_client(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for the rollback; it then runs in the daemon. Raises Usage, RefusedByDaemon, Unreachable."""
    daemon = client(options)
    if not options.yes and not _confirmed(daemon, options):
        print("rollbackd: nothing was done", file=sys.stderr)
        return REFUSED
    wish = RollbackRequest(to=options.to, reason=options.reason)
    answer = daemon.post("services", options.service, "rollback", body=wish)
    planned = decode(answer, RollbackView)
    if options.format == "json":
        return print_json(answer)
    print(printable(f"{planned.service}: {planned.version} is being rolled back to {planned.to}."))
    print(printable(f"Follow it with `rollbackd show {short(planned.id)}`."))
    return OK


def _confirmed(daemon: Client, options: argparse.Namespace) -> bool:
    """Ask on the terminal. Raises Usage where nobody can answer."""
    if not sys.stdin.isatty():
        raise Usage("nobody can be asked, standard input is no terminal: give --yes to go ahead")
    service = decode(daemon.get("services", options.service), ServiceView)
    to = options.to or service.last_known_good or "the last known good release"
    question = f"Roll {service.name} back from {service.current or 'an unknown release'} to {to}? [y/N] "
    print(printable(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
