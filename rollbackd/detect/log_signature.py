"""Rule `log_signature`: the new release logs errors of a kind never seen before."""

from __future__ import annotations

import math
from typing import ClassVar, Self

import msgspec

from rollbackd.detect.base import Charge, Rule, Scene, decades
from rollbackd.detect.history import ERROR_LEVELS
from rollbackd.detect.sequential import LN10, beginning_weight, excess_evidence
from rollbackd.detect.settings import LogSignatureSettings
from rollbackd.model import AnyEvent, Evidence, Log, Verdict

MAX_NEW = 50
"""New signatures followed a deployment; a release that logs more kinds of errors than this is caught by the first."""


class NewSignature(msgspec.Struct):
    """A signature first seen since the deployment: how often, when first and last, the log weight of its test, and its
    strength in decades."""

    count: int
    first: float
    last: float
    weight: float
    strength: float = 0.0


class LogSignature(Rule, tag="log_signature"):
    """Sequential test of how often error lines come whose signature was never seen before the deployment.

    A likelihood ratio of Poisson counts since the first such line, against `per_minute` lines; signatures share alpha
    in the order in which they come, as 1/(k(k+1)); `worst` is the one with the most evidence. One convicts that has
    been logged `lines` times over at least a warm-up's time: a handful of lines, or a burst while starting, is no
    reason. `suspects` are the signatures that the undone release brought, which a rollback has to silence.
    """

    wants: ClassVar[tuple[type, ...]] = (Log,)

    settings: tuple[int, float]
    limit: float
    lasting: float
    known_since: float | None = None
    new: dict[str, NewSignature] = {}
    shared: list[str] = []
    suspects: tuple[str, ...] = ()
    worst: str | None = None

    @classmethod
    def open(cls, scene: Scene) -> Self:
        settings = scene.rules.log_signature or LogSignatureSettings()
        return cls(
            settings=(settings.lines, settings.per_minute / 60),
            limit=decades(scene.alpha),
            lasting=scene.warmup,
            known_since=scene.history.first_at,
        )

    def fresh(self) -> Self:
        return type(self)(self.settings, self.limit, self.lasting, self.known_since, suspects=tuple(self.new))

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        assert isinstance(event, Log)  # noqa: S101
        if event.level.lower() not in ERROR_LEVELS or event.t <= scene.deployed_at or not self._history_reaches(scene):
            return
        text, other = scene.history.newest_signature, scene.history.merged_signature
        if other in self.new and other != text and other not in scene.history.signatures:
            self.new[text] = self.new.pop(other)  # it was another wording of this
            self._weigh()
        seen = scene.history.signatures.get(text)
        if seen is None or text in self.shared:
            return
        if seen.first <= scene.deployed_at and (seen.widened or 0.0) <= scene.deployed_at:
            return  # known; a wording that first came since is new, however like an old one it is
        if not scene.concerns(event.version):
            self.shared = [*self.shared, text][-MAX_NEW:]  # the old release beside it says it as well
            self.new.pop(text, None)
            self._weigh()
            return
        found = self.new.get(text)
        if found is not None:
            found.count, found.last = found.count + event.count, max(event.t, found.last)
        elif len(self.new) < MAX_NEW:
            k = len(self.new) + 1
            age = event.t - scene.deployed_at
            weight = beginning_weight(age, scene.warmup, scene.warmup, scene.bake) - math.log(k * (k + 1))
            found = self.new[text] = NewSignature(event.count, event.t, event.t, weight)
        if found is not None:
            found.strength = self._strength(found)
            self._weigh()

    def _history_reaches(self, scene: Scene) -> bool:
        """Whether the service was watched long enough before for "never seen" to mean something."""
        return self.known_since is not None and self.known_since <= scene.deployed_at - 2 * self.lasting

    def _weigh(self) -> None:
        """Find the worst anew; of a storm of different errors, most are not followed and do not come here."""
        self.worst = max(self.new, key=lambda text: self.new[text].strength, default=None)

    def _worst(self) -> tuple[str, NewSignature] | None:
        return (self.worst, self.new[self.worst]) if self.worst is not None else None

    @property
    def strength(self) -> float:
        return self.new[self.worst].strength if self.worst is not None else 0.0

    def _strength(self, seen: NewSignature) -> float:
        """Decades; short of what convicts until there were enough lines over long enough."""
        lines, per_second = self.settings
        lasted = seen.last - seen.first
        found = max((excess_evidence(seen.count - 1, per_second * lasted) + seen.weight) / LN10, 0.0)
        share = min(seen.count / lines, lasted / self.lasting if self.lasting > 0 else 1.0)
        return found if share >= 1 else min(found, self.limit * share)

    @property
    def threshold(self) -> float:
        return self.limit

    def charge(self, scene: Scene) -> Charge:
        worst = self._worst()
        assert worst is not None  # noqa: S101  it convicts
        return Charge(trouble="log", since=worst[1].first, detail=worst[0])

    def standing(self, scene: Scene, since: float) -> Verdict:
        """Silence proves nothing, unless it is the silence of the very messages that convicted."""
        seen = scene.history.signatures
        if any(text in seen and seen[text].last > since for text in self.suspects):
            return "degraded"
        if any(one.last > since and one.count > 1 for one in self.new.values()):
            return "degraded"
        return "healthy" if self.suspects else "insufficient"

    def evidence(self, scene: Scene) -> Evidence:
        worst = self._worst()
        verdict: Verdict = "degraded" if self.convicts(scene) else "healthy"
        if not scene.history.logs:
            verdict, summary = "insufficient", "no log line has ever been seen"
        elif not self._history_reaches(scene):
            verdict, summary = "insufficient", "the log was not followed long enough before to know what is new"
        elif worst is None:
            summary = "no error message that was not known before"
        else:
            text, found = worst
            summary = f"{found.count} lines in {found.last - found.first:.0f} s of an error never seen before: {text}"
        return Evidence(
            rule="log_signature",
            signal="error log",
            verdict=verdict,
            summary=summary,
            unit="lines",
            baseline=0.0,
            observed=float(worst[1].count) if worst is not None else 0.0,
            samples=float(sum(one.count for one in self.new.values())),
            strength=self.strength,
            threshold=self.threshold,
            onset=worst[1].first if worst is not None else None,
        )
