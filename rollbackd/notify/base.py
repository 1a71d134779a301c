"""What a notifier is: one way of telling people. It tries once; the daemon's outbox remembers and tries again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import msgspec

from rollbackd.aiokit import Clock

Topic: TypeAlias = Literal["decision", "watch", "rollback", "source", "config", "daemon"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One thing worth telling. `key` is unique to it: a receiver can recognise a repeated delivery."""

    key: str
    t: float
    topic: Topic
    service: str | None
    severity: Literal["info", "warning", "critical"]
    title: str
    text: str
    details: Mapping[str, msgspec.Raw] = {}


class Notifier(Protocol):
    """One receiver."""

    async def send(self, message: Message) -> None:
        """Deliver once. Raises Temporary (with the receiver's Retry-After) or Permanent."""

    async def close(self) -> None:
        """Release everything. Safe to call twice."""


@dataclass(frozen=True)
class NotifierContext:
    """What the daemon gives a notifier's factory beside its configuration. `name` is what the operator calls it."""

    name: str
    clock: Clock
