"""What `rollbackd replay` prints for people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rollbackd.cli.render import make_console
from rollbackd.cli.render_decision import decision_text, watch_change_text
from rollbackd.model import Decision, Outcome


def print_story(path: Path, outcomes: Iterable[Outcome], color: str) -> None:
    """Every watch that opened or ended and every decision of one recording, in order."""
    out = make_console(color)
    out.rule(str(path), align="left")
    decided = watched = 0
    for outcome in outcomes:
        if isinstance(outcome, Decision):
            decided += 1
            decision_text(out, outcome)
        else:
            watched += outcome.state == "opened"
            watch_change_text(out, outcome)
    out.print(f"{watched} deployments watched, {decided} decisions.")
