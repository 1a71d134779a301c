"""Just enough of SVG for the pictures of the docs: panels with axes, lines, dots and words; light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal, TypeAlias

Point: TypeAlias = tuple[float, float]
Tone: TypeAlias = Literal["ink", "soft", "grid", "blue", "red", "green", "gold"]
Anchor: TypeAlias = Literal["start", "middle", "end"]
_NAMES = ("paper", "ink", "soft", "grid", "blue", "red", "green", "gold")


def _palette(colours: str) -> str:
    return ";".join(f"--{name}:{colour}" for name, colour in zip(_NAMES, colours.split(), strict=True))


_LIGHT = _palette("#fff #1f2328 #59636e #d8dee4 #0969da #cf222e #1a7f37 #9a6700")
_DARK = _palette("#0d1117 #e6edf3 #9198a1 #30363d #58a6ff #ff7b72 #3fb950 #d29922")
_STYLE = (
    f"svg{{{_LIGHT};font:12px system-ui,sans-serif}}@media(prefers-color-scheme:dark){{svg{{{_DARK}}}}}"
    "text{stroke:none}path,line{fill:none}.paper{fill:var(--paper)}"
    + "".join(f".{tone}{{stroke:var(--{tone})}}.f-{tone}{{fill:var(--{tone})}}" for tone in _NAMES[1:])
)


@dataclass
class Picture:
    """A drawing of so many pixels, with a title and a description for those who cannot see it."""

    width: int
    height: int
    title: str
    about: str
    parts: list[str] = field(default_factory=list)

    def text(self, at: Point, words: str, tone: Tone = "ink", anchor: Anchor = "start", *, bold: bool = False) -> None:
        weight = ' font-weight="600"' if bold else ""
        x, y = at
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" class="f-{tone}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def line(
        self, points: Iterable[Point], tone: Tone = "ink", width: float = 1.0, dash: str = "", opacity: float = 1.0
    ) -> None:
        path = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        more = (f' stroke-dasharray="{dash}"' if dash else "") + (f' opacity="{opacity}"' if opacity < 1 else "")
        self.parts.append(f'<path d="M{path}" class="{tone}" stroke-width="{width}"{more}/>')

    def area(self, begin: Point, end: Point, tone: Tone = "soft", opacity: float = 0.12) -> None:
        x, y = min(begin[0], end[0]), min(begin[1], end[1])
        w, h = abs(end[0] - begin[0]), abs(end[1] - begin[1])
        box = f'x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}"'
        self.parts.append(f'<rect {box} class="f-{tone}" opacity="{opacity}"/>')

    def dots(self, points: Iterable[Point], tone: Tone = "ink", radius: float = 2.0) -> None:
        """Dots as one path of zero-length strokes with round ends: short to write."""
        path = "".join(f"M{_n(x)} {_n(y)}h0" for x, y in points)
        self.parts.append(f'<path d="{path}" class="{tone}" stroke-width="{2 * radius}" stroke-linecap="round"/>')

    def svg(self) -> str:
        """The whole document."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" aria-labelledby="title about">'
        )
        names = f'<title id="title">{escape(self.title)}</title><desc id="about">{escape(self.about)}</desc>'
        paper = f'<rect class="paper" width="{self.width}" height="{self.height}" rx="6"/>'
        return "\n".join([head, names, f"<style>{_STYLE}</style>", paper, *self.parts, "</svg>", ""])


@dataclass
class Panel:
    """A part of a picture with its own axes. `x` and `y` turn values into shares of the panel, 0 to 1."""

    picture: Picture
    left: float
    top: float
    width: float
    height: float
    x: Callable[[float], float]
    y: Callable[[float], float]

    def at(self, x: float, y: float) -> Point:
        return self._column(x), self._row(y)

    def _column(self, x: float) -> float:
        return self.left + self.width * self.x(x)

    def _row(self, y: float) -> float:
        return self.top + self.height * (1 - self.y(y))

    def axes(
        self,
        title: str,
        across: Sequence[tuple[float, str]],
        up: Sequence[tuple[float, str]],
        name: str = "",
    ) -> None:
        """Title, grid and ticks; `name` says what the horizontal axis is."""
        self.picture.text((self.left, self.top - 10), title, bold=True)
        bottom = self.top + self.height
        for value, word in up:
            y = self._row(value)
            self.picture.line([(self.left, y), (self.left + self.width, y)], "grid")
            self.picture.text((self.left - 6, y + 4), word, "soft", "end")
        for value, word in across:
            x = self._column(value)
            self.picture.line([(x, bottom), (x, bottom + 4)], "soft")
            self.picture.text((x, bottom + 17), word, "soft", "middle")
        self.picture.line([(self.left, bottom), (self.left + self.width, bottom)], "soft")
        if name:
            self.picture.text((self.left + self.width, bottom + 33), name, "soft", "end")

    def line(self, points: Iterable[Point], tone: Tone, width: float = 1.8, dash: str = "") -> None:
        self.picture.line([self.at(*point) for point in points], tone, width, dash)

    def dots(self, points: Iterable[Point], tone: Tone, radius: float = 2.0) -> None:
        self.picture.dots([self.at(*point) for point in points], tone, radius)

    def level(self, y: float, tone: Tone, words: str = "", *, above: bool = True) -> None:
        """A dashed line across, with words at its left end."""
        row = self._row(y)
        self.picture.line([(self.left, row), (self.left + self.width, row)], tone, 1.2, "5 4")
        self.picture.text((self.left + 6, row - 5 if above else row + 14), words, tone)

    def moment(self, x: float, tone: Tone, words: str = "", *, row: int = 0, anchor: Anchor = "start") -> None:
        """A dashed line upwards, with words near its upper end, `row` lines further down."""
        place = self._column(x)
        self.picture.line([(place, self.top), (place, self.top + self.height)], tone, 1.2, "3 3")
        aside = {"start": 5, "middle": 0, "end": -5}[anchor]
        if words:
            self.picture.text((place + aside, self.top + 12 + 15 * row), words, tone, anchor)

    def span(self, begin: float, end: float, tone: Tone = "soft") -> None:
        left, right = self._column(begin), self._column(end)
        self.picture.area((left, self.top), (right, self.top + self.height), tone)


def linear(low: float, high: float) -> Callable[[float], float]:
    """A scale from `low` to `high`; what lies beyond is put at the edge."""
    return lambda value: min(max((value - low) / (high - low), 0.0), 1.0)


def through(change: Callable[[float], float], low: float, high: float) -> Callable[[float], float]:
    """A scale on which `change` of the value goes evenly: `math.log`, say."""
    scale = linear(change(low), change(high))
    return lambda value: scale(change(value))


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
