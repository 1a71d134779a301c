"""What a rule is: a mutable record of the evidence about one deployment, fed event by event.

A rule is pure: what it concludes follows from the events and the scene alone. It is also plain data (a msgspec
Struct), so a watch survives a restart in the middle of its bake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import msgspec

from rollbackd.detect.history import ANY_VERSION, History
from rollbackd.detect.settings import Rules
from rollbackd.model import AnyEvent, Evidence, Verdict

Trouble: TypeAlias = Literal["errors", "latency", "traffic", "probe", "log", "alert", "any"]
"""Kinds of trouble that services can share; `any` is one of the first four that the service itself is in as well."""

BASELINE_S = 3600.0
"""How far back the time before a deployment counts as its baseline."""
RECENT_S = 300.0
"""The last stretch before the deployment, in which trouble may have begun already."""
SEVERE = 0.10
"""Failure beyond the null of more than this share of requests acts within the warm-up, and sooner after it."""


EVERYDAY_WARMUPS = 3.5
"""Trouble no larger than every service has now and then must last longer than it does then: this many warm-ups."""
LONGEST_PATIENCE_WARMUPS = 10.0
"""No history makes a conviction wait longer than this many warm-ups."""


@dataclass
class Scene:
    """What a rule may look at beside the event: the deployment, the history, the policy and the other services.

    `alpha` is the rule's own share of the probability of a wrong rollback; `warmup` and `bake` are seconds.

    `now` is the newest event's time. `neighbours(trouble, detail)` names another service that is in the same trouble
    now without having been deployed, or None.
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
    neighbours: Callable[[Trouble, str], str | None]

    @property
    def warm_at(self) -> float:
        """When the warm-up allowance ends."""
        return self.deployed_at + self.warmup

    def concerns(self, version: str | None) -> bool:
        """Whether a sample of this version label is about the new release, or about both in one stream."""
        return version is None or version == self.version

    def own(self, streams: Mapping[str, object]) -> str:
        """Of these streams the one that holds the new release: its own, else that of all versions."""
        return self.version if self.version in streams else ANY_VERSION

    def others(self, streams: Mapping[str, object]) -> tuple[str, ...]:
        """Of these streams those that hold what ran before: all but the new release's own."""
        return tuple(key for key in sorted(streams) if key != self.version)

    def beside(self, streams: Mapping[str, object]) -> tuple[str, ...]:
        """Of these streams those of other releases that may run beside the new one, where sources tell them apart.

        The stream of all versions is none of them: since the deployment it holds the new release as well.
        """
        return tuple(key for key in self.others(streams) if key != ANY_VERSION) if self.own(streams) else ()

    def patience(self, interval: float, *, severe: bool, mild: bool = False, seen_before: float = 0.0) -> float:
        """Seconds of data that a conviction takes at least, so that no passing blip convicts.

        Trouble shorter than a warm-up is everyday; severe failure is believed in a third of the time, but never in
        fewer than two samples. Mild trouble has to outlast what services have now and then, and all but severe
        trouble the longest stretch of the like, `seen_before` seconds, in the service's own history.
        """
        if severe:
            return max(self.warmup / 3, 2 * interval, 1e-3)
        floor = self.warmup * (EVERYDAY_WARMUPS if mild else 1.0)
        own = min(1.5 * seen_before, self.warmup * LONGEST_PATIENCE_WARMUPS)
        return max(floor, own, 2 * interval, 1e-3)


class Rule(msgspec.Struct, tag_field="rule"):
    """One rule's baseline and evidence about one deployment. Subclasses are tagged with the rule's name."""

    @classmethod
    def open(cls, scene: Scene) -> Self:
        """Begin: take the baseline from the scene's history, as it is at the moment of the deployment."""
        raise NotImplementedError

    def fresh(self) -> Self:
        """The same baseline without evidence: to judge whether a rollback restored what was."""
        raise NotImplementedError

    def observe(self, event: AnyEvent, scene: Scene) -> None:
        """Take one event of the service; the history already holds it."""
        raise NotImplementedError

    @property
    def strength(self) -> float:
        """Evidence that the release is worse, comparable with `threshold`."""
        raise NotImplementedError

    @property
    def threshold(self) -> float:
        """The strength that convicts."""
        raise NotImplementedError

    @property
    def convicts(self) -> bool:
        """Whether the evidence suffices."""
        return self.strength >= self.threshold > 0

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
