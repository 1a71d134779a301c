"""Rule `alert`: somebody else's alert about the service fires after the deployment, and stays."""

from __future__ import annotations

from typing import ClassVar, Self

from rollbackd.detect.base import BASELINE_S, Charge, Rule, Scene
from rollbackd.detect.settings import AlertSettings
from rollbackd.model import Alert, AnyEvent, Evidence, Gauge, Latency, Log, Probe, Requests, Verdict

OFTEN = 2
"""An alert that fired so often in the hour before the deployment comes and goes by itself."""


class AlertRule(Rule, tag="alert"):
    """Follows the worst alert that began after the deployment. An older one is not held against it.

    `suspect` is the alert that convicted the release which a rollback undid.
    """

    wants: ClassVar[tuple[type, ...]] = (Alert, Requests, Latency, Gauge, Probe, Log)

    severities: tuple[str, ...]
    lasting: float
    name: str | None = None
    since: float | None = None
    fired: float = 0.0
    suspect: str | None = None
    excused: dict[str, float] = {}

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.alert or AlertSettings()
        return cls(tuple(s.lower() for s in settings.severities), settings.lasting)

    def fresh(self) -> Self:
        return type(self)(self.severities, self.lasting, suspect=self.name)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        """Every event moves time on, so every event is looked at."""
        if not scene.history.alerts:
            return
        self.name, self.since, self.fired = None, None, 0.0
        for name, seen in scene.history.alerts.items():
            if seen.until is not None or seen.since <= scene.deployed_at or self.excused.get(name) == seen.since:
                continue
            if sum(scene.deployed_at - BASELINE_S < at <= scene.deployed_at for at in seen.before) >= OFTEN:
                continue  # it comes and goes, and did before
            if seen.severity.lower() not in self.severities or (self.since is not None and seen.since >= self.since):
                continue
            self.name, self.since, self.fired = name, seen.since, scene.now - seen.since

    def charge(self, scene: Scene) -> Charge:
        since = self.since if self.since is not None else scene.deployed_at
        return Charge(trouble="alert", since=since, detail=self.name or "")

    def excuse(self, scene: Scene) -> None:
        """This firing of the alert is explained by trouble that services share, and stays so after that trouble is
        over."""
        if self.name is not None and self.since is not None:
            known = {name: at for name, at in self.excused.items() if name in scene.history.alerts}
            self.excused = {**known, self.name: self.since}
            self.name, self.since, self.fired = None, None, 0.0

    @property
    def strength(self) -> float:
        return self.fired if self.name is not None else 0.0

    @property
    def threshold(self) -> float:
        return max(self.lasting, 1e-3)

    def standing(self, scene: Scene, since: float) -> Verdict:
        """Silence of alerts proves nothing; only the end of the very alert that convicted speaks for health."""
        if self.name is not None:
            return "degraded"
        seen = scene.history.alerts.get(self.suspect) if self.suspect is not None else None
        if seen is None:
            return "insufficient"
        return "degraded" if seen.until is None else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        summary = "no alert that began after the deployment"
        if self.name is not None:
            summary = f"alert {self.name} has been firing for {self.fired:.0f} s"
        return Evidence(
            rule="alert",
            signal="alert",
            verdict="degraded" if self.convicts(scene) else "insufficient",
            summary=summary,
            unit="s",
            observed=self.fired,
            samples=1.0 if self.name is not None else 0.0,
            strength=self.strength,
            threshold=self.threshold,
            onset=self.since,
        )
