"""Each guard's answer, where it lets pass and where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rollbackd.decide.guards import GUARDS, Case, Conditions, ask, outcome_of
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.model import GuardAnswer, GuardVerdict

NOW = 1_700_000_000.0
FREEZE = {"start": "2023-11-14T22:00:00Z", "end": "2023-11-14T22:13:20Z", "reason": "big sale"}
"""Its end is NOW, to the second."""

FINE = Case(
    now=NOW,
    service="shop",
    version="v2",
    to="v1",
    is_rollback=False,
    own_rollbacks=(),
    fleet_rollbacks=(),
    policy=Policy(cooldown=600),
    fleet=FleetPolicy(rollbacks_per_hour=2),
    conditions=Conditions(),
)


def answer(case: Case, guard: str) -> GuardAnswer:
    return next(one for one in ask(case) if one.guard == guard)


def test_where_nothing_speaks_against_it_every_guard_lets_pass() -> None:
    answers = ask(FINE)
    assert {one.verdict for one in answers} == {"pass"}
    assert len({one.guard for one in answers}) == len(GUARDS)
    assert all(one.reason for one in answers)


@pytest.mark.parametrize(
    ("guard", "case", "verdict", "reason"),
    [
        ("last_known_good", replace(FINE, to=None), "escalate", "no release is known to be good"),
        ("not_a_rollback", replace(FINE, is_rollback=True), "escalate", "v2 was itself put in place by a rollback"),
        ("cooldown", replace(FINE, own_rollbacks=(NOW - 599,)), "hold", "the last rollback is 599 s ago"),
        ("cooldown", replace(FINE, own_rollbacks=(NOW - 5000, NOW - 30)), "hold", "the last rollback is 30 s ago"),
        (
            "fleet_budget",
            replace(FINE, fleet_rollbacks=(NOW - 3599, NOW - 1)),
            "escalate",
            "2 rollbacks within an hour",
        ),
        ("fleet_budget", replace(FINE, fleet=FleetPolicy(rollbacks_per_hour=0)), "escalate", "0 rollbacks within"),
        (
            "freeze",
            replace(FINE, now=NOW - 1, policy=Policy.model_validate({"freeze": [FREEZE]})),
            "hold",
            "big sale until 2023-11-14T22:13:20+00:00",
        ),
        ("paused", replace(FINE, conditions=Conditions(paused="ann: lunch")), "hold", "ann: lunch"),
        ("running", replace(FINE, conditions=Conditions(running="rollback x runs")), "hold", "rollback x runs"),
        (
            "in_place",
            replace(FINE, conditions=Conditions(in_place="v3")),
            "escalate",
            "the target holds v3, not v2: someone changed it since",
        ),
        ("ready", replace(FINE, conditions=Conditions(problems=("gone", "full"))), "escalate", "gone; full"),
    ],
)
def test_a_guard_refuses_and_says_why(guard: str, case: Case, verdict: GuardVerdict, reason: str) -> None:
    found = answer(case, guard)
    assert found.verdict == verdict
    assert reason in found.reason


@pytest.mark.parametrize(
    ("guard", "case"),
    [
        ("cooldown", replace(FINE, own_rollbacks=(NOW - 600,))),
        ("cooldown", replace(FINE, own_rollbacks=(NOW,), policy=Policy(cooldown=0))),
        ("fleet_budget", replace(FINE, fleet_rollbacks=(NOW - 3600, NOW - 1))),
        ("freeze", replace(FINE, policy=Policy.model_validate({"freeze": [FREEZE]}))),
        ("in_place", replace(FINE, conditions=Conditions(in_place="v2"))),
    ],
)
def test_a_guard_lets_pass_at_its_very_edge(guard: str, case: Case) -> None:
    assert answer(case, guard).verdict == "pass"


def test_one_refusal_does_not_keep_the_other_guards_from_answering() -> None:
    case = replace(FINE, to=None, conditions=Conditions(paused="lunch"), own_rollbacks=(NOW,))
    assert len(ask(case)) == len(GUARDS)
    assert [one.guard for one in ask(case) if one.verdict != "pass"] == ["last_known_good", "cooldown", "paused"]


@pytest.mark.parametrize(
    ("case", "action", "refusing"),
    [
        (FINE, "rollback", ""),
        (replace(FINE, conditions=Conditions(paused="lunch")), "hold", "paused"),
        (replace(FINE, to=None), "escalate", "last_known_good"),
        (replace(FINE, to=None, conditions=Conditions(paused="lunch")), "escalate", "last_known_good,paused"),
    ],
)
def test_to_escalate_outweighs_to_hold_and_either_outweighs_a_rollback(case: Case, action: str, refusing: str) -> None:
    assert outcome_of(ask(case)) == (action, refusing)
