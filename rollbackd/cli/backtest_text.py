"""What `rollbackd backtest` prints for people."""

from __future__ import annotations

from pathlib import Path

from rich.padding import Padding

from rollbackd.backtest.report import BacktestReport, Cause, Judged, Judgement, Summary
from rollbackd.cli.render import make_console, signs, words
from rollbackd.explain.amounts import moment, span

JUDGED: dict[Judged, tuple[str, str]] = {
    "rollback": (" ROLLBACK ", "rollback"),
    "hold": (" HOLD ", "hold"),
    "escalate": (" ESCALATE ", "escalate"),
    "kept": ("kept", "good"),
    "unjudged": ("not judged", "warn"),
}
"""Words and style."""

CAUSES: dict[Cause, str] = {
    "no_series": "without any series",
    "no_data": "without data after it",
    "no_baseline": "without data before it",
    "no_previous": "with nothing known before it",
    "not_new": "of what was in place already",
    "superseded": "replaced before the bake ended",
    "unfinished": "not decided when the data end",
    "rollback": "rollbacks themselves",
}


class Story:
    """Prints judgements as they come, and then the sum."""

    def __init__(self, color: str) -> None:
        self._out = make_console(color)

    def judgement(self, one: Judgement) -> None:
        """Two lines: which deployment, and what would have been done when and why."""
        out, arrow = self._out, signs(self._out).arrow
        came = f" (after {one.previous})" if one.previous is not None else ""
        out.print(words((moment(one.deployed_at), "quiet"), "  ", (one.service, "name"), f"  {one.version}{came}"))
        verdict = words(JUDGED[one.judged])
        if one.judged == "rollback" and one.to is not None:
            verdict.append_text(words(f" {arrow} {one.to}"))
        if one.after_s is not None:
            verdict.append_text(words((f"  after {span(one.after_s)}", "quiet")))
        if one.rule is not None:
            verdict.append_text(words((f", by rule {one.rule}", "quiet")))
        verdict.append_text(words(f": {one.reason}"))
        out.print(Padding(verdict, (0, 0, 0, 3)))

    def end(self, report: BacktestReport, saved: Path | None) -> None:
        """The sum, and what to keep in mind."""
        self._out.print()
        for line in sentences(report.summary):
            self._out.print(words((line, "head")))
        for note in report.notes:
            self._out.print(words((f"Note: {note}", "warn")))
        if saved is not None:
            self._out.print(words((f"Recordings are in {saved}: `rollbackd replay {saved}/*.jsonl`", "quiet")))


def sentences(summary: Summary) -> list[str]:
    """The sum in words."""
    judged = summary.deployments - summary.unjudged
    parts = [f"{summary.rollback} would have been rolled back"]
    if summary.hold:
        parts.append(f"{summary.hold} held")
    if summary.escalate:
        parts.append(f"{summary.escalate} handed to a human")
    parts.append(f"{summary.kept} kept")
    lines = [f"{judged} deployment{'' if judged == 1 else 's'} judged: {', '.join(parts)}."]
    if summary.unjudged:
        why = ", ".join(f"{count} {CAUSES[cause]}" for cause, count in summary.causes.items())
        lines.append(f"{summary.unjudged} could not be judged: {why}.")
    return lines
