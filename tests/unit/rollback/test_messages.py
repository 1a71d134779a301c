"""What people read about a rollback."""

from __future__ import annotations

from typing import get_args

import msgspec

from rollbackd.ledger.base import RollbackState
from rollbackd.rollback.messages import announcing
from tests.unit.rollback.house import House


async def test_every_notifier_is_told_once_a_step(house: House) -> None:
    rollback = await house.planned()
    messages_for = announcing(lambda: ["chat", "mail"])
    told = {state: messages_for(rollback, state, "because", 5.0) for state in get_args(RollbackState)}
    assert {state for state, messages in told.items() if messages} == {"reverting", "verified", "escalated"}
    assert [name for name, _ in told["escalated"]] == ["chat", "mail"]
    keys = {message.key for messages in told.values() for _, message in messages}
    assert len(keys) == 3
    assert messages_for(rollback, "verified", "later", 9.0)[0][1].key in keys


async def test_a_message_says_what_why_and_who(house: House) -> None:
    rollback = await house.planned()
    ((_, message),) = announcing(lambda: ["chat"])(rollback, "escalated", "1.0 is gone from the disk", 5.0)
    assert message.title == "checkout: the rollback of 2.0 needs you"
    assert message.text == "1.0 is gone from the disk\nWhy: 12 % of requests fail\nAsked for by engine."
    facts = msgspec.json.decode(msgspec.json.encode(message))["details"]
    assert facts["rollback_id"] == rollback.id
    assert (facts["state"], facts["version"], facts["to"]) == ("escalated", "2.0", "1.0")
    assert facts["decision_id"] == rollback.plan.decision_id
