"""A decision as a page: what was decided and why, what happened, what else was considered, and every guard's answer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rollbackd.cli.chart import chart
from rollbackd.cli.render import (
    ACTION_STYLES,
    ASCII,
    GUARD_STYLES,
    VERDICT_STYLES,
    WATCH_STYLES,
    bar,
    bullets,
    grid,
    section,
    signs,
    verdict_sign,
    words,
)
from rollbackd.cli.words import ACTIONS, VERDICTS, WATCH_STATES, numbers
from rollbackd.explain.amounts import moment, span, time_of_day
from rollbackd.explain.facts import beside, facts, guilty
from rollbackd.model import Decision, Evidence, WatchChange

INDENT = 2
"""Columns that a section's content is set in by."""
WIDE = 100
"""From so many columns on, evidence has its words beside its bar, else below."""


def decision_text(console: Console, decision: Decision) -> None:
    """Print the page of a decision."""
    console.print(decision_page(console, decision))


def watch_change_text(console: Console, change: WatchChange) -> None:
    """Print what became of a watch, in one or two lines."""
    came = f" (after {change.previous})" if change.previous is not None and change.state == "opened" else ""
    what = "rollback to" if change.is_rollback else "release"
    line = words(
        (moment(change.t), "quiet"),
        "  ",
        (change.service, "name"),
        f"  {what} {change.version}{came}: ",
        (WATCH_STATES[change.state], WATCH_STYLES[change.state]),
    )
    if change.reason:
        line.append_text(words(f". {change.reason}"))
    console.print(line)


def decision_page(console: Console, decision: Decision) -> Group:
    """The page of a decision, to be printed among others."""
    parts: list[RenderableType] = [headline(console, decision), words((decision.reason, "head")), _course(decision)]
    rests_on = guilty(decision)
    if rests_on is not None:
        parts.append(_what_happened(console, decision, rests_on))
    if others := [one for one in decision.evidence if one is not rests_on]:
        title = "Evidence" if rests_on is None else "Evidence of the other rules"
        parts.append(section(title, evidence_table(console, others)))
    if decision.considered:
        parts.append(section("Also considered", bullets(console, decision.considered)))
    if decision.guards:
        parts.append(section("Guards", _guards(console, decision)))
    return Group(*parts)


def headline(console: Console, decision: Decision) -> Text:
    """What is to be done, in one line."""
    badge = (f" {ACTIONS[decision.action]} ", ACTION_STYLES[decision.action])
    line = words(badge, "  ", (decision.service, "name"), f"  {decision.version}")
    if decision.to is not None:
        line.append_text(words(f" {signs(console).arrow} {decision.to}"))
    return line.append_text(words((f"  {moment(decision.t)}", "quiet")))


def _course(decision: Decision) -> Text:
    """When what happened, told from the deployment on."""
    line = f"Deployed {time_of_day(decision.deployed_at)}"
    rests_on = guilty(decision)
    if rests_on is not None and rests_on.onset is not None:
        side = beside(rests_on.onset, decision.deployed_at)
        apart = span(abs(rests_on.onset - decision.deployed_at))
        when = {"with": "with it", "after": f"{apart} later", "before": f"{apart} before"}[side]
        line += f", trouble began {time_of_day(rests_on.onset)} ({when})"
    line += f", decided {time_of_day(decision.t)} ({span(decision.t - decision.deployed_at)} after the deployment)"
    return words((f"{line}, by rule {decision.rule}.", "quiet"))


def _what_happened(console: Console, decision: Decision, evidence: Evidence) -> Group:
    """The course of the signal, and the facts of the rule that the decision rests on."""
    parts: list[RenderableType] = []
    ascii_only = signs(console) is ASCII
    drawn = chart(evidence, decision.deployed_at, decision.t, console.width - INDENT, ascii_only=ascii_only)
    if drawn:
        drawn.no_wrap = True
        parts += [drawn, Text("")]
    table = grid(2)
    for name, said in facts(evidence, decision.deployed_at):
        table.add_row(words((name, "quiet")), words(said))
    return section("What happened", *parts, table)


def evidence_table(console: Console, evidence: Sequence[Evidence]) -> Table:
    """One entry a rule: verdict, how strong against how strong it must be, in words and in numbers."""
    wide = console.width >= WIDE
    table = grid(4 if wide else 2)
    for one in evidence:
        sign, rule = verdict_sign(console, one.verdict), words((one.rule, VERDICT_STYLES[one.verdict]))
        strength = _strength(console, one)
        said = words(one.summary or VERDICTS[one.verdict])
        if figures := numbers(one):
            said.append_text(words(("\n" + figures, "quiet")))
        if wide:
            table.add_row(sign, rule, strength, said)
        else:
            table.add_row(sign, Text.assemble(rule, "  ", strength, "\n", said))
    return table


def _strength(console: Console, evidence: Evidence) -> Text:
    if evidence.threshold <= 0:
        return Text("")
    share = evidence.strength / evidence.threshold
    drawn = bar(console, share, 8, VERDICT_STYLES[evidence.verdict])
    return drawn.append(f" {max(evidence.strength, 0.0):.1f} of {evidence.threshold:.1f}", "quiet")


def _guards(console: Console, decision: Decision) -> Table:
    known = signs(console)
    table = grid(3)
    for answer in decision.guards:
        style = GUARD_STYLES[answer.verdict]
        sign = known.good if answer.verdict == "pass" else known.bad
        name = answer.guard if answer.verdict == "pass" else f"{answer.guard}: {answer.verdict}"
        table.add_row(Text(sign, style), words((name, style)), words(answer.reason))
    return table
