"""A decision as a page: what was decided and why, the evidence, what else was considered, and every guard's answer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rollbackd.cli.render import (
    ACTION_STYLES,
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
from rollbackd.cli.words import ACTIONS, VERDICTS, WATCH_STATES, moment, numbers, span, time_of_day
from rollbackd.model import Decision, Evidence, WatchChange

AT_ONCE_S = 1.0
"""What begins within a second of the deployment began with it."""
SAMPLE_S = 10.0
"""What samples show began when the sample did, so trouble may seem older by up to the usual interval between two."""
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
    if decision.evidence:
        parts.append(section("Evidence", evidence_table(console, decision.evidence)))
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
    rule = next((one for one in decision.evidence if one.rule == decision.rule and one.onset is not None), None)
    if rule is not None and rule.onset is not None:
        began = rule.onset - decision.deployed_at
        with_it = -SAMPLE_S <= began < AT_ONCE_S
        when = "with it" if with_it else f"{span(abs(began))} {'later' if began > 0 else 'before'}"
        line += f", trouble began {time_of_day(rule.onset)} ({when})"
    line += f", decided {time_of_day(decision.t)} ({span(decision.t - decision.deployed_at)} after the deployment)"
    return words((f"{line}, by rule {decision.rule}.", "quiet"))


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
