"""`rollbackd rollback SERVICE`: put a release back by hand."""

from __future__ import annotations

import argparse
import sys

from rollbackd.cli.client import Client, decode
from rollbackd.cli.command import OK, REFUSED, Commands, Usage
from rollbackd.cli.options import add_client, add_output, client, print_json
from rollbackd.cli.story import MOST
from rollbackd.cli.terminal import printable
from rollbackd.cli.words import short
from rollbackd.web.views import DeploymentView, RollbackRequest, RollbackView, ServiceView


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
    if options.to and (doubt := _doubt(daemon, service.name, options.to)):
        print(printable(doubt), file=sys.stderr)
    question = f"Roll {service.name} back from {service.current or 'an unknown release'} to {to}? [y/N] "
    print(printable(question), end="", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        print("\nrollbackd: nothing was done", file=sys.stderr)
        raise
    if not answer.endswith("\n"):  # Ctrl-D leaves the cursor behind the question
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")


def _doubt(daemon: Client, service: str, to: str) -> str | None:
    """What speaks against this release, as far as it is known."""
    answer = daemon.get("deployments", service=service, limit=MOST)
    for one in decode(answer, tuple[DeploymentView, ...]):
        if one.version == to:
            return f"{to} is known to be bad: {one.reason}" if one.standing == "bad" else None
    return f"{to} has not been seen in place since rollbackd watches"
