"""`rollbackd history`: deployments, decisions and rollbacks in order of time."""

from __future__ import annotations

import argparse

import msgspec

from rollbackd.cli.command import OK, Commands
from rollbackd.cli.options import add_client, add_output, at_least_one, client, print_json
from rollbackd.cli.render import make_console
from rollbackd.cli.render_story import history_text
from rollbackd.cli.story import MOST, Story, fetch


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser("history", description="Deployments, decisions and rollbacks, the newest last.")
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="only this one")
    parser.add_argument(
        "--limit", type=at_least_one, default=20, metavar="N", help=f"how many of each, at most {MOST} (default 20)"
    )
    add_client(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the history. Raises RefusedByDaemon, Unreachable."""
    daemon = client(options)
    story = fetch(daemon, options.service, min(options.limit, MOST))
    if options.service is not None and story == Story():
        daemon.get("services", options.service)  # refused, with the names that are known, where it is none of them
    if options.format == "json":
        return print_json(msgspec.json.encode(story))
    history_text(make_console(options.color), story)
    return OK
