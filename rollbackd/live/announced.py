"""Deployments announced as finished, until the target, asked, shows them: what is in place, the target knows best.

An announcement that the target contradicts would be taken for a deployment, and the next look at the target for its
rollback, of which neither ever happened.
"""

from __future__ import annotations

from collections import deque

import msgspec
import structlog

from rollbackd.aiokit import Clock
from rollbackd.explain.amounts import moment
from rollbackd.ledger.base import InboxItem
from rollbackd.live.pipeline import Pipeline
from rollbackd.model import MAX_BACKWARDS_S, DeploymentEvent

GRACE_S = 300.0
"""How long a target may take to show what was announced."""
HELD = 32
"""Announcements of one service that may wait; of more, the oldest are forgotten."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets")


class Announced:
    """Announcements of one service that wait for a look at its target."""

    def __init__(self, service: str, pipeline: Pipeline, clock: Clock) -> None:
        self._service, self._pipeline, self._clock = service, pipeline, clock
        self._held: deque[tuple[InboxItem, DeploymentEvent, float]] = deque()
        self.contradiction: str | None = None
        """The last announcement that the target did not bear out, as a sentence, until another deployment is seen."""

    def __bool__(self) -> bool:
        return bool(self._held)

    def hold(self, item: InboxItem, event: DeploymentEvent) -> None:
        """Let it wait until the target was asked."""
        self._pipeline.hold(item)
        self._held.append((item, event, self._clock.now() + GRACE_S))
        if len(self._held) > HELD:
            self._overtaken(*self._held.popleft()[:2])

    def compare(self, in_place: str | None) -> None:
        """The target was asked, after all of these were announced: what it shows is believed, what it does not show
        within the grace is not."""
        shown = max((at for at, held in enumerate(self._held) if held[1].version == in_place), default=-1)
        for _ in range(shown + 1):
            item, event, _until = self._held.popleft()
            if event.version == in_place:
                self._pass_on(item, event)
            else:
                self._overtaken(item, event)
        while self._held and self._clock.now() >= self._held[0][2]:
            item, event, _until = self._held.popleft()
            self._pipeline.drop(item)
            log.warning("announcement_contradicted", service=self._service, version=event.version, in_place=in_place)
            self.contradiction = (
                f"{event.version} was announced as deployed at {moment(event.t)}, and the target has "
                f"{in_place or 'nothing'} in place: it is not taken for a deployment. Is the version written as the "
                "target names it, and the service the right one?"
            )

    def believe(self) -> None:
        """Nothing speaks against them: the target cannot be asked."""
        while self._held:
            self._pass_on(*self._held.popleft()[:2])

    def _pass_on(self, item: InboxItem, event: DeploymentEvent) -> None:
        t = max(event.t, self._clock.now() - MAX_BACKWARDS_S / 2)
        self._pipeline.submit_accepted(msgspec.structs.replace(item, event=msgspec.structs.replace(event, t=t)))
        self.contradiction = None

    def _overtaken(self, item: InboxItem, event: DeploymentEvent) -> None:
        """Another one took its place before the target was seen to show it."""
        self._pipeline.drop(item)
        log.info("announcement_overtaken", service=self._service, version=event.version)
