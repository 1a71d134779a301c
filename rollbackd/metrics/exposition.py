"""Reads Prometheus text (0.0.4) and OpenMetrics (1.0) as it streams in, at the cost of a split and a look-up a line.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/. Only samples are kept; metadata, timestamps and exemplars are
read over, because counts are taken as of their arrival.

What is wanted is parsed once: from then on the text before the value is looked up, and the value converted. What is
not wanted costs less and leaves nothing in memory: metrics come in groups with names alike, so one comparison with
the shortest beginning that no wanted name has (`go_gc`, where of Go only `go_goroutines` is wanted) passes over a line
of the same group as the unwanted line before it. On an endpoint of many services, lines without the value of a label
that must match are passed over by a search for that value.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Mapping
from os.path import commonprefix

MAX_LINE_BYTES = 1024 * 1024
"""A longer line is no sample: it is read over and counted as malformed."""

MAX_VAIN_LINES = 1000
"""So many malformed lines without one that is sound, and the body is taken for something else."""

MAX_SERIES_TEXT = 4096
"""Characters of a name with its labels; a longer one counts as malformed, because all of them are remembered."""

MAX_UNWANTED = 20_000
"""How many series that did not match are remembered, so that they need not be read again."""

_NOTHING = "\n"
"""Begins no line."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*+")
_NUMBER = re.compile(
    r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?|[+-]?inf(?:inity)?|[+-]?nan", re.ASCII | re.IGNORECASE
)
_BRACES = re.compile(r'[ \t]*+\{((?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+)\}')
_LABEL = re.compile(
    r'[ \t]*+(?:([a-zA-Z_][a-zA-Z0-9_]*+)|"((?:[^"\\]++|\\.)*+)")[ \t]*+'
    r'(?:=[ \t]*+"((?:[^"\\]++|\\.)*+)"[ \t]*+)?(?:,[ \t]*+|$)'
)
_ESCAPE = re.compile(r'\\([\\"n])')
_EXEMPLAR = re.compile(r"#[ \t]*+\{.*\}[ \t]++\S++(?:[ \t]++\S++)?")


class Malformed(ValueError):
    """A line that is no sample."""


class Series:
    """One metric name with its labels. Within a Reader the same text is the same object, from scrape to scrape."""

    __slots__ = ("labels", "name", "text")

    def __init__(self, text: str, name: str, labels: dict[str, str]) -> None:
        self.text, self.name, self.labels = text, name, labels


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _labels(name: str, inside: str) -> tuple[str, dict[str, str]]:
    """The labels between braces; a quoted word without a value is the metric's name (Prometheus' UTF-8 names)."""
    labels: dict[str, str] = {}
    at, end = 0, len(inside.rstrip(" \t"))
    while at < end:
        found = _LABEL.match(inside, at, end)
        if found is None:
            raise Malformed(inside)
        key = found[1] if found[1] is not None else _unescape(found[2])
        if found[3] is None:
            if name or found[1] is not None:
                raise Malformed(inside)
            name = key
        elif key in labels:
            raise Malformed(inside)
        else:
            labels[key] = _unescape(found[3])
        at = found.end()
    return name, labels


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None:
        raise Malformed(text)
    return float(text)


def read_line(line: str) -> tuple[Series, float]:
    """The sample on one line, in either format. Raises Malformed."""
    line = line.strip(" \t\r")
    named = _NAME.match(line)
    name = named[0] if named else ""
    at = end = len(name)
    labels: dict[str, str] = {}
    braces = _BRACES.match(line, at)
    if braces is not None:
        end = braces.end()
        name, labels = _labels(name, braces[1])
    if not name or (braces is None and line[end : end + 1] not in (" ", "\t")):
        raise Malformed(line)
    sample, mark, rest = line[end:].partition("#")
    fields = sample.split()
    if not 1 <= len(fields) <= 2 or (mark and _EXEMPLAR.fullmatch(mark + rest) is None):
        raise Malformed(line)
    if end > MAX_SERIES_TEXT:
        raise Malformed(line[:80])
    value = _number(fields[0])
    if len(fields) == 2:
        _number(fields[1])
    return Series(line[:end], name, labels), value


class Reader:
    """What is remembered of one endpoint's series between scrapes.

    `wanted` are the metric names worth reading, `match` the labels that a series must have with these values, and at
    most `max_series` are known at a time. `known` is open to its owner for forgetting: by series text. `unwanted` are
    series of wanted metrics that did not match.
    """

    def __init__(
        self,
        wanted: frozenset[str] | None = None,
        match: Mapping[str, str] | None = None,
        max_series: int = 1_000_000,
    ) -> None:
        self.known: dict[str, Series] = {}
        self.unwanted: set[str] = set()
        self._wanted, self._match, self._max_series = wanted, dict(match or {}), max_series
        self._names = sorted(wanted or ())
        plain = [value for value in self._match.values() if not re.search(r'[\\"\n]', value)]
        self.mark = f'"{max(plain, key=len)}"' if plain else ""
        """What every line of a series that matches holds."""

    def wants(self, name: str) -> bool:
        return self._wanted is None or name in self._wanted

    def beginning(self, name: str, line: str) -> str:
        """How the line of an unwanted metric begins, as far as is needed to tell it from all wanted ones."""
        at = bisect(self._names, name)
        near = self._names[max(at - 1, 0) : at + 1]
        shared = max((len(commonprefix((name, other))) for other in near), default=0)  # noqa: RUF071  of letters
        return f"{line} "[: shared + 1]

    def admit(self, series: Series) -> Series | None:
        """The series as it is known from now on, None where it is not kept. Raises OverflowError beyond the bound."""
        known = self.known.get(series.text)
        if known is not None:
            return known
        if series.text in self.unwanted or not self.wants(series.name):
            return None
        if any(series.labels.get(label) != value for label, value in self._match.items()):
            if len(self.unwanted) >= MAX_UNWANTED:
                self.unwanted.clear()
            self.unwanted.add(series.text)
            return None
        if len(self.known) >= self._max_series:
            raise OverflowError
        self.known[series.text] = series
        return series


class Exposition:
    """One scrape: `feed` it the bytes as they come, then `end`. Memory does not grow with the body's size.

    `sound` says that at least one line was a sample or metadata; `complete` that `# EOF` was seen. Lines that nobody
    wants are not checked once the body has proven sound.
    """

    def __init__(self, reader: Reader) -> None:
        self.samples: dict[Series, float] = {}
        self.malformed = self.refused = self.size = 0
        self.sound = self.complete = False
        self._begins = b""
        self._reader = reader
        self._rest = b""
        self._skipping = False
        self._passing = _NOTHING  # the beginning of lines that nobody wants

    def feed(self, data: bytes) -> None:
        """Read on. Any division into chunks gives the same samples."""
        self.size += len(data)
        if len(self._begins) < 40:
            self._begins = (self._begins + data[:400]).lstrip()[:40]
        body, newline, rest = data.rpartition(b"\n")
        if newline:
            self._lines(body if self._skipping else self._rest + body)
            self._rest = rest
        elif not self._skipping:
            self._rest += rest
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest, self._skipping = b"", True
            self.malformed += 1

    @property
    def hopeless(self) -> bool:
        """Whether it is a waste of time to read on: this is no exposition."""
        return self.malformed > MAX_VAIN_LINES and not self.sound and not self.samples

    @property
    def opening(self) -> str:
        """How the body begins, fit to be shown in a message."""
        text = self._begins.decode(errors="replace")
        return "".join(letter if letter.isprintable() else " " for letter in text).strip() or "nothing"

    def end(self) -> None:
        """The body is over: what follows the last newline is a line too."""
        self._lines(self._rest)
        self._rest = b""
        self.sound = self.sound or bool(self.samples)

    def _lines(self, block: bytes) -> None:
        if self._skipping:
            block = block.partition(b"\n")[2]
            self._skipping = False
        try:
            lines = block.decode().split("\n")
        except UnicodeDecodeError:
            lines = self._decodable(block)
        mark = self._reader.mark
        if mark and self.sound:
            lines = [line for line in lines if mark in line or line.startswith("#")]
        known, unwanted, samples, passing = self._reader.known, self._reader.unwanted, self.samples, self._passing
        for line in lines:
            if line.startswith(passing):
                continue
            head, _, tail = line.rpartition(" ")
            series = known.get(head)
            if series is None:
                if head not in unwanted:
                    passing = self._unfamiliar(line) or passing
                continue
            try:
                samples[series] = float(tail)
            except ValueError:
                self._unfamiliar(line)
        self._passing = passing

    def _decodable(self, block: bytes) -> list[str]:
        lines = []
        for raw in block.split(b"\n"):
            try:
                lines.append(raw.decode())
            except UnicodeDecodeError:
                self.malformed += 1
        return lines

    def _unfamiliar(self, line: str) -> str | None:
        """A line whose text before its last blank is no known series; tells how others begin that nobody wants."""
        if line[:1] == "#":
            self._comment(line)
            return None
        named = _NAME.match(line)
        if named is not None:
            if self._reader.wants(named[0]):
                if self._with_timestamp(line):
                    return None
            elif self.sound:  # checked until proven sound
                return self._reader.beginning(named[0], line)
        self._anew(line.strip(" \t\r"))
        return None

    def _anew(self, line: str) -> None:
        """A line that has to be parsed."""
        if not line:
            return
        if line[0] == "#":
            self._comment(line)
            return
        try:
            series, value = read_line(line)
            self.sound = True
            admitted = self._reader.admit(series)
        except Malformed:
            self.malformed += 1
        except OverflowError:
            self.refused += 1
        else:
            if admitted is not None:
                self.samples[admitted] = value

    def _with_timestamp(self, line: str) -> bool:
        """Whether the line was a known series' sample followed by an exemplar, a timestamp or both, and was taken."""
        sample = line.partition(" # {")[0]
        fields = sample.rsplit(" ", 2)
        if len(fields) < 2:
            return False
        series = self._reader.known.get(sample[: -len(fields[-1]) - 1])
        number = fields[-1]
        if series is None and len(fields) == 3:
            series, number = self._reader.known.get(fields[0]), fields[1]
        if series is None:
            return False
        try:
            self.samples[series] = float(number)
        except ValueError:
            return False
        return True

    def _comment(self, line: str) -> None:
        words = line.split(None, 2)
        if words[:2] == ["#", "EOF"]:
            self.complete = self.sound = True
        elif len(words) > 2 and words[0] == "#" and words[1] in ("HELP", "TYPE", "UNIT"):
            self.sound = True
