"""The console, its colours and signs, and the small pieces that all pages are made of."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from rollbackd.cli.terminal import printable
from rollbackd.model import Action, GuardVerdict, Verdict, WatchState

THEME = Theme(
    {
        "good": "green",
        "bad": "bold red",
        "warn": "yellow",
        "quiet": "dim",
        "name": "bold cyan",
        "head": "bold",
        "rollback": "bold white on red",
        "hold": "bold black on yellow",
        "escalate": "bold white on magenta",
        "bar.empty": "dim",
    }
)

VERDICT_STYLES: dict[Verdict, str] = {"healthy": "good", "degraded": "bad", "insufficient": "quiet"}
GUARD_STYLES: dict[GuardVerdict, str] = {"pass": "good", "hold": "warn", "escalate": "bad"}
ACTION_STYLES: dict[Action, str] = {"rollback": "rollback", "hold": "hold", "escalate": "escalate"}
WATCH_STYLES: dict[WatchState, str] = {
    "opened": "name",
    "good": "good",
    "superseded": "quiet",
    "condemned": "bad",
    "failed": "bad",
    "verified": "good",
    "unrecovered": "bad",
}


@dataclass(frozen=True)
class Signs:
    """The few signs that carry meaning; the second set is for terminals that know only ASCII."""

    good: str
    bad: str
    unknown: str
    point: str
    arrow: str
    full: str
    empty: str


UNICODE = Signs(good="✓", bad="✗", unknown="·", point="•", arrow="→", full="▰", empty="▱")
ASCII = Signs(good="+", bad="x", unknown=".", point="*", arrow="->", full="#", empty="-")


_TRAILING = re.compile(r"[ ]+$", re.MULTILINE)


class _Trimmed:
    """A file for what is printed: blanks that only fill a line up are left out, for logs, comparisons and copies."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.encoding = file.encoding

    def write(self, text: str) -> int:
        return self._file.write(_TRAILING.sub("", text))

    def flush(self) -> None:
        self._file.flush()

    def isatty(self) -> bool:
        return False


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to whoever runs the command: one place decides what a broken pipe means."""
        raise BrokenPipeError


def make_console(color: str = "auto") -> Console:
    """The console on standard output. `color` is auto, always or never; auto follows NO_COLOR and the terminal."""
    return _Console(
        theme=THEME,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=True if color == "always" else None,
        no_color=True if color == "never" else False if color == "always" else None,
        file=sys.stdout if sys.stdout.isatty() else cast("TextIO", _Trimmed(sys.stdout)),
    )


def signs(console: Console) -> Signs:
    """The signs this console can show."""
    return UNICODE if console.encoding.lower().startswith("utf") else ASCII


def words(*parts: str | tuple[str, str]) -> Text:
    """Text of plain and (text, style) parts, with what could steer a terminal taken out."""
    text = Text()
    for part in parts:
        content, style = (part, "") if isinstance(part, str) else part
        text.append(printable(content), style)
    return text


def verdict_sign(console: Console, verdict: Verdict) -> Text:
    """A verdict as one coloured sign."""
    known = signs(console)
    sign = {"healthy": known.good, "degraded": known.bad, "insufficient": known.unknown}[verdict]
    return Text(sign, VERDICT_STYLES[verdict])


def bar(console: Console, share: float, width: int = 10, style: str = "name") -> Text:
    """A bar that is full at share 1."""
    known = signs(console)
    filled = int(min(max(share, 0.0), 1.0) * width + 0.5)
    if share < 1.0:
        filled = min(filled, width - 1)  # only what is full looks full
    return Text.assemble((known.full * filled, style), (known.empty * (width - filled), "bar.empty"))


def section(title: str, *content: RenderableType) -> Group:
    """A headline and, indented below it, what belongs to it."""
    return Group(Text(""), Text(title, "head"), *(Padding(part, (0, 0, 0, 2)) for part in content))


def grid(columns: int, *, folding: int | None = None) -> Table:
    """A borderless table; only column `folding` (the last unless given) gives way when the terminal is narrow."""
    table = Table.grid(padding=(0, 2, 0, 0))
    last = columns - 1 if folding is None else folding
    for index in range(columns):
        table.add_column(no_wrap=index != last, overflow="fold" if index == last else "ellipsis")
    return table


def bullets(console: Console, lines: tuple[str, ...], style: str = "") -> Table:
    """A list of sentences."""
    table = grid(2)
    for line in lines:
        table.add_row(Text(signs(console).point, "quiet"), words((line, style)))
    return table
