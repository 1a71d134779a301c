"""The status page: one line a service, then, for each that wants a look, its watch, its evidence and what is wrong."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rollbackd.cli.render import VERDICT_STYLES, bar, bullets, grid, section, signs, verdict_sign, words
from rollbackd.cli.render_decision import evidence_table
from rollbackd.cli.words import NOT_YET, VERDICTS, ago, short
from rollbackd.explain.amounts import span
from rollbackd.ledger.base import Pause
from rollbackd.web.views import ServiceView, SourceView, StatusView, WatchView

FOUND = "not proven, but what to go back to until a release has finished its bake"
"""What a release is that was in place at first sight."""
NARROW = 70
"""Below so many columns, the table leaves out what the services' own sections say too."""
NAMES = ("service", "running", "last good")
"""Columns that come from outside and can be of any length: they give way, nothing else does."""
WIDE = 100
"""From so many columns on, there is room for bars in the table."""


def status_text(console: Console, status: StatusView, address: str) -> None:
    """Print the whole page."""
    name, config = _headline(status, address)
    console.print(*([name + config] if len(name) + len(config) <= console.width else [name, config]), sep="\n")
    for trouble in _troubles(status):
        console.print(words(trouble))
    if not status.services:
        console.print(words(("No service is configured.", "warn")))
        return
    console.print()
    console.print(_table(console, status))
    for service in status.services:
        if (details := _details(console, service, status.now)) is not None:
            console.print(details)


def _headline(status: StatusView, address: str) -> tuple[Text, Text]:
    """Who answers, and under which configuration: one line where there is room."""
    config = f"configuration {status.config.sha256[:12]}"
    if status.config.commit is not None:
        config += f" (commit {status.config.commit[:12]})"
    up = f"up {span(status.now - status.started_at)}"
    name = words(("rollbackd", "head"), f" {status.version}", (f"  {address}, {up}  ", "quiet"))
    return name, words((config, "quiet"))


def _troubles(status: StatusView) -> list[tuple[str, str]]:
    troubles = [(f"not ready: {problem}", "bad") for problem in status.problems]
    if status.config_problem is not None:
        troubles.append((f"the new configuration was refused, the old one is in force: {status.config_problem}", "bad"))
    if status.paused is not None:
        troubles.append((f"all services are {_paused(status.paused, status.now)}", "warn"))
    return troubles


def _paused(pause: Pause, now: float) -> str:
    return f"paused by {pause.actor} {ago(pause.at, now)}: {pause.reason}"


def _table(console: Console, status: StatusView) -> Table:
    wide = console.width >= NARROW
    heads = ["", "service", "running", "verdict"]
    if wide:
        heads += ["watch", "last good", "sources", "mode", "ready"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="quiet", pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=wide and head not in NAMES)
    for service in status.services:
        cells: list[RenderableType] = [
            verdict_sign(console, service.verdict),
            words((service.name, "name")),
            words(service.current or ("unknown", "quiet")),
            words((_verdict(service, status.now), VERDICT_STYLES[service.verdict])),
        ]
        if wide:
            cells += [
                _progress(console, service.watch, status.now),
                words(service.last_known_good or ("none yet", "warn")),
                _sources(service.sources),
                _mode(service),
                Text("no", "bad") if service.problems else Text("yes", "good"),
            ]
        table.add_row(*cells)
    if console.measure(table, options=console.options.update(width=2 * console.width)).maximum > console.width:
        table.padding = (0, 1, 0, 0)  # before a name is broken in two, the gaps give way
    return table


def _verdict(service: ServiceView, now: float) -> str:
    return NOT_YET if service.watch is not None and service.watch.warms_up(now) else VERDICTS[service.verdict]


def _progress(console: Console, watch: WatchView | None, now: float) -> Text:
    if watch is None:
        return Text("none", "quiet")
    share = (f"{_baked(watch, now):.0%}", "quiet")
    return Text.assemble(bar(console, _baked(watch, now), 8), " ", share) if console.width >= WIDE else Text(*share)


def _baked(watch: WatchView, now: float) -> float:
    length = watch.ends_at - watch.deployed_at
    return min(max((now - watch.deployed_at) / length, 0.0), 1.0) if length > 0 else 1.0


def _sources(sources: tuple[SourceView, ...]) -> Text:
    if not sources:
        return Text("none", "warn")
    up = sum(source.state == "up" for source in sources)
    style = "good" if up == len(sources) else "bad" if any(source.state == "down" for source in sources) else "quiet"
    return Text(f"{up} of {len(sources)} up", style)


def _mode(service: ServiceView) -> Text:
    if service.rollback_id is not None:
        return Text("reverting", "warn")
    if service.paused is not None:
        return Text("paused", "warn")
    return Text(service.mode, "quiet" if service.mode == "shadow" else "")


def _details(console: Console, service: ServiceView, now: float) -> Group | None:
    parts: list[RenderableType] = []
    if service.rollback_id is not None:
        parts.append(words(("being rolled back", "warn"), f": rollbackd show {short(service.rollback_id)}"))
    elif service.decision_id is not None:
        parts.append(words(("decided", "warn"), f": rollbackd show {short(service.decision_id)}"))
    if service.watch is not None and service.watch.excuse is not None:
        parts.append(words(("trouble not held against the release", "warn"), f": {service.watch.excuse}"))
    if service.paused is not None:
        parts.append(words((_paused(service.paused, now), "warn")))
    if service.mode == "shadow":
        parts.append(words(("shadow mode: decisions are recorded, nothing is done", "quiet")))
    if service.watch is not None:
        parts.append(_watch(console, service.watch, now))
        if service.watch.previous is None and service.last_known_good == service.watch.version:
            parts.append(words((f"{service.watch.version} was there before: {FOUND}", "quiet")))
        if service.watch.evidence:
            parts.append(evidence_table(console, service.watch.evidence))
    if service.contradiction is not None:
        parts.append(words(("contradiction", "warn"), f": {service.contradiction}"))
    if service.problems:
        parts += [words(("A rollback would not work now:", "bad")), bullets(console, service.problems)]
    parts += [_source(console, source, now) for source in service.sources if source.state != "up" or source.dropped]
    return section(service.name, *parts) if parts else None


def _watch(console: Console, watch: WatchView, now: float) -> Text:
    came = f" (after {watch.previous})" if watch.previous is not None else ""
    what = "the rollback to" if watch.is_rollback else "release"
    began = "first seen" if watch.previous is None else "deployed"  # when that one was deployed is not known
    left, warm = watch.ends_at - now, (watch.judged_from or now) - now
    rest = f"{span(left)} to go" if left > 0 else "the bake is over"
    if watch.warms_up(now):
        rest += f", judged in {span(warm)}, when it has warmed up"
    return Text.assemble(
        words(f"watching {what} ", (watch.version, "head"), f"{came}, {began} {ago(watch.deployed_at, now)}  "),
        bar(console, _baked(watch, now), 10),
        words((f"  {rest}", "quiet")),
    )


def _source(console: Console, source: SourceView, now: float) -> Table:
    table = grid(2)
    if source.state == "up":
        sign, said = Text(signs(console).point, "warn"), words(f"source {source.name}: up")
    else:
        reason = f": {source.reason}" if source.reason else ""
        said = words(f"source {source.name}: {source.state} since {span(now - source.since)}{reason}")
        sign = Text(signs(console).bad, "bad") if source.state == "down" else Text(signs(console).unknown, "quiet")
    if source.dropped:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(source.dropped.items()))
        said.append_text(words((f"; left out: {counts}", "warn")))
    table.add_row(sign, said)
    return table
