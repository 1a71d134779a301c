"""Convictions that are not acted upon at once: what holds them, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from rollbackd.decide.guards import Conditions
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import ASK_AGAIN_S, Engine
from rollbackd.model import AnyEvent, Outcome
from tests.support.streams import START, Service, decisions, engine, play, told, weave

POLICY = Policy(bake=300, warmup=10, cooldown=300, verify_for=20, verify_within=100)
FREEZE = {"freeze": [{"start": "2023-11-14T00:00:00Z", "end": "2023-11-14T22:15:00Z", "reason": "big sale"}]}
"""Ends 100 s after START."""
FROZEN_TILL = 100.0


def shop(name: str = "shop") -> Service:
    return Service(name, rate=40, every=5, timed=False)


def bad(service: Service, until: float) -> list[AnyEvent]:
    """v1 bakes; v2 comes at 0 and fails half of its requests."""
    return [
        *service.deploy("v1", -400),
        *service.run(-400, 0),
        *service.deploy("v2", 0),
        *service.run(0, until, errors=0.5),
    ]


def seen(subject: Engine, events: Iterable[AnyEvent]) -> list[str]:
    return [text for text in told(play(subject, events)) if not text.startswith("v1")]


@pytest.mark.parametrize(
    ("conditions", "action", "guard"),
    [
        (Conditions(paused="ann: lunch"), "hold", "paused"),
        (Conditions(running="rollback x runs"), "hold", "running"),
        (Conditions(in_place="v9"), "escalate", "in_place"),
        (Conditions(problems=("v1 is gone",)), "escalate", "ready"),
    ],
)
def test_each_condition_holds_a_rollback_back_until_it_clears(conditions: Conditions, action: str, guard: str) -> None:
    """People are told once, not at every look; when it clears, and the trouble is still there, it is acted upon."""
    service, subject = shop(), engine(POLICY)
    subject.set_conditions("shop", conditions)
    outcomes = play(subject, bad(service, 100))
    (held,) = decisions(outcomes)
    assert (held.action, held.to) == (action, "v1")
    assert [one.guard for one in held.guards if one.verdict != "pass"] == [guard]
    assert subject.peek("shop").verdict == "degraded"
    subject.set_conditions("shop", Conditions())
    outcomes = play(subject, service.run(100, 200, errors=0.5))
    assert told(outcomes) == ["v2 rollback to v1", "v2 condemned"]
    assert outcomes[0].t <= START + 100 + ASK_AGAIN_S + 5


def test_when_the_trouble_is_gone_by_then_nothing_is_done() -> None:
    service, subject = shop(), engine(POLICY)
    subject.set_conditions("shop", Conditions(paused="lunch"))
    play(subject, [*bad(service, 60), *service.run(60, 120)])
    subject.set_conditions("shop", Conditions())
    assert seen(subject, service.run(120, 250)) == []
    assert seen(subject, service.run(250, 320)) == ["v2 condemned"]
    assert subject.peek("shop").last_known_good == "v1"


def test_trouble_that_comes_back_after_the_pause_is_acted_upon() -> None:
    service, subject = shop(), engine(POLICY)
    subject.set_conditions("shop", Conditions(paused="lunch"))
    play(subject, [*bad(service, 60), *service.run(60, 120)])
    subject.set_conditions("shop", Conditions())
    assert seen(subject, [*service.run(120, 200), *service.run(200, 260, errors=0.5)]) == [
        "v2 rollback to v1",
        "v2 condemned",
    ]


def test_another_reason_to_hold_is_told_as_well() -> None:
    service, subject = shop(), engine(POLICY)
    subject.set_conditions("shop", Conditions(paused="lunch"))
    play(subject, bad(service, 60))
    subject.set_conditions("shop", Conditions(paused="lunch", problems=("v1 is gone",)))
    assert seen(subject, service.run(60, 120, errors=0.5)) == ["v2 escalate to v1"]
    subject.set_conditions("shop", Conditions(paused="supper", problems=("v1 is gone",)))
    assert seen(subject, service.run(120, 200, errors=0.5)) == []


def test_what_is_held_back_beyond_its_bake_is_acted_upon_when_the_guard_lets_it_pass() -> None:
    service, subject = shop(), engine(POLICY)
    subject.set_conditions("shop", Conditions(paused="lunch"))
    held = bad(service, 1400)
    assert told(play(subject, held[: len(held) * 2 // 3]))[-1:] == ["v2 hold to v1"]
    subject.set_conditions("shop", Conditions())
    assert told(play(subject, held[len(held) * 2 // 3 :])) == ["v2 rollback to v1", "v2 condemned"]


def test_what_recovered_while_it_was_held_back_is_condemned_and_left_alone() -> None:
    service, subject = shop(), engine(POLICY)
    subject.set_conditions("shop", Conditions(paused="lunch"))
    outcomes: list[Outcome] = play(subject, [*bad(service, 200), *service.run(200, 1400)])
    assert told(outcomes)[-2:] == ["v2 hold to v1", "v2 condemned"]
    assert subject.peek("shop").verdict == "degraded"
    assert subject.rollback_target("shop") == "v1"


@pytest.mark.parametrize("trouble", [{"slower": 5.0}, {"logs": {"worker lost its database": 2.0}}])
def test_whichever_rule_convicted_it_a_release_that_is_held_back_does_not_become_good(
    trouble: dict[str, Any],
) -> None:
    """Its trouble goes on; probes are well, and so are the shares that fail."""
    service, subject = Service("shop", rate=40, every=5), engine(POLICY)
    subject.set_conditions("shop", Conditions(paused="lunch"))
    events = [*service.deploy("v1", -400), *service.run(-400, 0), *service.deploy("v2", 0)]
    assert seen(subject, [*events, *service.run(0, 600, **trouble)]) == ["v2 opened", "v2 hold to v1"]
    assert subject.peek("shop").last_known_good == "v1"


def test_the_excuse_for_one_trouble_does_not_cover_another() -> None:
    """Slow as its neighbour is, and failing as nobody else: it stands as degraded at every moment."""
    ours, theirs = Service("shop", rate=40, every=5), Service("cart", seed=2, rate=40, every=5)
    events = [*ours.deploy("v1", -400), *ours.run(-400, 0), *ours.deploy("v2", 0), *ours.run(0, 100)]
    events += ours.run(100, 250, errors=0.5, slower=4.0)
    beside = [*theirs.deploy("c1", -400), *theirs.run(-400, 100), *theirs.run(100, 250, slower=6.0)]
    subject, verdicts = engine(POLICY), set()
    subject.set_conditions("shop", Conditions(paused="lunch"))
    for event in weave(events, beside):
        subject.feed(event)
        if event.t > START + 200 and event.service == "shop":
            verdicts.add(subject.peek("shop").verdict)
    assert verdicts == {"degraded"}


def test_a_human_who_undoes_what_was_held_back_is_measured_by_what_was_before_it() -> None:
    service, subject = shop(), engine(POLICY)
    subject.set_conditions("shop", Conditions(paused="lunch"))
    play(subject, bad(service, 400))
    undone = [*service.deploy("v1", 400, previous="v2"), *service.run(400, 600, errors=0.05)]
    assert told(play(subject, undone)) == ["v2 superseded", "v1 opened", "v1 unrecovered"]


def test_conditions_that_come_and_go_are_not_told_at_every_turn() -> None:
    service, subject = shop(), engine(POLICY)
    turns = (Conditions(paused="lunch"), Conditions(problems=("v1 is gone",)))
    found = []
    for k, event in enumerate(bad(service, 200)):
        subject.set_conditions("shop", turns[k % 5 % 2])
        found += decisions(subject.feed(event))
    assert 2 <= len(found) <= 200 / ASK_AGAIN_S
    assert all(later.t - earlier.t >= ASK_AGAIN_S for earlier, later in pairwise(found))


def test_a_freeze_window_holds_until_it_ends() -> None:
    service, subject = shop(), engine(POLICY.model_copy(update={"freeze": Policy.model_validate(FREEZE).freeze}))
    first, second = decisions(play(subject, bad(service, 200)))
    assert (first.action, second.action) == ("hold", "rollback")
    assert "big sale until" in first.reason
    assert FROZEN_TILL <= second.t - START <= FROZEN_TILL + ASK_AGAIN_S + 5


def test_after_a_rollback_the_next_one_waits_for_the_cooldown() -> None:
    service, subject = shop(), engine(POLICY)
    play(subject, [*bad(service, 30), *service.deploy("v1", 40, previous="v2"), *service.run(40, 100)])
    outcomes = play(subject, [*service.deploy("v3", 100), *service.run(100, 390, errors=0.5)])
    first, second = decisions(outcomes)
    assert (first.version, first.action) == ("v3", "hold")
    assert (second.version, second.action, second.to) == ("v3", "rollback", "v1")
    assert second.t - START > 300


def test_the_fleet_s_budget_is_spent_by_all_services_together() -> None:
    subject = engine(POLICY, FleetPolicy(rollbacks_per_hour=2))
    outcomes = play(subject, weave(*(bad(shop(f"shop{k}"), 60) for k in range(4))))
    assert [one.action for one in decisions(outcomes)] == ["rollback", "rollback", "escalate", "escalate"]


def test_a_hold_counts_neither_against_the_cooldown_nor_the_budget() -> None:
    service, subject = shop(), engine(POLICY, FleetPolicy(rollbacks_per_hour=1))
    subject.set_conditions("shop", Conditions(paused="lunch"))
    play(subject, bad(service, 100))
    subject.set_conditions("shop", Conditions())
    assert seen(subject, service.run(100, 200, errors=0.5))[0] == "v2 rollback to v1"


def test_a_newer_deployment_ends_what_was_held_back() -> None:
    service, subject = shop(), engine(POLICY)
    subject.set_conditions("shop", Conditions(paused="lunch"))
    play(subject, bad(service, 60))
    subject.set_conditions("shop", Conditions())
    assert seen(subject, [*service.deploy("v3", 60), *service.run(60, 400)]) == [
        "v2 superseded",
        "v3 opened",
        "v3 good",
    ]
