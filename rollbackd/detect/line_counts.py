"""How many lines a log has had, errors and others, in steps of ten seconds: what a rate is read from."""

from __future__ import annotations

import msgspec

from rollbackd.detect.series import Series

STEP_S = 10.0
LONGEST_PAUSE_S = 300.0
"""A log that is silent for longer may not have been followed: nobody knows that nothing was logged."""


class LineCounts(msgspec.Struct):
    """Rows `[start, end, errors, others]` of steps that are over, and the step that has `begun`, None where none has.

    A pause becomes a row without lines; after a long one, the next step covers no time.
    """

    series: Series = msgspec.field(default_factory=Series)
    begun: float | None = None
    errors: float = 0.0
    others: float = 0.0

    def add(self, t: float, errors: float, others: float) -> None:
        """Count lines of moment `t`. Late ones count into the step that has begun, unless so late that they would be a
        burst in it."""
        if self.begun is None or t >= self.begun + STEP_S:
            self._begin(t // STEP_S * STEP_S)
        elif t < self.begun - STEP_S:
            return
        self.errors += errors
        self.others += others

    def _begin(self, step: float) -> None:
        if self.begun is not None:
            end = self.begun + STEP_S
            self.series.add(end, (self.errors, self.others))
            if step - end > LONGEST_PAUSE_S:
                self.series.last = None
            elif step > end:
                self.series.add(step, (0.0, 0.0))
        else:
            self.series.last = step
        self.begun, self.errors, self.others = step, 0.0, 0.0
