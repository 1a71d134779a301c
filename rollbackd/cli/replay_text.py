"""What `rollbackd replay` prints for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rollbackd.cli.render import make_console
from rollbackd.cli.render_decision import decision_text, watch_change_text
from rollbackd.model import Action, Decision, Outcome


@dataclass
class Sum:
    """What several recordings led to."""

    recordings: int = 0
    watched: int = 0
    decided: Counter[Action] = field(default_factory=Counter)

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.decided[action]} {action}" for action in ("rollback", "hold", "escalate"))
        return f"{_count(self.recordings, 'recording')}: {_count(self.watched, 'deployment')} watched, {kinds}."


def print_sum(total: Sum, color: str) -> None:
    """One line over all recordings."""
    out = make_console(color)
    out.rule(align="left")
    out.print(str(total))


def print_story(path: Path, outcomes: Iterable[Outcome], color: str, total: Sum) -> None:
    """Every watch that opened or ended and every decision of one recording, in order; `total` is added to."""
    out = make_console(color)
    out.rule(str(path), align="left")
    decided = watched = 0
    for outcome in outcomes:
        if isinstance(outcome, Decision):
            decided += 1
            total.decided[outcome.action] += 1
            decision_text(out, outcome)
        else:
            watched += outcome.state == "opened"
            watch_change_text(out, outcome)
    total.recordings += 1
    total.watched += watched
    out.print(f"{_count(watched, 'deployment')} watched, {_count(decided, 'decision')}.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
