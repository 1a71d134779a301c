"""Streams that others push: when each was last heard, so that a sender which fell silent is seen as silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import Gauge

from rollbackd.aiokit import Clock
from rollbackd.model import AnyEvent, Log
from rollbackd.web.views import SourceView

SILENT_S = 300.0
"""Measurements of which nothing came for so long are down: they are pushed every minute at the least. Lines are pushed
when there is something to say, so their silence says nothing."""


@dataclass
class Heard:
    """One service's stream through one intake."""

    since: float
    last: float
    events: int = 0
    measured: bool = False
    """Whether more than lines came."""


class Pushed:
    """What came of each configured service through each intake, as sources are shown."""

    def __init__(self, configured: Callable[[str], bool], clock: Clock) -> None:
        self._configured, self._clock = configured, clock
        self._heard: dict[str, dict[str, Heard]] = {}

    def heard(self, intake: str, events: Sequence[AnyEvent]) -> None:
        """Note the telemetry of a delivery."""
        now = self._clock.now()
        measured = {event.service for event in events if not isinstance(event, Log)}
        for service, count in Counter(event.service for event in events).items():
            if not self._configured(service):
                continue
            streams = self._heard.setdefault(service, {})
            one = streams.get(intake)
            if one is None or now - one.last > SILENT_S:
                one = streams[intake] = Heard(now, now, one.events if one is not None else 0)
            one.last, one.events = now, one.events + count
            one.measured = one.measured or service in measured

    def views(self, service: str) -> list[SourceView]:
        """The service's pushed streams as the API shows them."""
        now = self._clock.now()
        return [_view(intake, one, now) for intake, one in self._heard.get(service, {}).items()]

    def tell(self, services: Iterable[str], source_up: Gauge) -> None:
        """Set the metric of each stream."""
        for service in services:
            for view in self.views(service):
                source_up.labels(service, view.name).set(1 if view.state == "up" else 0)


def _view(intake: str, one: Heard, now: float) -> SourceView:
    silent = one.measured and now - one.last > SILENT_S
    return SourceView(
        name=intake,
        kind=intake,
        state="down" if silent else "up",
        since=one.last + SILENT_S if silent else one.since,
        reason=f"nothing was pushed for {(now - one.last) / 60:.0f} min" if silent else "",
        events=one.events,
        dropped={},
    )
