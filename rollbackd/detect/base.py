"""What a rule is: a mutable record of the evidence about one deployment, fed event by event.

A rule is pure: what it concludes follows from the events and the scene alone. It is also plain data (a msgspec
Struct), so a watch survives a restart in the middle of its bake. A rule says that something got worse since the
deployment; whether the deployment is to blame for it is for `decide/blame.py` to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, TypeAlias

import msgspec

from rollbackd.detect.history import ANY_VERSION, History
from rollbackd.detect.settings import Rules
from rollbackd.model import AnyEvent, Evidence, Verdict

Trouble: TypeAlias = Literal["errors", "latency", "traffic", "probe", "log", "log_rate", "alert", "level"]
"""Kinds of trouble that services can share."""

BASELINE_S = 3600.0
"""How far back the time before a deployment counts as its baseline."""
RECENT_S = 300.0
"""The last stretch before the deployment, in which trouble may have begun already."""
SETTLING_WARMUPS = 5.0
"""So many warm-ups after a deployment, trouble that is shrinking is let shrink."""


@dataclass(slots=True)
class Scene:
    """What a rule may look at beside the event: the deployment, the history and the policy.

    `alpha` is the rule's own share of the probability of a wrong rollback; `warmup` and `bake` are seconds. `now` is
    the newest event's time.
    """

    rules: Rules
    alpha: float
    warmup: float
    bake: float
    history: History
    version: str
    previous: str | None
    deployed_at: float
    now: float

    @property
    def warm_at(self) -> float:
        """When the warm-up allowance ends."""
        return self.deployed_at + self.warmup

    @property
    def settles(self) -> bool:
        """Whether the release is so young that trouble which is shrinking may pass by itself."""
        return self.now < self.deployed_at + SETTLING_WARMUPS * self.warmup

    def concerns(self, version: str | None) -> bool:
        """Whether a sample of this version label is about the new release, or about both in one stream."""
        return version is None or version == self.version

    def own(self, streams: Mapping[str, object]) -> str:
        """Of these streams the one that holds the new release: its own, else that of all versions."""
        return self.version if self.version in streams else ANY_VERSION

    def others(self, streams: Mapping[str, object]) -> tuple[str, ...]:
        """Of these streams those that hold what ran before: all but the new release's own."""
        return tuple(key for key in sorted(streams) if key != self.version)

    def shows(self, own: str, key: str, end: float) -> bool:
        """Whether a sample of stream `key` that ends then belongs to the course of stream `own`: it is its own, or,
        from before the deployment, of one that it followed."""
        return key == own or (own != ANY_VERSION and end <= self.deployed_at)

    def beside(self, streams: Mapping[str, object]) -> tuple[str, ...]:
        """Of these streams those of other releases that may run beside the new one, where sources tell them apart.

        The stream of all versions is none of them: since the deployment it holds the new release as well.
        """
        if self.version not in streams:
            return ()
        return tuple(key for key in sorted(streams) if key not in (self.version, ANY_VERSION))


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule holds against the release, for blame to compare with others.

    `since` is the onset, `latest` the latest moment at which it may have been, where that can be told. `size` is how
    bad it is: the excess share for errors, the factor for latency, levels and error lines, the share that is left for
    traffic, seconds down for probes. `detail` names the log signature, the alert or the gauge.
    """

    trouble: Trouble
    since: float
    latest: float | None = None
    size: float = 0.0
    detail: str = ""


class Rule(msgspec.Struct, tag_field="rule"):
    """One rule's baseline and evidence about one deployment. Subclasses are tagged with the rule's name."""

    wants: ClassVar[tuple[type, ...]]
    """Kinds of events the rule looks at."""

    @classmethod
    def open(cls, scene: Scene) -> Self:
        """Begin: take the baseline from the scene's history, as it is at the moment of the deployment."""
        raise NotImplementedError

    def fresh(self) -> Self:
        """The same baseline without evidence: to judge whether a rollback restored what was."""
        raise NotImplementedError

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        """Take one event of the service of a kind that is wanted; the history already holds it."""
        raise NotImplementedError

    @property
    def strength(self) -> float:
        """Evidence that the release is worse, comparable with `threshold`."""
        raise NotImplementedError

    @property
    def threshold(self) -> float:
        """The strength that convicts."""
        raise NotImplementedError

    def convicts(self, scene: Scene) -> bool:
        """Whether the evidence suffices and has lasted."""
        return self.strength >= self.threshold > 0

    def charge(self, scene: Scene) -> Charge:
        """What is held against the release; asked only of a rule that convicts."""
        raise NotImplementedError

    def excuse(self, scene: Scene) -> None:
        """Something else explains what it convicts for. Most rules go on looking; see those that remember it."""

    def standing(self, scene: Scene, since: float) -> Verdict:
        """How the signal stands against the baseline from `since` until now, whatever was before."""
        raise NotImplementedError

    def evidence(self, scene: Scene) -> Evidence:
        """Everything the rule knows, in words and numbers."""
        raise NotImplementedError


def decades(alpha: float) -> float:
    """The strength, in decades, at which a test of level `alpha` convicts."""
    return math.log10(1 / alpha)


def rule_name(rule: Rule) -> str:
    """The rule's name, as operators write it."""
    return str(rule.__struct_config__.tag)
