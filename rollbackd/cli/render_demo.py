"""The demo on a terminal: moments as they come, below them how things stand; without a terminal, the moments alone."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from rollbackd.cli.render import bar, grid, section, signs, verdict_sign, words
from rollbackd.cli.render_decision import decision_page
from rollbackd.demo.report import Event, Moment, Report
from rollbackd.demo.stage import BAKE_S, Fault
from rollbackd.demo.traffic import Tally
from rollbackd.explain.amounts import span, time_of_day
from rollbackd.web.views import ServiceView

HONESTLY = (
    "Real processes on this machine: a small shop, its users, and rollbackd. Times are shortened for the show "
    f"(the bake is {BAKE_S:g} s, not an hour); what counts as bad is judged as always."
)

STYLES: dict[Event, str] = {
    "started": "head",
    "good": "good",
    "deployed": "name",
    "first_bad_request": "bad",
    "detected": "bad",
    "held": "warn",
    "reverted": "warn",
    "verified": "good",
    "accepted": "good",
    "failed": "bad",
}


LABELS: dict[Event, str] = {
    "started": "started",
    "good": "good",
    "deployed": "deployed",
    "first_bad_request": "first bad request",
    "detected": "detected",
    "held": "held back",
    "reverted": "reverted",
    "verified": "verified",
    "accepted": "accepted",
    "failed": "failed",
}


class Screen:
    """Shows a demo; used as a context, which ends the moving part of the screen."""

    def __init__(self, console: Console, fault: Fault) -> None:
        self._console, self._fault = console, fault
        self._before: float | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        what = "a good release is accepted" if self._fault == "none" else "a bad release is caught and put back"
        self._console.print(words(("rollbackd demo", "head"), f": {what}"))
        self._console.print(words((HONESTLY, "quiet")))
        self._console.print()
        self._console.print(words(("UTC         since v2      step", "quiet")))
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def moment(self, moment: Moment) -> None:
        """One line, above what moves."""
        since = f"{moment.s:+.1f} s" if moment.s is not None else ""
        between = f"+{span(moment.t - self._before)}" if self._before is not None else ""
        self._before = moment.t
        table = grid(2)
        when = words((f"{time_of_day(moment.t)}  {since:>8}  {between:>8}", "quiet"))
        table.add_row(when, words((LABELS[moment.event], STYLES[moment.event]), f"  {moment.text}"))
        self._console.print(table)

    def progress(self, phase: str, service: ServiceView | None, tally: Tally) -> None:
        """What moves."""
        if self._live is not None:
            self._live.update(_standing(self._console, phase, service, tally), refresh=True)

    def finish(self, report: Report) -> None:
        """The end: the decision, the sum, and where to look next."""
        if report.decision is not None:
            self._console.print()
            self._console.print(decision_page(self._console, report.decision))
        self._console.print(section("In sum", _sum(self._console, report), *_numbers(report)))
        if report.ok:
            self._console.print(section("Next", _next(self._fault)))


def _standing(console: Console, phase: str, service: ServiceView | None, tally: Tally) -> RenderableType:
    counts = f"{tally.total:,} requests, {tally.harmed:,} harmed"
    lines: list[RenderableType] = [Text(""), words((phase, "head"), (f"   {counts}", "quiet"))]
    if service is not None and service.watch is not None:
        table = grid(3)
        for one in service.watch.evidence:
            share = one.strength / one.threshold if one.threshold > 0 else 0.0
            style = "bad" if one.verdict == "degraded" else "good" if share < 0.5 else "warn"
            table.add_row(verdict_sign(console, one.verdict), words(one.rule), bar(console, share, 16, style))
        lines.append(Padding(table, (0, 0, 0, 2)))
    return Group(*lines)


def _sum(console: Console, report: Report) -> Text:
    known = signs(console)
    if not report.ok:
        return words((f"{known.bad} {report.problem}", "bad"))
    if report.fault == "none":
        after = span(report.accepted_s or 0.0)
        return words((f"{known.good} The new release was accepted after {after}; nothing was rolled back.", "good"))
    said = (
        f"{known.good} Detected {span(report.detected_s or 0.0)} after the deployment, reverted after "
        f"{span(report.reverted_s or 0.0)}, proven healthy after {span(report.verified_s or 0.0)}."
    )
    return words((said, "good"))


def _numbers(report: Report) -> list[Text]:
    if report.total_requests == 0:
        return []
    return [
        words(
            f"{report.harmed_requests:,} of {report.total_requests:,} requests were harmed: "
            f"{report.failed_requests:,} failed, {report.slow_requests:,} took more than twice as long as usual."
        )
    ]


def _next(fault: Fault) -> RenderableType:
    other = "latency" if fault == "errors" else "errors"
    table = grid(2)
    table.add_row(words((f"rollbackd demo --fault {other}", "name")), words("another fault; also crash, logs and none"))
    table.add_row(words(("rollbackd demo --record demo.jsonl", "name")), words("keep what the daemon saw, then"))
    table.add_row(words(("rollbackd replay demo.jsonl", "name")), words("decide about it once more"))
    table.add_row(words(("docs/getting-started.md", "name")), words("your own service, in shadow mode first"))
    return table
