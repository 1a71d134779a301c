"""The engine: `feed(event)` returns what follows from it. A pure function of the events fed so far.

No clock, no I/O, no randomness: time is the newest event's, and the same events give the same outcomes to the bit,
live or from a recording. What no event tells (a pause, a target that is not ready) comes in as `Conditions`, which a
replay leaves alone. All state is plain data, so a snapshot is a serialisation and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from rollbackd.decide.blame import Deployed, Other, comparable, other_explanation
from rollbackd.decide.guards import HOUR, Case, Conditions, ask, outcome_of
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.decide.reasons import decision_of
from rollbackd.decide.state import EngineState, ServiceState
from rollbackd.decide.watch import Watch, open_rollback_watch, open_watch
from rollbackd.decide.witnesses import witnesses
from rollbackd.detect.base import Rule, Scene, rule_name
from rollbackd.errors import Permanent
from rollbackd.model import (
    AnyEvent,
    DeploymentEvent,
    Evidence,
    Outcome,
    Standing,
    Verdict,
    WatchChange,
    WatchState,
)

SNAPSHOT_FORMAT = 5
MAX_SERVICES = 20_000
"""Services remembered; events of further ones are counted in `Engine.refused` and go no further."""
ASK_AGAIN_S = 15.0
"""How often guards that kept a conviction from being acted upon are asked again."""
MAX_ROLLBACKS = 100
"""Moments of past rollbacks remembered, of a service and of the fleet."""


class Peek(msgspec.Struct, frozen=True):
    """One service as the engine sees it now. `ends_at` is the earliest end of the open watch, `judged_from` the end of
    its warm-up: before it nothing is called healthy."""

    current: str | None
    last_known_good: str | None
    verdict: Verdict
    watch: Watch | None
    ends_at: float | None
    evidence: tuple[Evidence, ...]
    judged_from: float | None = None


class Engine:
    """Joins detection and decision. `policy_for` names the policy of any service, configured or not."""

    def __init__(self, policy_for: Callable[[str], Policy], fleet: FleetPolicy) -> None:
        self._policy_for = policy_for
        self._fleet = fleet
        self._state = EngineState()
        self._conditions: dict[str, Conditions] = {}
        self._scenes: dict[str, tuple[Watch, Scene]] = {}
        self.refused = 0

    # -- the road

    def feed(self, event: AnyEvent) -> list[Outcome]:
        """Take one event and return what follows from it, in order."""
        state = self._state.services.get(event.service)
        if state is None:
            if len(self._state.services) >= MAX_SERVICES:
                self.refused += 1
                return []
            state = self._state.services[event.service] = ServiceState()
        if event.t > self._state.now:
            self._state.now = event.t
        if isinstance(event, DeploymentEvent):
            return list(self._deployment(event, state))
        state.history.add(event)
        if state.watch is None:
            return []
        if state.watch.predates(event):
            state.watch.learn(event)
            return []
        scene = self._scene(event.service, state, state.watch)
        looked = state.watch.observe(event, scene)
        if state.watch.rests(event, scene.now):
            return []
        return list(self._judge(state, state.watch, scene, looked))

    # -- deployments

    def _deployment(self, event: DeploymentEvent, state: ServiceState) -> Iterator[Outcome]:
        watch = state.watch
        if watch is not None and watch.version == event.version:
            if event.phase == "failed":
                if not watch.is_rollback:  # that a release could not be put back says nothing against the release
                    state.releases.stand(event.version, "bad", event.t)
                state.releases.current = watch.previous
                yield self._close(state, watch, "failed", "the deployment itself failed")
            elif event.phase == "finished" and watch.finished_at is None:
                watch.finished_at = event.t
            return
        if event.phase == "failed" or state.releases.current == event.version:
            return
        if event.t < state.deployed_at and event.version in state.releases.known:
            return  # news of an earlier deployment, come late
        previous = event.previous if event.previous not in (None, event.version) else state.releases.current
        if watch is not None:
            if not watch.is_rollback and watch.previous is not None:
                state.releases.stand(watch.version, "superseded", event.t)
            yield self._close(state, watch, "superseded", f"{event.version} was deployed before the bake ended")
            if watch.version == previous and self._looks_bad(state, watch):
                state.condemned = watch  # a human may be undoing what was held back: judge by what was before it
        yield self._open(event, previous, state)

    def _open(self, event: DeploymentEvent, previous: str | None, state: ServiceState) -> WatchChange:
        if previous is not None:
            state.releases.sight(previous, event.t, "unknown")
        policy = self._policy_for(event.service)
        undone = state.condemned if state.condemned is not None and state.condemned.version == previous else None
        if undone is not None:
            state.history.forget(undone.version, undone.deployed_at, event.t)
        watch = open_watch(event, previous, policy, state.history)
        if state.goes_back(event.version, previous):
            watch = open_rollback_watch(event, previous, undone, watch)
        else:
            # what was there at first sight may have run for years: until it has baked it is neither new nor proven
            state.releases.stand(event.version, "baking" if previous is not None else "unknown", event.t)
        state.releases.current = event.version
        state.condemned, state.recovery, state.proof, state.deployed_at = None, None, None, event.t
        watch.finished_at = event.t if event.phase == "finished" else None
        state.watch = watch
        reason = "first sight of what is running" if previous is None else f"{event.version} replaces {previous}"
        return self._change(watch, "opened", event.t, reason)

    def _looks_bad(self, state: ServiceState, watch: Watch) -> bool:
        """Whether a release that is being replaced was convicted, or would soon have been."""
        if watch.previous is None or watch.is_rollback:
            return False
        policy = self._policy_for(watch.service)
        scene = self._scene(watch.service, state, watch)
        return watch.held is not None or self._standing(watch, scene, policy) == "degraded"

    # -- judgement

    def _judge(self, state: ServiceState, watch: Watch, scene: Scene, looked: Iterable[Rule]) -> Iterator[Outcome]:
        policy = self._policy_for(watch.service)
        if watch.is_rollback:
            yield from self._judge_rollback(state, watch, scene, policy)
            return
        if watch.held is not None and scene.now - watch.held_at < ASK_AGAIN_S:
            return  # the guards are not asked yet, and whoever else suffers need not be either
        convicting = watch.convicting(scene, looked)
        if convicting and watch.previous is None:
            self._begin_anew(state, watch, policy)
        elif convicting:
            guilty = self._to_blame(state, watch, convicting, scene)
            if guilty is not None:
                yield from self._convict(state, watch, guilty, scene, policy)
        elif watch.excuse is not None and not watch.convicting(scene):
            watch.excuse = None
        elif self._baked(watch, scene.now, policy) and not watch.convicting(scene):
            yield from self._end(state, watch, scene, policy)

    def _end(self, state: ServiceState, watch: Watch, scene: Scene, policy: Policy) -> Iterator[Outcome]:
        """The bake is over and no rule convicts: the release is good, unless it was found guilty and only held back."""
        if watch.held is not None and self._standing(watch, scene, policy) == "healthy":
            state.releases.stand(watch.version, "bad", scene.now)
            state.condemned = watch
            reason = "it was convicted; acting was held back, and it has recovered since"
            yield self._close(state, watch, "condemned", reason)
        elif watch.held is None and not watch.fails_now(scene, scene.now - policy.verify_for):
            state.releases.stand(watch.version, "good", scene.now)
            yield self._close(state, watch, "good", f"nothing got worse in {policy.bake:g} s")

    def _to_blame(self, state: ServiceState, watch: Watch, convicting: list[Rule], scene: Scene) -> Rule | None:
        """The first of these rules whose trouble nothing else explains."""
        watch.excuse = None
        deployed = Deployed(watch.deployed_at, watch.finished_at, scene.warmup)
        for rule in convicting:
            others = partial(self._others, watch.service)
            excuse = other_explanation(rule.charge(scene), deployed, state.history, others, scene.now)
            if excuse is None:
                return rule
            watch.excuse = excuse if watch.held is None else None
            watch.excused_at = scene.now
            rule.excuse(scene)
        return None

    @staticmethod
    def _baked(watch: Watch, now: float, policy: Policy) -> bool:
        """Whether the bake is over and was seen: silence is no health, so the later half must have had signals."""
        seen = watch.last_signal_at
        return now - watch.bakes_from >= policy.bake and seen is not None and seen >= watch.bakes_from + policy.bake / 2

    def _begin_anew(self, state: ServiceState, watch: Watch, policy: Policy) -> None:
        """A release that was there before us is in trouble: nobody's deployment to undo, but it has to bake anew.

        While the trouble lasts, new baselines are taken now and then only, since taking them reads the whole history.
        """
        if self._state.now - watch.bakes_from < min(ASK_AGAIN_S, policy.bake / 10):
            return
        first = DeploymentEvent(t=self._state.now, service=watch.service, version=watch.version, phase="finished")
        again = open_watch(first, None, policy, state.history)
        again.deployed_at, again.finished_at = watch.deployed_at, watch.finished_at
        state.watch = again

    def _judge_rollback(self, state: ServiceState, watch: Watch, scene: Scene, policy: Policy) -> Iterator[Outcome]:
        standing = self._standing(watch, scene, policy)
        if standing == "healthy" and watch.healthy_since is None:
            watch.healthy_since = scene.now
        elif standing == "degraded":
            watch.healthy_since = None
        lasted = watch.healthy_since is not None and scene.now - watch.healthy_since >= policy.verify_for
        if lasted and standing == "healthy":
            state.releases.stand(watch.version, "good", scene.now)
            state.recovery, state.proof = (watch.version, "healthy"), watch
            yield self._close(state, watch, "verified", f"back at its baseline for {policy.verify_for:g} s")
        elif scene.now - watch.deployed_at > policy.verify_within:
            state.recovery, state.proof = (watch.version, standing), watch
            yield self._close(state, watch, "unrecovered", f"not back at its baseline after {policy.verify_within:g} s")

    @staticmethod
    def _standing(watch: Watch, scene: Scene, policy: Policy) -> Verdict:
        """How things stood lately; a release that was just put in place is not judged while it warms up."""
        since = max(scene.warm_at, scene.now - policy.verify_for)
        return watch.standing(scene, since) if scene.now > since else "insufficient"

    def _convict(
        self, state: ServiceState, watch: Watch, guilty: Rule, scene: Scene, policy: Policy
    ) -> Iterator[Outcome]:
        now = scene.now
        if watch.held is not None and self._standing(watch, scene, policy) != "degraded":
            return
        best = state.releases.last_known_good(other_than=watch.version)
        case = Case(
            now=now,
            service=watch.service,
            version=watch.version,
            to=best.version if best is not None else None,
            is_rollback=watch.is_rollback,
            own_rollbacks=tuple(state.rollbacks),
            fleet_rollbacks=tuple(self._state.rollbacks),
            policy=policy,
            fleet=self._fleet,
            conditions=self._conditions.get(watch.service, Conditions()),
        )
        answers = ask(case)
        action, refusals = outcome_of(answers)
        again = watch.held == refusals
        watch.held, watch.held_at = refusals, now
        if again and action != "rollback":
            return
        compared = [other.name for other in comparable(self._others(watch.service), now)]
        yield decision_of(watch, guilty, scene, case.to, action, answers, compared)
        if action == "rollback" and not case.conditions.shadow:
            state.rollbacks = [*state.rollbacks, now][-MAX_ROLLBACKS:]
            self._state.rollbacks = [*(at for at in self._state.rollbacks if now - at < HOUR), now][-MAX_ROLLBACKS:]
        if action == "rollback" or case.to is None:
            state.releases.stand(watch.version, "bad", now)
            state.condemned = watch
            yield self._close(state, watch, "condemned", f"{rule_name(guilty)} convicted it")

    # -- helpers

    def _scene(self, service: str, state: ServiceState, watch: Watch) -> Scene:
        kept = self._scenes.get(service)
        if kept is not None and kept[0] is watch and kept[1].history is state.history:
            scene = kept[1]
            scene.now = self._state.now
            return scene
        scene = watch.scene(self._policy_for(service), state.history, self._state.now)
        self._scenes[service] = watch, scene
        return scene

    def _others(self, service: str) -> Iterator[Other]:
        return witnesses(service, self._state.services, lambda name: self._policy_for(name).depends_on)

    def _close(self, state: ServiceState, watch: Watch, ending: WatchState, reason: str) -> WatchChange:
        evidence = watch.evidence(self._scene(watch.service, state, watch))
        state.watch = None
        self._scenes.pop(watch.service, None)
        return self._change(watch, ending, self._state.now, reason, evidence)

    @staticmethod
    def _change(
        watch: Watch, state: WatchState, t: float, reason: str, evidence: tuple[Evidence, ...] = ()
    ) -> WatchChange:
        return WatchChange(
            t=t,
            service=watch.service,
            version=watch.version,
            previous=watch.previous,
            deployed_at=watch.deployed_at,
            state=state,
            reason=reason,
            is_rollback=watch.is_rollback,
            evidence=evidence,
        )

    # -- what the daemon asks and tells

    def takes(self, service: str, places: int = MAX_SERVICES) -> bool:
        """Whether events of the service would be judged: it is known, or there is a place for it among so many."""
        return service in self._state.services or len(self._state.services) < places

    def set_conditions(self, service: str, conditions: Conditions) -> None:
        """Tell how things stand in the world, for the guards."""
        self._conditions[service] = conditions

    def use(self, policy_for: Callable[[str], Policy], fleet: FleetPolicy) -> None:
        """Judge by other policies from now on; open watches keep the baselines they have."""
        self._policy_for, self._fleet = policy_for, fleet
        self._scenes.clear()

    def peek(self, service: str) -> Peek:
        """One service as things stand; also for one that was never heard of."""
        state = self._state.services.get(service, ServiceState())
        watch, evidence, verdict, ends_at = state.watch, tuple[Evidence, ...](), state.unwatched(), None
        judged_from = None
        if watch is not None:
            policy = self._policy_for(service)
            scene = self._scene(service, state, watch)
            evidence, judged_from = watch.shown(scene), scene.warm_at
            verdict = self._standing(watch, scene, policy) if watch.is_rollback else watch.verdict(evidence, scene)
            ends_at = watch.bakes_from + (policy.verify_for if watch.is_rollback else policy.bake)
        best = state.releases.last_known_good(other_than="")
        good = best.version if best is not None else None
        return Peek(state.releases.current, good, verdict, watch, ends_at, evidence, judged_from)

    def counted_until(self, service: str) -> float | None:
        """The newest moment of which requests or latencies of the service are known."""
        state = self._state.services.get(service)
        return state.history.counted_until() if state is not None else None

    def rollback_target(self, service: str) -> str | None:
        """The release that a rollback of the service would go back to now."""
        state = self._state.services.get(service)
        if state is None:
            return None
        best = state.releases.last_known_good(other_than=state.releases.current or "")
        return best.version if best is not None else None

    def recovery(self, service: str, to: str) -> tuple[Verdict, tuple[Evidence, ...]]:
        """Whether a rollback to release `to` has brought the service back to its baseline, as things stand.

        Also of a release that no deployment here has shown before: its baseline is what was known when it came.
        """
        state = self._state.services.get(service)
        if state is None:
            return "insufficient", ()
        known = (state.watch, state.proof, state.condemned)
        watch = next((one for one in known if one is not None and one.version == to), None)
        if watch is None:
            return "insufficient", ()
        scene = self._scene(service, state, watch)
        return self._standing(watch, scene, self._policy_for(service)), watch.evidence(scene)

    @property
    def open_watches(self) -> int:
        """How many deployments are being watched."""
        return sum(state.watch is not None for state in self._state.services.values())

    def remember(
        self, service: str, releases: Iterable[tuple[str, Standing, float, float]], current: str | None
    ) -> None:
        """Take over what else is known of a service's releases: (version, standing, first seen, changed at) each.

        For a start without a snapshot: open watches are lost then, but not which release is good. One that was baking
        is not taken for the current one, so that its being found in place opens a watch again.
        """
        state = self._state.services.setdefault(service, ServiceState())
        for version, standing, first_seen, changed_at in sorted(releases, key=lambda one: one[2]):
            state.releases.recall(version, standing, first_seen, changed_at)
        in_place = state.releases.known.get(current or "")
        if in_place is None or in_place.standing != "baking":
            state.releases.current = current

    def snapshot(self) -> bytes:
        """The whole state, for `restore`."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes, fmt: int) -> None:
        """Go on from a snapshot. Raises Permanent where it is of another format or damaged."""
        if fmt != SNAPSHOT_FORMAT:
            raise Permanent(f"the snapshot has format {fmt}, this rollbackd reads format {SNAPSHOT_FORMAT}")
        try:
            self._state = msgspec.msgpack.decode(snapshot, type=EngineState)
            self._scenes.clear()
        except msgspec.DecodeError as error:
            raise Permanent(f"the snapshot is damaged: {error}") from error
