"""What people read about a rollback."""

from __future__ import annotations

from typing import get_args

import msgspec

from rollbackd.ledger.base import RollbackState
from tests.support.announcing import announcing
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
    assert message.title == "checkout: the rollback to 1.0 needs somebody"
    said = ("2.0 -> 1.0, asked for by engine", "Why: 12 % of requests fail", "Now: 1.0 is gone from the disk")
    assert all(sentence in message.text for sentence in said)
    facts = msgspec.json.decode(msgspec.json.encode(message))["details"]
    assert facts["id"] == rollback.id
    assert (facts["state"], facts["version"], facts["to"]) == ("escalated", "2.0", "1.0")
    assert facts["requested_by"] == "engine"
