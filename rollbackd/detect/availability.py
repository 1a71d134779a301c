"""Rule `availability`: black-box probes of the new release fail."""

from __future__ import annotations

from typing import ClassVar, Self

from rollbackd.detect.base import BASELINE_S, Charge, Rule, Scene
from rollbackd.detect.chart import course
from rollbackd.detect.sequential import wilson
from rollbackd.detect.settings import AvailabilitySettings
from rollbackd.model import AnyEvent, Evidence, Probe, Verdict

WINDOW_S = 300.0
"""Down time is added up over this long, so that a service that comes and goes is caught as well."""
USUALLY_UP = 0.98
"""A service is back when no more probes fail than this leaves room for, or than usual."""
USUALLY_DOWN = 0.3
"""Where a larger share of probes failed before the deployment, they say nothing about it."""
TOGETHER_S = 1.0
"""Failures closer together than this are remembered as one."""


class Availability(Rule, tag="availability"):
    """Seconds down among the last five minutes' probes since the deployment; not statistics, but persistence."""

    wants: ClassVar[tuple[type, ...]] = (Probe,)

    down_for: float
    usual: tuple[float, float] = (0.0, 0.0)
    downs: list[tuple[float, float]] = []
    onset: float | None = None

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.availability or AvailabilitySettings()
        at = scene.deployed_at
        _, sums = scene.history.probes.window(at - BASELINE_S, at)
        return cls(down_for=settings.down_for, usual=(sums[0], sums[1]) if sums else (0.0, 0.0))

    def fresh(self) -> Self:
        return type(self)(self.down_for, self.usual)

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        assert isinstance(event, Probe)  # noqa: S101
        if event.t <= scene.deployed_at:
            return
        if self.downs:
            self.downs = [down for down in self.downs if down[0] > event.t - WINDOW_S]
        if event.up:
            if not self.downs:
                self.onset = None
            return
        if self.says_nothing:
            return
        row = scene.history.probes.newest(event.t)
        if row is None:
            return
        seconds = min(row[1] - row[0], 3 * scene.history.probes.interval)
        if self.downs and event.t - self.downs[-1][0] < TOGETHER_S:
            self.downs[-1] = (self.downs[-1][0], self.downs[-1][1] + seconds)
        else:
            self.downs.append((event.t, seconds))
        if self.onset is None:
            self.onset = event.t

    @property
    def says_nothing(self) -> bool:
        """Whether probes failed so often before that their failing tells nothing about a release."""
        return self.usual[1] > 0 and wilson(self.usual[0], self.usual[1])[0] > USUALLY_DOWN

    @property
    def strength(self) -> float:
        """Seconds down, less twice what fails anyway in the time they are spread over."""
        if not self.downs:
            return 0.0
        share = self.usual[0] / self.usual[1] if self.usual[1] else 0.0
        spread = self.downs[-1][0] - self.downs[0][0] + self.downs[0][1]
        return max(0.0, sum(seconds for _, seconds in self.downs) - 2 * share * spread)

    @property
    def threshold(self) -> float:
        return max(self.down_for, 1e-3)

    def charge(self, scene: Scene) -> Charge:
        since = self.downs[0][0] - self.downs[0][1] if self.downs else scene.deployed_at
        return Charge(trouble="probe", since=since, size=sum(seconds for _, seconds in self.downs))

    def standing(self, scene: Scene, since: float) -> Verdict:
        _, sums = scene.history.probes.window(since, scene.now)
        if not sums or self.says_nothing:
            return "insufficient"
        usual = 2 * self.usual[0] / self.usual[1] if self.usual[1] else 0.0
        return "degraded" if sums[0] > sums[1] * max(1 - USUALLY_UP, usual) and sums[0] >= 2 else "healthy"

    def evidence(self, scene: Scene) -> Evidence:
        _, sums = scene.history.probes.window(scene.deployed_at, scene.now)
        failed, asked = (sums[0], sums[1]) if sums else (0.0, 0.0)
        summary = f"{failed:.0f} of {asked:.0f} probes failed, {self.strength:.0f} s of the last five minutes down"
        return Evidence(
            rule="availability",
            signal="probe",
            verdict=self._verdict(failed, asked, scene),
            summary=summary if asked else "no probe has been seen since the deployment",
            unit="ratio",
            baseline=self.usual[0] / self.usual[1] if self.usual[1] else None,
            observed=failed / asked if asked else None,
            interval=wilson(failed, asked) if asked else None,
            samples=asked,
            strength=self.strength,
            threshold=self.threshold,
            onset=self.onset,
            chart=course(scene.history.probes.rows, scene, lambda row: row[2] / row[3] if row[3] else None),
        )

    def _verdict(self, failed: float, asked: float, scene: Scene) -> Verdict:
        """Never healthy while most probes fail, whatever they did before."""
        if self.convicts(scene):
            return "degraded"
        return "insufficient" if not asked or self.says_nothing or failed > asked / 2 else "healthy"
