"""What the demo tells: moments while it runs, and a report at its end. The report is what `--json` prints."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec

from rollbackd.demo.stage import Fault
from rollbackd.demo.traffic import Tally
from rollbackd.model import Decision
from rollbackd.web.views import ServiceView

Event: TypeAlias = Literal[
    "started", "good", "deployed", "first_bad_request", "detected", "held", "reverted", "verified", "accepted", "failed"
]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened at `t` (Unix seconds), `s` seconds after the new release was deployed (negative: before)."""

    event: Event
    t: float
    s: float | None
    text: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How it went. Seconds count from the moment the new release was deployed; what did not happen is null.

    `total_requests`, `failed_requests`, `slow_requests` and `harmed_requests` (their sum) count from there to the end.
    """

    fault: Fault
    ok: bool
    problem: str | None
    first_bad_s: float | None
    detected_s: float | None
    reverted_s: float | None
    verified_s: float | None
    accepted_s: float | None
    total_requests: int
    failed_requests: int
    slow_requests: int
    harmed_requests: int
    decision_id: str | None
    decision: Decision | None
    timeline: tuple[Moment, ...]


class Audience(Protocol):
    """Who watches."""

    def moment(self, moment: Moment) -> None:
        """Something happened."""

    def progress(self, phase: str, service: ServiceView | None, tally: Tally) -> None:
        """How things stand, several times a second."""


class Timeline:
    """Moments in the order they became known, each told once."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._moments: list[Moment] = []
        self.deployed_at: float | None = None

    def add(self, event: Event, t: float, text: str) -> None:
        """Tell of a moment, unless one of that kind was told before."""
        if self.at(event) is not None:
            return
        since = None if self.deployed_at is None else round(t - self.deployed_at, 3)
        moment = Moment(event=event, t=round(t, 3), s=since, text=text)
        self._moments.append(moment)
        self._audience.moment(moment)

    def at(self, event: Event) -> Moment | None:
        """The moment of that kind."""
        return next((moment for moment in self._moments if moment.event == event), None)

    def since(self, event: Event) -> float | None:
        """Seconds from the deployment to the moment of that kind."""
        moment = self.at(event)
        return moment.s if moment is not None else None

    @property
    def moments(self) -> tuple[Moment, ...]:
        """All of them in order of time."""
        return tuple(sorted(self._moments, key=lambda moment: moment.t))
