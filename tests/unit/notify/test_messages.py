"""What people read: titles on one line, a few plain lines of text, and a key that is the same for the same thing."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from rollbackd.model import Action, Decision, Evidence, GuardAnswer, WatchChange, WatchState, decision_id, deployment_id
from rollbackd.notify.base import Message
from rollbackd.notify.messages import (
    Mode,
    config_refused_message,
    decision_message,
    rollback_message,
    source_down_message,
    source_up_message,
    watch_message,
)

T0 = 1_763_898_248.25


def decision(action: Action = "rollback", **changes: object) -> Decision:
    whole = Decision(
        t=T0 + 30,
        service="checkout",
        version="2.0",
        action=action,
        to="1.0",
        rule="error_ratio",
        reason="12 % of requests fail, it was 0.1 %",
        deployed_at=T0,
        evidence=(
            Evidence(rule="error_ratio", signal="requests", verdict="degraded", summary="48 of 400 requests failed"),
            Evidence(rule="latency", signal="latency", verdict="healthy", summary="as fast as before"),
        ),
        guards=(
            GuardAnswer(guard="cooldown", verdict="pass", reason="no rollback lately"),
            GuardAnswer(guard="freeze", verdict="hold", reason="frozen until Monday"),
        ),
    )
    return msgspec.structs.replace(whole, **changes)


def change(state: WatchState, **changes: object) -> WatchChange:
    whole = WatchChange(
        t=T0 + 60, service="checkout", version="2.0", previous="1.0", deployed_at=T0, state=state, reason="as expected"
    )
    return msgspec.structs.replace(whole, **changes)


def rollback(state: str, detail: str = "the restart failed") -> Message | None:
    return rollback_message(
        rollback_id="rollback-x", service="checkout", version="2.0", to="1.0", state=state, detail=detail, at=T0
    )


def everything() -> list[Message]:
    modes: tuple[Mode, ...] = get_args(Mode)
    told: list[Message | None] = [
        decision_message(decision(action), mode) for action in get_args(Action) for mode in modes
    ]
    for state in get_args(WatchState):
        told += [watch_message(change(state)), watch_message(change(state, is_rollback=True))]
    told += [rollback(state) for state in ("planned", "reverting", "verified", "failed", "escalated")]
    told += [
        config_refused_message(path="/etc/rollbackd.yaml", faults=["line 3: no"], at=T0),
        source_down_message(service="checkout", source="metrics", reason="connection refused", since=T0),
        source_up_message(service="checkout", source="metrics", down_since=T0, at=T0 + 90),
    ]
    return [message for message in told if message is not None]


@pytest.mark.parametrize("message", everything(), ids=lambda message: message.title)
def test_every_message_is_short_and_says_where_to_look(message: Message) -> None:
    assert message.title.isprintable()
    assert len(message.title) <= 200
    assert 2 <= len(message.text.splitlines()) <= 6
    assert "rollbackd " in message.text.splitlines()[-1]
    assert all(line.isprintable() and len(line) <= 500 for line in message.text.splitlines())
    assert message.key
    for fact in message.details.values():
        msgspec.json.decode(fact)


@pytest.mark.parametrize(
    ("harmed", "line"),
    [(46.4, "Harmed: about 46 requests failed beyond what is usual"), (0.0, "Harmed: no request so far"), (None, "")],
)
def test_a_message_says_how_many_requests_were_harmed(harmed: float | None, line: str) -> None:
    whole = decision()
    counted = msgspec.structs.replace(whole.evidence[0], harmed=harmed)
    message = decision_message(msgspec.structs.replace(whole, evidence=(counted, *whole.evidence[1:])), "act")
    assert [one for one in message.text.splitlines() if one.startswith("Harmed")] == ([line] if line else [])


def test_a_decision_tells_what_why_and_what_next() -> None:
    message = decision_message(decision(guards=()), "act")
    name = decision_id(decision())
    assert message.title == "checkout: 2.0 made it worse, rolling back to 1.0"
    assert message.text.splitlines() == [
        "Why: 12 % of requests fail, it was 0.1 % (rule error_ratio)",
        "Seen: 48 of 400 requests failed",
        "Next: 1.0 is put back, and then watched until the service is well again",
        f"More: rollbackd show {name}",
    ]
    assert (message.key, message.severity, message.t) == (name, "critical", T0 + 30)
    assert msgspec.json.decode(message.details["decision"], type=Decision) == decision(guards=())


def test_a_decision_that_is_held_tells_by_what() -> None:
    message = decision_message(decision("hold"), "act")
    assert "Guards: freeze: frozen until Monday" in message.text
    assert "cooldown" not in message.text
    assert message.severity == "warning"


@pytest.mark.parametrize("action", get_args(Action))
def test_in_shadow_mode_nothing_sounds_as_if_it_were_done(action: Action) -> None:
    message = decision_message(decision(action), "shadow")
    assert "would" in message.title
    assert "shadow mode" in message.title
    assert message.severity == "warning"


def test_no_known_good_release_has_no_name() -> None:
    message = decision_message(decision("escalate", to=None), "act")
    assert "None" not in message.title + message.text


def test_a_condemned_release_is_told_by_its_decision_alone() -> None:
    assert watch_message(change("condemned")) is None


def test_what_went_wrong_after_a_rollback_is_critical() -> None:
    message = watch_message(change("unrecovered", is_rollback=True))
    assert message is not None
    assert message.severity == "critical"
    assert message.key == f"{deployment_id('checkout', '2.0', T0)}-unrecovered"


@pytest.mark.parametrize("state", ["planned", "preflight", "reverted", "verifying", "failed"])
def test_the_steps_between_are_told_to_nobody(state: str) -> None:
    assert rollback(state) is None


def test_a_failed_rollback_tells_why() -> None:
    message = rollback("escalated")
    assert message is not None
    assert "Now: the restart failed" in message.text
    assert message.severity == "critical"


def test_many_faults_of_a_configuration_are_counted() -> None:
    faults = [f"rollbackd.yaml:{line}: services: no" for line in range(9)]
    message = config_refused_message(path="rollbackd.yaml", faults=faults, at=T0)
    assert "And 5 more." in message.text
    assert msgspec.json.decode(message.details["faults"]) == faults


def test_different_things_have_different_keys() -> None:
    keys = [message.key for message in everything()]
    # a decision and its shadow, a watch and the same as a rollback's, are two ways to tell of one thing
    assert len(set(keys)) == 3 + len(get_args(WatchState)) - 1 + 3 + 3


def test_what_services_wrote_cannot_draw_on_the_readers_screen() -> None:
    """Versions and log lines come from outside, with whatever is in them."""
    evil = "\x1b[2J\nNext: all is well\r" + "x" * 10_000
    message = decision_message(decision(version=evil, reason=evil), "act")
    assert len(message.title) <= 200
    assert [line.split(":")[0] for line in message.text.splitlines()] == ["Why", "Seen", "Guards", "Next", "More"]
    assert "\x1b" not in message.text
