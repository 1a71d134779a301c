"""`rollbackd resume`: act again after a pause."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

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
    for line in _outcome(status, options.service):
        print(printable(line))
    return OK


def _outcome(status: StatusView, service: str | None) -> Iterator[str]:
    """What acts again and what does not, as the daemon says and not as was wished."""
    if service is not None:
        if status.paused is None:
            yield f"Acting again: {service}."
        else:
            yield f"{service} has no pause of its own any more."
            yield f"All services are still paused ({status.paused.reason}): `rollbackd resume` ends that."
        return
    paused = [(one.name, one.paused) for one in status.services if one.paused is not None]
    yield f"Acting again: all {'other ' if paused else ''}services."
    for name, pause in paused:
        yield f"{name} is still paused ({pause.reason}): `rollbackd resume {name}` ends that."
