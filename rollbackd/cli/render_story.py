"""What happened: the history as one list in order of time, and the whole story of one deployment."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rollbackd.cli.render import ACTION_STYLES, WATCH_STYLES, grid, section, signs, words
from rollbackd.cli.render_decision import decision_page, evidence_table
from rollbackd.cli.story import Story
from rollbackd.cli.words import ACTIONS, ROLLBACK_STATES, WATCH_STATES, short
from rollbackd.explain.amounts import moment, span, time_of_day
from rollbackd.ledger.base import RollbackState
from rollbackd.model import WatchState
from rollbackd.web.views import DecisionView, DeploymentView, RollbackView, WatchView

NARROW = 100
"""Below so many columns, what happened stands below when and where."""

DECIDED: frozenset[WatchState] = frozenset({"condemned", "failed"})
"""How a watch ends by a decision, which then carries the same evidence."""

ROLLBACK_STYLES: dict[RollbackState, str] = {"verified": "good", "failed": "bad", "escalated": "bad"}


def history_text(console: Console, story: Story) -> None:
    """Print everything in order of time, the newest at the end, where the eye is."""
    rows = sorted(_rows(console, story), key=lambda row: row[0])
    if not rows:
        console.print(words(("Nothing has been deployed since rollbackd watches.", "quiet")))
        return
    if console.width < NARROW:
        for at, service, name, said in rows:
            console.print(words((moment(at), "quiet"), "  ", (service, "name"), "  ", (short(name), "quiet")))
            console.print(Padding(said, (0, 0, 0, 2)))
    else:
        table = grid(4)
        for at, service, name, said in rows:
            table.add_row(words((moment(at), "quiet")), words((service, "name")), words((short(name), "quiet")), said)
        console.print(table)
    console.print(words(("`rollbackd show ID` tells more about each.", "quiet")))


def _rows(console: Console, story: Story) -> Iterator[tuple[float, str, str, Text]]:
    for deployment in story.deployments:
        yield deployment.deployed_at, deployment.service, deployment.id, _deployment(deployment)
    for view in story.decisions:
        yield view.decision.t, view.decision.service, view.id, _decision(console, view)
    for rollback in story.rollbacks:
        yield rollback.created_at, rollback.service, rollback.id, _rollback(rollback)


def _deployment(view: DeploymentView) -> Text:
    what = "rollback to" if view.is_rollback else "deployed"
    came = f" after {view.previous}" if view.previous is not None else ""
    line = words(f"{what} {view.version}{came}: ", (WATCH_STATES[view.state], WATCH_STYLES[view.state]))
    if view.state != "opened":
        line.append_text(words(f" after {span(view.changed_at - view.deployed_at)}"))
    return line.append_text(words(f", {view.reason}")) if view.reason else line


def _decision(console: Console, view: DecisionView) -> Text:
    decision = view.decision
    way = f" {signs(console).arrow} {decision.to}" if decision.to is not None else ""
    shadow = " (shadow)" if view.mode == "shadow" else ""
    badge = (f" {ACTIONS[decision.action]} ", ACTION_STYLES[decision.action])
    return words(badge, f"{shadow} {decision.version}{way}: {decision.reason}")


def _rollback(view: RollbackView) -> Text:
    state = (ROLLBACK_STATES[view.state], ROLLBACK_STYLES.get(view.state, "warn"))
    took = span(view.updated_at - view.created_at)
    return words(f"{view.version} rolled back to {view.to} by {view.requested_by}: ", state, f" after {took}")


def story_text(console: Console, story: Story, watch: WatchView | None) -> None:
    """Print the page of one deployment; `watch` is its open watch, if it has one."""
    for deployment in story.deployments:
        console.print(_deployment_page(deployment))
        if deployment.evidence and not (story.decisions and deployment.state in DECIDED):
            console.print(section("Evidence at the end", evidence_table(console, deployment.evidence)))
    if watch is not None and watch.evidence and not story.decisions:
        console.print(section("Evidence as it stands", evidence_table(console, watch.evidence)))
    for view in sorted(story.decisions, key=lambda one: one.decision.t):
        console.print()
        console.print(decision_page(console, view.decision))
        console.print(_circumstances(view))
    for rollback in story.rollbacks:
        console.print(_rollback_page(console, rollback))


def _deployment_page(view: DeploymentView) -> Group:
    line = words(("deployment", "head"), "  ", (view.service, "name"), f"  {view.version}")
    if view.previous is not None:
        line.append_text(words(f" after {view.previous}"))
    line.append_text(words((f"  {moment(view.deployed_at)}", "quiet")))
    parts: list[RenderableType] = [line, _deployment(view), words((view.id, "quiet"))]
    return Group(*parts)


def _circumstances(view: DecisionView) -> Group:
    config = f"sha256 {view.config.sha256[:12]}"
    if view.config.commit is not None:
        config += f", commit {view.config.commit[:12]}"
    mode = "acting" if view.mode == "act" else "shadow mode: recorded, not acted upon"
    facts = grid(2)
    for name, value in (("decision", view.id), ("mode", mode), ("configuration", config)):
        facts.add_row(words((name, "quiet")), words(value))
    return section("Made under", facts)


def _rollback_page(console: Console, view: RollbackView) -> Group:
    state = (ROLLBACK_STATES[view.state], ROLLBACK_STYLES.get(view.state, "warn"))
    arrow = signs(console).arrow
    line = words(f"{view.version} {arrow} {view.to}, asked for by {view.requested_by}: ", state)
    parts: list[RenderableType] = [line]
    if view.decision_id is None and view.reason:
        parts.append(words(view.reason))
    parts += [_journal(view), words((view.id, "quiet"))]
    return section("Rollback", *parts)


def _journal(view: RollbackView) -> Table:
    table = grid(4)
    before: float | None = None
    for step in view.steps:
        waited = "" if before is None else f"+{span(step.at - before)}"
        style = ROLLBACK_STYLES.get(step.state, "")
        table.add_row(
            words((time_of_day(step.at), "quiet")),
            words((waited, "quiet")),
            words((step.state, style)),
            words(step.detail),
        )
        before = step.at
    return table
