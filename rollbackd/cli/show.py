"""`rollbackd show ID`: all about one deployment, decision or rollback."""

from __future__ import annotations

import argparse
import contextlib

import msgspec

from rollbackd.cli.client import Client, NotFound, decode
from rollbackd.cli.command import OK, Commands
from rollbackd.cli.options import add_client, add_output, client, print_json
from rollbackd.cli.render import make_console
from rollbackd.cli.render_story import story_text
from rollbackd.cli.story import MOST, Story, about, fetch
from rollbackd.web.views import DecisionView, RollbackView, ServiceView, WatchView


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "show",
        description="What was decided about a deployment and why: the evidence of each rule, what else was considered, "
        "every guard's answer, and the journal of the rollback.",
    )
    parser.add_argument("id", metavar="ID", help="of a deployment, a decision or a rollback, or the end of one")
    add_client(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the story. Raises RefusedByDaemon, Unreachable."""
    daemon = client(options)
    story = about(_with_older(daemon, fetch(daemon, None, MOST), options.id), options.id)
    if options.format == "json":
        return print_json(msgspec.json.encode(story))
    story_text(make_console(options.color), story, _open_watch(daemon, story))
    return OK


def _with_older(daemon: Client, story: Story, wanted: str) -> Story:
    """The story and, where no list reaches back to it, the decision or rollback of exactly that id."""
    ids = [deployment.id for deployment in story.deployments]
    ids += [decision.id for decision in story.decisions]
    ids += [rollback.id for rollback in story.rollbacks]
    if any(name.endswith(wanted) for name in ids):
        return story
    with contextlib.suppress(NotFound):
        older = decode(daemon.get("decisions", wanted), DecisionView)
        return msgspec.structs.replace(story, decisions=(*story.decisions, older))
    with contextlib.suppress(NotFound):
        undone = decode(daemon.get("rollbacks", wanted), RollbackView)
        return msgspec.structs.replace(story, rollbacks=(*story.rollbacks, undone))
    return story


def _open_watch(daemon: Client, story: Story) -> WatchView | None:
    """The watch of the story's deployment, while it is open."""
    for deployment in story.deployments:
        if deployment.state != "opened":
            continue
        try:
            service = decode(daemon.get("services", deployment.service), ServiceView)
        except NotFound:  # no longer configured
            return None
        if service.watch is not None and service.watch.deployment_id == deployment.id:
            return service.watch
    return None
