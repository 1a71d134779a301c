"""A watch: one deployment under observation, its rules and what came of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rollbackd.decide.policy import Policy
from rollbackd.detect.base import Rule, Scene, rule_name
from rollbackd.detect.history import History
from rollbackd.detect.pack import PACK, AnyRule
from rollbackd.model import Alert, AnyEvent, DeploymentEvent, Evidence, Latency, Log, Probe, Requests, Verdict

EXCUSED_S = 1.0
"""So long an excuse holds for the lines of a log."""


class Watch(msgspec.Struct):
    """One deployment under observation.

    `bakes_from` is when its bake began: the deployment, or later where it had to begin anew. `healthy_since` is since
    when, without a break, a rollback's own watch has found the service back at its baseline. `held` names the guards
    that keep a conviction from being acted upon, and `held_at` is when they were last asked. `excuse` is what else
    explains the trouble that a rule convicts for, while it does, and `excused_at` is when one was last found. `unfed`
    are the rules that have seen nothing since the deployment, each with whether signals from before it have come in
    after it: a source may read the past late.
    """

    service: str
    version: str
    previous: str | None
    deployed_at: float
    bakes_from: float
    is_rollback: bool
    rules: dict[str, AnyRule]
    finished_at: float | None = None
    last_signal_at: float | None = None
    healthy_since: float | None = None
    held: str | None = None
    held_at: float = 0.0
    excuse: str | None = None
    excused_at: float = 0.0
    unfed: dict[str, bool] = {}

    def scene(self, policy: Policy, history: History, now: float) -> Scene:
        """What the rules may look at now."""
        return Scene(
            rules=policy.rules,
            alpha=policy.alpha / max(len(self.rules), 1),
            warmup=policy.warmup,
            bake=policy.bake,
            history=history,
            version=self.version,
            previous=self.previous,
            deployed_at=self.deployed_at,
            now=now,
        )

    def observe(self, event: AnyEvent, scene: Scene) -> list[AnyRule]:
        """Show one event to every rule that looks at its kind; returns those."""
        if event.t > self.deployed_at and self._is_seen_by(event):
            self.last_signal_at = max(event.t, self.last_signal_at or event.t)
        kind = type(event)
        if self.unfed:
            self._feed_first(kind, scene)
        looked = [rule for rule in self.rules.values() if kind in rule.wants]
        for rule in looked:
            rule.observe(event, scene)
        return looked

    def predates(self, event: AnyEvent) -> bool:
        """Whether it is a signal from before the deployment: it says how things were, and nothing about the release."""
        return event.t <= self.deployed_at and not isinstance(event, DeploymentEvent | Alert)

    def learn(self, event: AnyEvent) -> None:
        """Such a signal went into the history: a rule that has seen nothing yet shall have it in its baseline."""
        for name in self.unfed:
            self.unfed[name] |= type(event) in self.rules[name].wants

    def rests(self, event: AnyEvent, now: float) -> bool:
        """Whether an excuse was found so lately that a line of a log has none looked for again: a storm of lines would
        ask for every one of them who else suffers."""
        return self.excuse is not None and isinstance(event, Log) and now - self.excused_at < EXCUSED_S

    def _feed_first(self, kind: type[AnyEvent], scene: Scene) -> None:
        """Before a rule is shown its first event, take its baseline anew where the history reaches further by now."""
        for name in [name for name in self.unfed if kind in self.rules[name].wants]:
            if self.unfed.pop(name):
                self.rules[name] = _as_any(PACK[name].open(scene))

    def _is_seen_by(self, event: AnyEvent) -> bool:
        """Whether the event shows the release at work: its own, and not merely that nothing was there to be counted."""
        if isinstance(event, DeploymentEvent | Alert):
            return False
        if isinstance(event, Probe):
            return event.up
        if event.version is not None and event.version != self.version:
            return False
        if isinstance(event, Requests):
            return event.total > 0
        return not isinstance(event, Latency) or event.buckets["+Inf"] > 0

    def convicting(self, scene: Scene, among: Iterable[Rule] | None = None) -> list[Rule]:
        """The rules (of all, or of these) that convict, the one with the clearest case first."""
        guilty = [rule for rule in (self.rules.values() if among is None else among) if rule.convicts(scene)]
        return sorted(guilty, key=lambda rule: -rule.strength / rule.threshold)

    def evidence(self, scene: Scene) -> tuple[Evidence, ...]:
        """What every rule knows."""
        return tuple(rule.evidence(scene) for rule in self.rules.values())

    def shown(self, scene: Scene) -> tuple[Evidence, ...]:
        """The same for people: while the release warms up, it is forgiven what it shows, and not healthy for that."""
        found = self.evidence(scene)
        if scene.now > scene.warm_at:
            return found
        return tuple(
            msgspec.structs.replace(one, verdict="insufficient") if one.verdict == "healthy" else one for one in found
        )

    def standing(self, scene: Scene, since: float) -> Verdict:
        """How the service stands against its baseline from `since` until now: degraded if any rule says so, healthy if
        at least one can tell and none says otherwise."""
        found = {rule.standing(scene, since) for rule in self.rules.values()}
        if "degraded" in found:
            return "degraded"
        return "healthy" if "healthy" in found else "insufficient"

    def fails_now(self, scene: Scene, since: float) -> bool:
        """Whether requests or probes fail more than they did, from `since` until now: no moment to call a release good.

        Traffic and latency are left out, since over a bake they follow the time of day.
        """
        told = (self.rules[name] for name in ("error_ratio", "availability") if name in self.rules)
        return any(rule.standing(scene, since) == "degraded" for rule in told)

    def verdict(self, evidence: tuple[Evidence, ...], scene: Scene) -> Verdict:
        """What the rules say of the release so far: healthy only if some rule can tell, and none that saw something
        cannot. What something else explains tells nothing about the release, nor does what a release that warms up
        shows."""
        if self.convicting(scene):
            return "degraded" if self.excuse is None else "insufficient"
        if scene.now <= scene.warm_at:
            return "insufficient"
        blind = any(one.verdict == "insufficient" and one.samples > 0 for one in evidence)
        told = any(one.verdict == "healthy" for one in evidence)
        return "healthy" if told and not blind and self.last_signal_at is not None else "insufficient"


def open_watch(event: DeploymentEvent, previous: str | None, policy: Policy, history: History) -> Watch:
    """Begin to watch a deployment; the rules take their baselines from the history as it is now."""
    watch = Watch(event.service, event.version, previous, event.t, event.t, False, {})
    asked = [name for name in PACK if getattr(policy.rules, name) is not None]
    scene = watch.scene(policy, history, event.t)
    scene.alpha = policy.alpha / max(len(asked), 1)
    watch.rules = {name: _as_any(PACK[name].open(scene)) for name in asked}
    watch.unfed = dict.fromkeys(asked, False)
    return watch


def open_rollback_watch(event: DeploymentEvent, previous: str | None, condemned: Watch | None, fresh: Watch) -> Watch:
    """Begin to watch a rollback, against the baseline from before the deployment that it undoes where that is known."""
    rules = condemned.rules if condemned is not None else fresh.rules
    kept = {name: _as_any(rule.fresh()) for name, rule in rules.items()}
    return Watch(event.service, event.version, previous, event.t, event.t, True, kept)


def _as_any(rule: Rule) -> AnyRule:
    assert isinstance(rule, AnyRule), f"{rule_name(rule)} is missing in the pack"  # noqa: S101
    return rule
