"""The course of a signal as a small picture inside the page: lines and words, styled by the page's own sheet."""

from __future__ import annotations

from rollbackd.explain.amounts import amount, span
from rollbackd.explain.facts import beside, facts
from rollbackd.explain.plot import Plot, plot_of
from rollbackd.model import Evidence
from rollbackd.web.html import Markup, element

WIDTH, HEIGHT = 360.0, 140.0
LEFT, RIGHT, TOP, BOTTOM = 92.0, 8.0, 16.0, 24.0
"""What the labels take on each side."""
LINE = 12.0
"""Labels closer together than this would be written over one another."""
WORD = 44.0
"""What a word such as `decided` takes."""
LONGEST_LABEL = 18


def chart(evidence: Evidence, deployed_at: float, decided_at: float | None) -> Markup | None:
    """The picture, with its facts as the text for those who do not see it; None where there are no points."""
    plot = plot_of(evidence, deployed_at, decided_at)
    if plot is None:
        return None
    told = "; ".join(f"{name}: {said}" for name, said in facts(evidence, deployed_at))
    return element(
        "svg",
        *_levels(plot, evidence),
        *_moments(plot, evidence, decided_at),
        *(_run(plot, run) for run in plot.runs()),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=f"Chart of the signal around the deployment. {told}",
        class_="chart",
    )


def _x(plot: Plot, at: float) -> float:
    return LEFT + plot.place(at) * (WIDTH - LEFT - RIGHT)


def _y(plot: Plot, value: float) -> float:
    return HEIGHT - BOTTOM - plot.scale.share(value) * (HEIGHT - TOP - BOTTOM)


def _run(plot: Plot, run: list[tuple[float, float]]) -> Markup:
    """A stretch without a gap; a point by itself is a dot."""
    if len(run) == 1:
        x, y = _x(plot, run[0][0]), _y(plot, run[0][1])
        return element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="2", class_="dot-alone")
    points = " ".join(f"{_x(plot, at):.1f},{_y(plot, value):.1f}" for at, value in run)
    return element("polyline", points=points, class_="course")


def _levels(plot: Plot, evidence: Evidence) -> list[Markup]:
    """Where worse begins and what is usual as lines, and beside them the largest and the smallest value."""
    values = [value for _, value in plot.points]
    wanted = (
        ("worse", evidence.worse, "worse"),
        ("", max(values), None),
        ("usual", evidence.baseline, "usual"),
        ("", min(values), None),
    )
    parts: list[Markup] = []
    taken: list[float] = []
    for name, value, line in wanted:
        if value is None:
            continue
        y = _y(plot, value)
        if line is not None:
            parts.append(_line(LEFT, y, WIDTH - RIGHT, y, line))
        if all(abs(y - other) >= LINE for other in taken):
            taken.append(y)
            label = f"{name} {amount(value, evidence.unit)}".strip()[:LONGEST_LABEL]
            parts.append(_words(LEFT - 6, y + 4, label, "end", line))
    if plot.scale.logarithmic:
        parts.append(_words(LEFT - 6, HEIGHT - 8, "log scale", "end", None))
    return parts


def _moments(plot: Plot, evidence: Evidence, decided_at: float | None) -> list[Markup]:
    """The deployment, and where they are apart from it the beginning of the trouble and the decision."""
    deployed = _x(plot, plot.deployed_at)
    parts = [_upright(deployed, "deployed")]
    onset, taken = evidence.onset, LEFT
    if onset is not None and plot.start <= onset <= plot.end and beside(onset, plot.deployed_at) != "with":
        taken = max(_x(plot, onset), LEFT + WORD)
        parts += [_upright(_x(plot, onset), "began"), _words(taken, TOP - 5, "began", "end", "began")]
    if decided_at is not None:
        x = _x(plot, decided_at)
        parts.append(_upright(x, "decided"))
        if x - taken > WORD:
            parts.append(_words(x, TOP - 5, "decided", "end", None))
    anchor = "end" if deployed > (LEFT + WIDTH - RIGHT) / 2 else "start"
    parts.append(_words(deployed, HEIGHT - 8, "deployed", anchor, "deployed"))
    before = plot.deployed_at - plot.start
    if before > 0 and deployed > LEFT + 120:
        parts.append(_words(LEFT, HEIGHT - 8, f"-{span(before)}", "start", None))
    after = plot.end - plot.deployed_at
    if after > 0 and deployed < WIDTH - RIGHT - 55 - (0 if anchor == "end" else 60):
        parts.append(_words(WIDTH - RIGHT, HEIGHT - 8, f"+{span(after)}", "end", None))
    return parts


def _upright(x: float, kind: str) -> Markup:
    return _line(x, TOP, x, HEIGHT - BOTTOM, kind)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=kind)


def _words(x: float, y: float, words: str, anchor: str, kind: str | None) -> Markup:
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind)
