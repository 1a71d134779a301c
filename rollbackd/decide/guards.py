"""Guards: reasons why acting on a conviction may be unsafe. All are asked, and every answer is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.model import Action, GuardAnswer

HOUR = 3600.0


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What no event tells: how things stand in the world now, as the daemon found it. In a replay all is well.

    `paused` and `running` are sentences where they apply; `in_place` is the release the target says is in place, None
    where nobody asked; `problems` are the target's reasons why a revert would not work now. In `shadow` nothing is
    carried out, so it counts neither for a cooldown nor for the fleet's budget.
    """

    paused: str | None = None
    running: str | None = None
    in_place: str | None = None
    problems: tuple[str, ...] = ()
    shadow: bool = False


@dataclass(frozen=True)
class Case:
    """A conviction that asks to be acted upon."""

    now: float
    service: str
    version: str
    to: str | None
    is_rollback: bool
    own_rollbacks: tuple[float, ...]
    fleet_rollbacks: tuple[float, ...]
    policy: Policy
    fleet: FleetPolicy
    conditions: Conditions


Guard: TypeAlias = Callable[[Case], GuardAnswer]


def ask(case: Case) -> tuple[GuardAnswer, ...]:
    """Every guard's answer."""
    return tuple(guard(case) for guard in GUARDS)


def outcome_of(answers: tuple[GuardAnswer, ...]) -> tuple[Action, str]:
    """What remains of a rollback after the guards, and which of them refused."""
    refusing = [answer for answer in answers if answer.verdict != "pass"]
    names = ",".join(answer.guard for answer in refusing)
    if any(answer.verdict == "escalate" for answer in refusing):
        return "escalate", names
    return ("hold", names) if refusing else ("rollback", names)


def last_known_good(case: Case) -> GuardAnswer:
    if case.to is None:
        return _escalate("last_known_good", "no release is known to be good")
    return _pass("last_known_good", f"{case.to} is the last known good release")


def not_a_rollback(case: Case) -> GuardAnswer:
    if case.is_rollback:
        return _escalate("not_a_rollback", f"{case.version} was itself put in place by a rollback")
    return _pass("not_a_rollback", f"{case.version} is a new release")


def cooldown(case: Case) -> GuardAnswer:
    since = [case.now - at for at in case.own_rollbacks if case.now - at < case.policy.cooldown]
    if since:
        return _hold("cooldown", f"the last rollback is {min(since):.0f} s ago, less than {case.policy.cooldown:.0f} s")
    return _pass("cooldown", "no rollback of this service lately")


def fleet_budget(case: Case) -> GuardAnswer:
    lately = sum(case.now - at < HOUR for at in case.fleet_rollbacks)
    if lately >= case.fleet.rollbacks_per_hour:
        return _escalate(
            "fleet_budget",
            f"{lately} rollbacks within an hour over all services spend the budget of {case.fleet.rollbacks_per_hour}",
        )
    return _pass("fleet_budget", f"{lately} of {case.fleet.rollbacks_per_hour} rollbacks this hour")


def freeze(case: Case) -> GuardAnswer:
    for window in case.policy.freeze:
        if window.start.timestamp() <= case.now < window.end.timestamp():
            return _hold("freeze", f"{window.reason} until {window.end.isoformat()}")
    return _pass("freeze", "no freeze window")


def paused(case: Case) -> GuardAnswer:
    if case.conditions.paused is not None:
        return _hold("paused", case.conditions.paused)
    return _pass("paused", "not paused")


def running(case: Case) -> GuardAnswer:
    if case.conditions.running is not None:
        return _hold("running", case.conditions.running)
    return _pass("running", "no other rollback of this service is running")


def in_place(case: Case) -> GuardAnswer:
    found = case.conditions.in_place
    if found is not None and found != case.version:
        return _escalate("in_place", f"the target holds {found}, not {case.version}: someone changed it since")
    return _pass("in_place", "nobody is known to have changed the target since")


def ready(case: Case) -> GuardAnswer:
    if case.conditions.problems:
        return _escalate("ready", "a revert would not work now: " + "; ".join(case.conditions.problems))
    return _pass("ready", "nothing stands in the way of a revert")


GUARDS: tuple[Guard, ...] = (
    last_known_good,
    not_a_rollback,
    cooldown,
    fleet_budget,
    freeze,
    paused,
    running,
    in_place,
    ready,
)


def _pass(guard: str, reason: str) -> GuardAnswer:
    return GuardAnswer(guard=guard, verdict="pass", reason=reason)


def _hold(guard: str, reason: str) -> GuardAnswer:
    return GuardAnswer(guard=guard, verdict="hold", reason=reason)


def _escalate(guard: str, reason: str) -> GuardAnswer:
    return GuardAnswer(guard=guard, verdict="escalate", reason=reason)
