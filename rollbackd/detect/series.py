"""Sums over consecutive intervals: the bounded memory that every baseline is read from."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

import msgspec

MAX_ROWS = 360
"""Rows a series holds at most: an hour of samples every 10 s, and more hours ever more coarsely."""
MAX_AGE_S = 6 * 3600.0
"""Rows older than this are forgotten."""


class Series(msgspec.Struct):
    """Rows `[start, end, sum, ...]`: what was counted in `(start, end]`, in order of their ends.

    A sample that arrives late finds its place among them; it covers no time, since the others already do. When the
    rows run out, the older half is merged pairwise, so the newest samples stay as fine as they came.
    `interval` is the usual time between samples in seconds (an exponential average that a gap moves little), 0 until
    known.
    """

    rows: list[list[float]] = []
    last: float | None = None
    interval: float = 0.0

    def add(self, t: float, values: Iterable[float]) -> None:
        """Append a sample. The first one covers no time, since nobody knows what it covers."""
        last, rows = self.last, self.rows
        t = float(t)
        values = map(float, values)  # whole numbers too, so that a recording, which holds floats, gives the same bytes
        if last is None or t < last:
            bisect.insort_right(rows, [t, t, *values], key=_end)
            self.last = t if last is None else last
        else:
            covered = t - last
            if covered > 0:
                usual = self.interval or covered
                self.interval = usual + 0.1 * (min(covered, 3 * usual) - usual)
            self.last = t
            rows.append([last, t, *values])
        if len(rows) > MAX_ROWS:
            self._compact(self.last)

    def newest(self, t: float) -> list[float] | None:
        """The row of the sample of moment `t` that was just added; None where it came late and is not the newest."""
        return self.rows[-1] if self.rows and self.rows[-1][1] == t else None

    def _compact(self, now: float) -> None:
        half = len(self.rows) // 2 & ~1
        old, new = self.rows[:half], self.rows[half:]
        merged = [_merge(old[k], old[k + 1]) for k in range(0, half, 2)]
        self.rows = [row for row in merged if row[1] > now - MAX_AGE_S] + new

    def window(self, after: float, until: float) -> tuple[float, list[float]]:
        """Seconds covered and sums of the rows that end in `(after, until]`; no sums where there is no such row."""
        seconds, sums = 0.0, list[float]()
        for row in self.backwards(after, until):
            seconds += row[1] - row[0]
            if sums:
                for k in range(2, len(row)):
                    sums[k - 2] += row[k]
            else:
                sums = row[2:]
        return seconds, sums

    def backwards(self, after: float, until: float) -> Iterator[list[float]]:
        """The rows that end in `(after, until]`, newest first."""
        for row in reversed(self.rows):
            if row[1] <= after:
                return
            if row[1] <= until:
                yield row

    def between(self, after: float, until: float) -> list[list[float]]:
        """The rows that end in `(after, until]`, oldest first."""
        return [row for row in self.rows if after < row[1] <= until]

    def cut(self, after: float, until: float) -> None:
        """Forget the rows that reach into `(after, until]`."""
        self.rows = [row for row in self.rows if row[1] <= after or row[0] >= until]


def _end(row: list[float]) -> float:
    return row[1]


def _merge(first: list[float], second: list[float]) -> list[float]:
    return [first[0], second[1], *(a + b for a, b in zip(first[2:], second[2:], strict=True))]
