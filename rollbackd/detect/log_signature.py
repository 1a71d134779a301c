"""Rule `log_signature`: the new release logs errors of a kind never seen before."""

from __future__ import annotations

from typing import Self

from rollbackd.detect.base import Rule, Scene
from rollbackd.detect.history import ERROR_LEVELS
from rollbackd.detect.settings import LogSignatureSettings
from rollbackd.detect.signature import signature
from rollbackd.model import AnyEvent, Evidence, Log, Verdict

MAX_NEW = 50
"""New signatures followed a deployment; a release that logs more kinds of errors than this is caught by the first."""


class LogSignature(Rule, tag="log_signature"):
    """Counts error lines whose signature was never seen before the deployment.

    A signature convicts once it was logged often enough over at least a warm-up's time: a handful of lines, or a
    burst while starting, is no reason. `suspects` are the signatures that the undone release brought, which a rollback
    has to silence.
    """

    lines: int
    lasting: float
    known_since: float | None = None
    new: dict[str, tuple[int, float, float]] = {}
    suspects: tuple[str, ...] = ()

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.log_signature or LogSignatureSettings()
        return cls(lines=settings.lines, lasting=scene.warmup, known_since=scene.history.first_at)

    def fresh(self) -> Self:
        return type(self)(self.lines, self.lasting, self.known_since, suspects=tuple(self.new))

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        if not isinstance(event, Log) or event.level.lower() not in ERROR_LEVELS or event.t <= scene.deployed_at:
            return
        if not scene.concerns(event.version) or not self._history_reaches(scene):
            return
        text = signature(event.message)
        seen = scene.history.signatures.get(text)
        if seen is None or seen.first <= scene.deployed_at or scene.neighbours("log", text) is not None:
            return
        count, first, _ = self.new.get(text, (0, event.t, event.t))
        if count or len(self.new) < MAX_NEW:
            self.new[text] = (count + 1, first, event.t)

    def _history_reaches(self, scene: Scene) -> bool:
        """Whether the service was watched long enough before for "never seen" to mean something."""
        return self.known_since is not None and self.known_since <= scene.deployed_at - 2 * self.lasting

    def _worst(self) -> tuple[str, tuple[int, float, float]] | None:
        return max(self.new.items(), key=lambda item: self._strength(item[1]), default=None)

    @property
    def strength(self) -> float:
        worst = self._worst()
        return self._strength(worst[1]) if worst is not None else 0.0

    def _strength(self, seen: tuple[int, float, float]) -> float:
        """Lines; short of what convicts until they have kept coming for `lasting` seconds."""
        count, first, last = seen
        if last - first >= self.lasting:
            return float(count)
        return min(count, self.lines) * (last - first) / self.lasting

    @property
    def threshold(self) -> float:
        return float(self.lines)

    def standing(self, scene: Scene, since: float) -> Verdict:
        """Silence proves nothing, unless it is the silence of the very messages that convicted."""
        seen = scene.history.signatures
        if any(text in seen and seen[text].last > since for text in self.suspects):
            return "degraded"
        if any(last > since and count > 1 for count, _, last in self.new.values()):
            return "degraded"
        return "healthy" if self.suspects else "insufficient"

    def evidence(self, scene: Scene) -> Evidence:
        worst = self._worst()
        verdict: Verdict = "degraded" if self.convicts else "healthy"
        if not self._history_reaches(scene):
            verdict, summary = "insufficient", "the log was not followed long enough before to know what is new"
        elif worst is None:
            summary = "no error message that was not known before"
        else:
            text, (count, first, last) = worst
            summary = f"{count} lines in {last - first:.0f} s of an error never seen before: {text}"
        return Evidence(
            rule="log_signature",
            signal="error log",
            verdict=verdict,
            summary=summary,
            unit="lines",
            baseline=0.0,
            observed=float(worst[1][0]) if worst is not None else 0.0,
            samples=float(sum(count for count, _, _ in self.new.values())),
            strength=self.strength,
            threshold=self.threshold,
            onset=worst[1][1] if worst is not None else None,
        )
