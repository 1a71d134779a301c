"""What the engine keeps: plain data, bounded for each service.

Written out, a service takes 8 MiB at the very most, whatever it is fed: its history (see there), 52 releases, and two
watches whose rules keep so many numbers and no more.
"""

from __future__ import annotations

import msgspec

from rollbackd.decide.releases import Releases
from rollbackd.decide.watch import Watch
from rollbackd.detect.history import History
from rollbackd.model import Verdict


class ServiceState(msgspec.Struct):
    """Everything the engine knows of one service.

    `deployed_at` is the moment of the newest deployment, `condemned` the watch that ended with a conviction which no
    deployment has answered yet, `recovery` how the last rollback's watch ended: (version, how it stood), and `proof`
    that watch itself, which goes on telling how the release stands until the next deployment.
    """

    history: History = msgspec.field(default_factory=History)
    releases: Releases = msgspec.field(default_factory=Releases)
    watch: Watch | None = None
    condemned: Watch | None = None
    rollbacks: list[float] = []
    recovery: tuple[str, Verdict] | None = None
    proof: Watch | None = None
    deployed_at: float = 0.0

    @property
    def was_deployed_lately(self) -> bool:
        """Whether a deployment of this service is on trial, or was found guilty and is still in place."""
        return self.condemned is not None or (self.watch is not None and self.watch.previous is not None)

    def goes_back(self, version: str, previous: str | None) -> bool:
        """Whether this deployment undoes the one it replaces: it puts back a release that is no worse than unknown, and
        was there before that one came, or comes in the place of one that was found guilty."""
        known = self.releases.known
        if previous is None or version not in known or known[version].standing not in ("good", "unknown"):
            return False
        if self.condemned is not None and self.condemned.version == previous:
            return True
        return list(known).index(version) < list(known).index(previous)

    def unwatched(self) -> Verdict:
        """What is to be said of the release in place while nothing is on trial: how its last trial ended."""
        current = self.releases.current
        if current is None:
            return "insufficient"
        if self.recovery is not None and self.recovery[0] == current:
            return self.recovery[1]
        record = self.releases.known.get(current)
        return "degraded" if record is not None and record.standing == "bad" else "healthy"


class EngineState(msgspec.Struct):
    """Everything the engine knows."""

    services: dict[str, ServiceState] = {}
    rollbacks: list[float] = []
    now: float = 0.0
