"""A service's sources while they run: what each gave, whether it can be read, and what it dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import RollbackdError
from rollbackd.live.pipeline import Pipeline
from rollbackd.model import AnyEvent
from rollbackd.sources.base import Source
from rollbackd.telemetry import Metrics
from rollbackd.web.views import SourceState, SourceView

MAX_REASONS = 20
"""Reasons for dropping told apart, a source; what comes beyond counts as `other`."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources")


@dataclass
class Stream:
    """One source of one service, and its sink: the source reports here."""

    service: str
    label: str
    kind: str
    source: Source
    pipeline: Pipeline
    clock: Clock
    metrics: Metrics
    state: SourceState = "starting"
    since: float = 0.0
    reason: str = ""
    events: int = 0
    dropped_by: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.since = self.clock.now()

    def show(self) -> None:
        """Let its metrics appear."""
        self.metrics.source_up.labels(self.service, self.label).set(0)

    async def run(self) -> None:
        """Run the source until cancelled; one that crashes, or ends, is down."""
        try:
            await self.source.run(self)
            raise RuntimeError(f"source {self.label} of {self.service} ended by itself")
        except RollbackdError as error:
            self.down(str(error))
            raise
        except Exception as error:
            self.down(f"it crashed ({type(error).__name__}), the log says more")
            raise

    async def emit(self, event: AnyEvent) -> None:
        await self.pipeline.submit(event)
        self.events += 1
        self.metrics.source_events.labels(self.service, self.label).inc()

    def up(self) -> None:
        self._turn("up", "")

    def down(self, reason: str) -> None:
        self._turn("down", reason)

    def dropped(self, reason: str, count: int = 1) -> None:
        if reason not in self.dropped_by and len(self.dropped_by) >= MAX_REASONS:
            reason = "other"
        self.dropped_by[reason] += count
        self.metrics.dropped.labels(self.service, self.label, reason).inc(count)

    def _turn(self, state: SourceState, reason: str) -> None:
        self.reason = reason
        if state == self.state:
            return
        self.state, self.since = state, self.clock.now()
        self.metrics.source_up.labels(self.service, self.label).set(1 if state == "up" else 0)
        if state == "down":
            log.warning("source_down", service=self.service, source=self.label, reason=reason)
        else:
            log.info("source_up", service=self.service, source=self.label)

    def view(self) -> SourceView:
        """The stream as the API shows it."""
        return SourceView(
            name=self.label,
            kind=self.kind,
            state=self.state,
            since=self.since,
            reason=self.reason,
            events=self.events,
            dropped=dict(self.dropped_by),
        )

    def forget(self) -> None:
        """Take its metrics away: the service no longer has this source."""
        self.metrics.source_up.remove(self.service, self.label)
