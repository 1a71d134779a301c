"""What was counted at this time of the day before: a coarse memory of two days."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

ROW_S = 1800.0
"""One row holds so many seconds."""
MAX_ROWS = 100
"""Two days and some."""
DAY_S = 86_400.0


class Days(msgspec.Struct):
    """Rows `[start, sum, ...]` of half an hour each, in order. Sums of another length than before begin anew."""

    rows: list[list[float]] = []

    def add(self, t: float, values: Sequence[float]) -> None:
        """Add a sample to its half hour; one that comes late is added to the newest."""
        start = t - t % ROW_S
        if self.rows and len(self.rows[-1]) != len(values) + 1:
            self.rows = []
        if self.rows and start <= self.rows[-1][0]:
            row = self.rows[-1]
            for k, value in enumerate(values, start=1):
                row[k] += value
            return
        self.rows.append([start, *map(float, values)])
        if len(self.rows) > MAX_ROWS:
            del self.rows[0]

    def cut(self, after: float, until: float) -> None:
        """Forget the half hours that reach into `(after, until]`."""
        self.rows = [row for row in self.rows if row[0] + ROW_S <= after or row[0] >= until]

    def a_day_before(self, t: float) -> list[list[float]]:
        """Sums of the half hours around the same time of the day before: the one that holds it and its nearer
        neighbour, as far as they are known."""
        then = t - DAY_S
        begin = then - then % ROW_S
        nearer = begin + (ROW_S if then - begin > ROW_S / 2 else -ROW_S)
        return [row[1:] for row in self.rows if row[0] in (begin, nearer)]
