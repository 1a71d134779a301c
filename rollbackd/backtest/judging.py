"""One window through a fresh engine: what it decides of each deployment, and whether it could decide at all.

Everything that the engine is told is an event, so a recording of the window leads a replay to the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from rollbackd.backtest.deployments import Deployment
from rollbackd.backtest.report import Cause, Judged, Judgement
from rollbackd.backtest.windows import Window
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import Engine
from rollbackd.model import (
    AnyEvent,
    Decision,
    DeploymentEvent,
    Latency,
    Outcome,
    Probe,
    Requests,
    WatchChange,
    deployment_id,
)


@dataclass
class _Case:
    """One deployment on trial. `seen_at` is when the release was last seen at work, or down."""

    deployment: Deployment
    opened: WatchChange | None = None
    ended: WatchChange | None = None
    decisions: list[Decision] = field(default_factory=list)
    seen_at: float | None = None


class Trial:
    """Feeds an engine the events of one window.

    `good` names, for services that earlier windows told of, the release that a rollback would go back to: a window of
    its own knows nothing of what came before it.
    """

    def __init__(
        self, window: Window, policy_for: Callable[[str], Policy], fleet: FleetPolicy, good: Mapping[str, str]
    ) -> None:
        self._window, self._policy_for = window, policy_for
        self._engine = Engine(policy_for, fleet)
        self._cases: dict[tuple[str, str, float], _Case] = {}
        self._latest: dict[str, _Case] = {}
        self.deployments = list(self._announced(good))
        """The events that tell of deployments, in order of time."""

    def _announced(self, good: Mapping[str, str]) -> list[DeploymentEvent]:
        """The window's deployments, after what the engine must have heard of before.

        Where the release being replaced is not the good one, the good one is told as what was there at first, and the
        other as what took its place, at the very moment it is replaced: it shall not bake in this window and end good.
        """
        events: list[DeploymentEvent] = []
        told: set[str] = set()
        for one in self._window.deployments:
            best = good.get(one.service)
            if one.service not in told and best is not None and best != one.previous:
                events.append(_deployed(self._window.start, one.service, best, None))
                if one.previous is not None:
                    events.append(_deployed(one.deployed_at, one.service, one.previous, best))
            told.add(one.service)
            events.append(_deployed(one.deployed_at, one.service, one.version, one.previous))
            self._cases[one.service, one.version, one.deployed_at] = _Case(one)
        return sorted(events, key=lambda event: event.t)

    def feed(self, event: AnyEvent) -> None:
        """Feed one event."""
        if isinstance(event, DeploymentEvent):
            case = self._cases.get((event.service, event.version, event.t))
            if case is not None:
                self._latest[event.service] = case
        elif isinstance(event, Requests | Latency | Probe):
            self._see(event)
        for outcome in self._engine.feed(event):
            self._note(outcome)

    def _see(self, event: Requests | Latency | Probe) -> None:
        case = self._latest.get(event.service)
        if case is None or event.t <= case.deployment.deployed_at:
            return
        if not isinstance(event, Probe) and event.version not in (None, case.deployment.version):
            return
        if not isinstance(event, Requests) or event.total > 0:
            case.seen_at = event.t

    def _note(self, outcome: Outcome) -> None:
        case = self._cases.get((outcome.service, outcome.version, outcome.deployed_at))
        if case is None:
            return
        if isinstance(outcome, Decision):
            case.decisions.append(outcome)
        elif outcome.state == "opened":
            case.opened = outcome
        else:
            case.ended = outcome

    def good(self) -> dict[str, str]:
        """For each service that was deployed, the release that a rollback would go back to as things stand."""
        best = {one.service: self._engine.peek(one.service).last_known_good for one in self._window.deployments}
        return {service: version for service, version in best.items() if version is not None}

    def judgements(
        self, wanted: Iterable[Deployment], without_series: Mapping[str, str], recording: str | None
    ) -> list[Judgement]:
        """What came of these deployments, as far as they are in this window, in order of time.

        `without_series` names services of which not one sample was found, and the series that were looked for.
        """
        keys = {(one.service, one.version, one.deployed_at) for one in wanted}
        return [
            self._judgement(case, without_series.get(case.deployment.service), recording)
            for key, case in self._cases.items()
            if key in keys
        ]

    def _judgement(self, case: _Case, nothing: str | None, recording: str | None) -> Judgement:
        one = case.deployment
        about = Judgement(
            id=deployment_id(one.service, one.version, one.deployed_at),
            service=one.service,
            version=one.version,
            previous=case.opened.previous if case.opened is not None else one.previous,
            deployed_at=one.deployed_at,
            judged="unjudged",
            reason="",
            decisions=tuple(case.decisions),
            recording=recording,
        )
        if case.decisions:
            return _decided(about)
        return self._undecided(case, about, nothing)

    def _undecided(self, case: _Case, about: Judgement, nothing: str | None) -> Judgement:
        policy = self._policy_for(about.service)
        opened, ended, at = case.opened, case.ended, about.deployed_at
        if opened is None:
            return _because(about, "not_new", f"{about.version} was in place already, so nothing changed")
        if nothing is not None:
            reason = f"the server has nothing of {nothing} for that time: older than it keeps, or see --match"
            return _because(about, "no_series", reason)
        if opened.is_rollback:
            return _rollback(about, ended)
        if opened.previous is None:
            return _because(about, "no_previous", "nothing is known of what ran before it; say it with `previous`")
        if case.seen_at is None:
            return _because(about, "no_data", "nothing was seen of the service after it")
        if ended is not None and ended.state == "good":
            if any(rule.verdict == "healthy" and rule.samples > 0 for rule in ended.evidence):
                return _answer(about, "kept", ended.t, ended.reason)
            return _because(about, "no_baseline", "too little was seen of the time before it to compare with")
        if ended is not None and ended.state == "superseded":
            reason = f"{ended.reason}; nothing had been found against it until then"
            return _because(about, "superseded", reason)
        if self._window.end < at + policy.bake:
            return _because(about, "unfinished", "its bake is not over yet")
        if case.seen_at < at + policy.bake / 2:
            return _because(about, "no_data", "nothing was seen of the service in the later half of its bake")
        return _because(about, "unfinished", "when its bake was over it looked worse, but not surely enough to act on")


def _deployed(t: float, service: str, version: str, previous: str | None) -> DeploymentEvent:
    return DeploymentEvent(t=t, service=service, version=version, previous=previous, phase="finished")


def _decided(about: Judgement) -> Judgement:
    """The rollback, where it came to one in the end; else what was decided first."""
    made = next((one for one in about.decisions if one.action == "rollback"), about.decisions[0])
    return msgspec.structs.replace(_answer(about, made.action, made.t, made.reason), to=made.to, rule=made.rule)


def _rollback(about: Judgement, ended: WatchChange | None) -> Judgement:
    """A deployment that put an older release back: it is proven or not, and never rolled back."""
    if ended is not None and ended.state == "verified":
        return _answer(about, "kept", ended.t, f"a rollback that helped: {ended.reason}")
    reason = ended.reason if ended is not None else "its watch was not over"
    return _because(about, "rollback", f"a rollback, which is never rolled back: {reason}")


def _because(about: Judgement, cause: Cause, reason: str) -> Judgement:
    return msgspec.structs.replace(about, judged="unjudged", cause=cause, reason=reason)


def _answer(about: Judgement, judged: Judged, at: float, reason: str) -> Judgement:
    return msgspec.structs.replace(about, judged=judged, at=at, after_s=at - about.deployed_at, reason=reason)
