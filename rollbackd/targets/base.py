"""What a target is: a place where releases of one service run, that can say what runs and can put another one there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from rollbackd.aiokit import Clock
from rollbackd.model import Phase, Release


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a revert would work right now. `problems` are sentences; empty means ready."""

    problems: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return not self.problems


class RevertOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Put release `to` in the place of release `expect`.

    `key` names the order itself: the same key always means the same revert. `reason` is why, in a sentence for people;
    it may quote what services wrote.
    """

    to: str
    expect: str
    key: str
    reason: str = ""


class TargetChange(msgspec.Struct, frozen=True, kw_only=True):
    """The target saw a deployment, by whomever."""

    t: float
    version: str
    previous: str | None
    phase: Phase


class Target(Protocol):
    """A place where one service's releases run.

    Every method raises Temporary where trying again can help and Permanent where it cannot; each bounds its own
    time. Nothing but `revert` changes anything; `settled`, asked after it, may remove what keeps the revert from
    going on.
    """

    async def current(self) -> Release | None:
        """The release in place now; None where nothing is deployed."""

    async def history(self) -> list[Release]:
        """Releases that could be put in place, newest first, the current one among them."""

    async def readiness(self, to: str) -> Readiness:
        """Whether `revert` to release `to` would work right now, found out without changing anything."""

    async def revert(self, order: RevertOrder) -> None:
        """Put `order.to` in place and return once the platform accepted it.

        Idempotent: where `order.to` is already in place because of this very key, finish what is left undone (a
        restart that did not happen) and return. Raises Conflict where the release in place is neither
        `order.expect` nor `order.to`, or where the key was already spent and something was deployed since.
        """

    async def settled(self, to: str) -> bool:
        """Whether release `to` is fully in place and nothing of the old one still runs, as far as can be told."""

    def changes(self) -> AsyncIterator[TargetChange]:
        """Deployments as they happen, until cancelled; survives faults of the far side."""

    async def close(self) -> None:
        """Release everything. Safe to call twice."""


@dataclass(frozen=True)
class TargetContext:
    """What the daemon gives a target's factory beside its configuration. `state_dir` is private to this target."""

    service: str
    clock: Clock
    state_dir: Path
