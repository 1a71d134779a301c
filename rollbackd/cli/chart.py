"""A signal around a deployment as a small chart of characters: bars, where worse begins, and what happened when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rich.text import Text

from rollbackd.cli.terminal import printable
from rollbackd.explain.amounts import amount, span
from rollbackd.explain.facts import beside
from rollbackd.explain.plot import Plot, plot_of
from rollbackd.model import Evidence

ROWS = 5
WIDEST = 72
NARROWEST_PLOT = 10
"""Columns without which a chart shows nothing."""
LONGEST_LABEL = 20
APART = 2
"""Columns between two labels of the time axis."""


@dataclass(frozen=True)
class Pens:
    """What a chart is drawn with. `levels` fill a cell from the bottom, the last one all of it."""

    levels: str
    worse: str
    usual: str
    upright: str
    dotted: str
    side: str
    corner: str
    floor: str
    deployed: str
    began: str
    decided: str


UNICODE = Pens(
    levels="▁▂▃▄▅▆▇█",
    worse="╌",
    usual="┈",
    upright="│",
    dotted="┊",
    side="┤",
    corner="└",
    floor="─",
    deployed="▲",
    began="◆",
    decided="■",
)
ASCII = Pens(
    levels=".:#",
    worse="-",
    usual="~",
    upright="|",
    dotted=":",
    side="|",
    corner="+",
    floor="-",
    deployed="^",
    began="!",
    decided="x",
)


@dataclass(frozen=True)
class _Mark:
    """Something that happened: where, its sign on the axis, and its words."""

    column: int
    sign: str
    words: str
    style: str


_Label: TypeAlias = tuple[int, str, str]
"""Words under the time axis: the column they belong to, the words, and their style."""


def chart(
    evidence: Evidence, deployed_at: float, decided_at: float | None, width: int, *, ascii_only: bool = False
) -> Text:
    """The chart of what `evidence` holds, at most `width` columns (and never more than 72) wide.

    Empty where there are no points, or no room. Values that are far apart get a logarithmic scale, which is then said.
    """
    plot = plot_of(evidence, deployed_at, decided_at)
    if plot is None:
        return Text("")
    pens = ASCII if ascii_only else UNICODE
    labels = _labels(plot, evidence)
    gutter = max(len(label) for label in labels.values())
    count = min(width, WIDEST) - gutter - 2
    if count < NARROWEST_PLOT:
        return Text("")
    marks = _marks(plot, evidence, decided_at, count, pens)
    cells = _bars(plot, count, pens)
    _lines(cells, plot, evidence, pens)
    for mark in marks:
        upright = pens.upright if mark.sign == pens.deployed else pens.dotted
        _upright(cells, mark, upright, pens)
    lines = [_row(labels.get(row, ""), gutter, cells[row], pens) for row in range(ROWS)]
    lines.append(_axis(plot, gutter, count, marks, pens))
    lines += [Text(" " * (gutter + 2)).append_text(line) for line in _times(plot, count, marks)]
    return Text("\n").join(lines)


# -- the upright axis ---------------------------------------------------------------------------------


def _row_of(plot: Plot, value: float) -> int:
    """The row a value lies in, 0 at the top: that of the highest cell which its bar fills at least in part."""
    return ROWS - 1 - min(int(plot.scale.share(value) * ROWS - 1e-9), ROWS - 1)


def _labels(plot: Plot, evidence: Evidence) -> dict[int, str]:
    """What to write beside which row: where worse begins, the largest, the usual and the smallest value."""
    values = [value for _, value in plot.points]
    wanted: tuple[tuple[str, float | None], ...] = (
        ("worse ", evidence.worse),
        ("", max(values)),
        ("usual ", evidence.baseline),
        ("", min(values)),
    )
    labels: dict[int, str] = {}
    said: set[str] = set()
    for name, value in wanted:
        text = "" if value is None else printable(amount(value, evidence.unit)).replace("\n", " ")
        if value is None or text in said:
            continue
        said.add(text)
        labels.setdefault(_row_of(plot, value), f"{name}{text}"[:LONGEST_LABEL])
    return labels


def _row(label: str, gutter: int, cells: list[tuple[str, str]], pens: Pens) -> Text:
    line = Text.assemble((f"{label:>{gutter}} {pens.side if label else pens.upright}", "quiet"))
    for sign, style in cells:
        line.append(sign, style)
    return line


# -- the field ----------------------------------------------------------------------------------------


def _bars(plot: Plot, count: int, pens: Pens) -> list[list[tuple[str, str]]]:
    """The bars, row by row from the top; a column without data stays empty, and zero is a bar of the least height."""
    cells = [[(" ", "")] * count for _ in range(ROWS)]
    steps = len(pens.levels)
    for column, value in enumerate(plot.columns(count)):
        if value is None:
            continue
        height = max(round(plot.scale.share(value) * ROWS * steps), 1)
        style = _style(plot, column, count, value)
        for row in range(ROWS):
            filled = min(height - (ROWS - 1 - row) * steps, steps)
            if filled > 0:
                cells[row][column] = pens.levels[filled - 1], style
    return cells


def _style(plot: Plot, column: int, count: int, value: float) -> str:
    if plot.is_worse(value):
        return "bad"
    return "good" if column >= plot.column(plot.deployed_at, count) else "quiet"


def _lines(cells: list[list[tuple[str, str]]], plot: Plot, evidence: Evidence, pens: Pens) -> None:
    """Where worse begins and, in another row, what is usual, wherever no bar covers them."""
    for value, sign, style in ((evidence.worse, pens.worse, "warn"), (evidence.baseline, pens.usual, "quiet")):
        if value is None:
            continue
        row = cells[_row_of(plot, value)]
        row[:] = [(sign, style) if cell[0] == " " else cell for cell in row]


def _upright(cells: list[list[tuple[str, str]]], mark: _Mark, sign: str, pens: Pens) -> None:
    """A line upwards from a mark, wherever no bar stands."""
    for row in cells:
        if row[mark.column][0] in (" ", pens.worse, pens.usual):
            row[mark.column] = sign, mark.style


# -- the time axis ------------------------------------------------------------------------------------


def _marks(plot: Plot, evidence: Evidence, decided_at: float | None, count: int, pens: Pens) -> list[_Mark]:
    """The deployment, and where they have a column of their own the beginning of the trouble and the decision."""
    deployed = plot.column(plot.deployed_at, count)
    marks = [_Mark(deployed, pens.deployed, "deployed", "name")]
    onset = evidence.onset
    if onset is not None and plot.start <= onset <= plot.end and beside(onset, plot.deployed_at) != "with":
        marks.append(_Mark(plot.column(onset, count), pens.began, f"began {_apart(plot, onset)}", "bad"))
    if decided_at is not None:
        marks.append(_Mark(plot.column(decided_at, count), pens.decided, f"decided {_apart(plot, decided_at)}", "head"))
    return marks


def _apart(plot: Plot, at: float) -> str:
    apart = at - plot.deployed_at
    return f"{'-' if apart < 0 else '+'}{span(abs(apart))}"


def _axis(plot: Plot, gutter: int, count: int, marks: list[_Mark], pens: Pens) -> Text:
    said = ("log scale" if gutter >= len("log scale") else "log") if plot.scale.logarithmic else ""
    line = Text.assemble((f"{said[:gutter]:>{gutter}} {pens.corner}", "quiet"))
    signs = {mark.column: (mark.sign, mark.style) for mark in reversed(marks)}  # the first of two in one place is seen
    for column in range(count):
        line.append(*signs.get(column, (pens.floor, "quiet")))
    return line


def _times(plot: Plot, count: int, marks: list[_Mark]) -> list[Text]:
    """The words under the axis: on one line if they fit, else the marks other than the deployment below the times."""
    named = [(mark.column, f"{mark.sign} {mark.words}", mark.style) for mark in marks]
    times, others = named[:1], named[1:]
    if plot.start < plot.deployed_at:
        times.insert(0, (0, _apart(plot, plot.start), "quiet"))
    end: list[_Label] = []
    if plot.end > plot.deployed_at and max(mark.column for mark in marks) < count - 1:
        end = [(count - 1, _apart(plot, plot.end), "quiet")]
    one_each = [[label] for label in others]
    for lines in ([times + others + end], [times + end, others], [times + end, *one_each], [times, *one_each]):
        placed = [_placed(line, count) for line in lines]
        if all(line is not None for line in placed):
            return [line for line in placed if line is not None]
    return [_placed([one], count) or Text(one[1], one[2]) for one in named]


def _placed(labels: list[_Label], count: int) -> Text | None:
    """Labels from left to right, each under its mark or as near to it as the ones right of it leave room for."""
    starts: list[int] = []
    limit = count
    ordered = sorted(labels, key=lambda label: label[0])
    for column, text, _ in reversed(ordered):
        starts.insert(0, min(column, limit - len(text)))
        limit = starts[0] - APART
    if starts and starts[0] < 0:
        return None
    line = Text("")
    for start, (_, text, style) in zip(starts, ordered, strict=True):
        line.append(" " * (start - len(line)))
        line.append(text, style)
    return line
