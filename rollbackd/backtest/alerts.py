"""ALERTS samples to alert events: what fired, from when on, and until when.

Prometheus writes a sample of `ALERTS{alertstate="firing"}` at every evaluation while an alert fires, and none after.
So an end is known only from what does not follow, and a whole window is read before the first event is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from rollbackd.metrics.samples import Row
from rollbackd.model import Alert, AlertStatus

METRIC = "ALERTS"
FIRING = f'{METRIC}{{alertstate="firing",%s}}'
USUAL_EVALUATION_S = 60.0
"""How often rules are evaluated where a single sample does not tell."""
MISSED = 2.5
"""So many evaluations without a sample are an end, and fewer a gap."""
_LENGTH = 500  # the bound of model.Name and model.Text


@dataclass
class _Fired:
    moments: list[float] = field(default_factory=list)
    interval: float = 0.0


class AlertHistory:
    """The alerts of one service. Series that differ in other labels than name and severity are one alert."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._fired: dict[tuple[str, str], _Fired] = {}

    def take(self, rows: Iterable[Row]) -> None:
        """Take in the next page."""
        for row in rows:
            if not row.values:
                continue
            name = row.metric.get("alertname", "")[:_LENGTH] or "unnamed"
            severity = row.metric.get("severity", "")[:_LENGTH] or "warning"
            fired = self._fired.setdefault((name, severity), _Fired())
            moments = [t for t, _ in row.values]
            steps = [later - earlier for earlier, later in pairwise(moments)]
            fired.interval = max(fired.interval, median(steps) if steps else 0.0)
            fired.moments += moments

    def events(self, until: float) -> list[Alert]:
        """Everything that was taken in as events, in order of time. One that fires near `until` has no end yet."""
        found = [event for key, fired in self._fired.items() for event in self._episodes(*key, fired, until)]
        return sorted(found, key=lambda event: event.t)

    def _episodes(self, name: str, severity: str, fired: _Fired, until: float) -> Iterator[Alert]:
        interval = fired.interval or USUAL_EVALUATION_S
        began = last = None
        for t in sorted(fired.moments):
            if last is not None and t - last > MISSED * interval:
                yield self._event(last + interval, name, severity, "resolved")
                began = None
            if began is None:
                began = t
                yield self._event(t, name, severity, "firing")
            last = t
        if last is not None and until - last > MISSED * interval:
            yield self._event(last + interval, name, severity, "resolved")

    def _event(self, t: float, name: str, severity: str, status: AlertStatus) -> Alert:
        return Alert(t=t, service=self._service, name=name, status=status, severity=severity)
