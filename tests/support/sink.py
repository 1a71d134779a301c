"""A sink that remembers what a source told it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TypeVar

import msgspec

from rollbackd.model import AnyEvent

T = TypeVar("T")


class RecordingSink:
    """Remembers events and states; `hold` makes `emit` wait as a full queue does, until `release`."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.history: list[str] = []
        self.looks = 0
        self.drops: Counter[str] = Counter()
        self.waiting = 0
        self._open = asyncio.Event()
        self._open.set()

    async def emit(self, event: AnyEvent) -> None:
        self.waiting += 1
        await self._open.wait()
        self.waiting -= 1
        self.events.append(event)

    def up(self) -> None:
        self.looks += 1
        self._told("up")

    def down(self, reason: str) -> None:
        self.looks += 1
        self._told(f"down: {reason}")

    def dropped(self, reason: str, count: int = 1) -> None:
        self.drops[reason] += count

    def _told(self, state: str) -> None:
        if not self.history or self.history[-1] != state:
            self.history.append(state)

    @property
    def state(self) -> str:
        """The last thing told, `up` or `down: reason`; empty before the first."""
        return self.history[-1] if self.history else ""

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def of(self, kind: type[T]) -> list[T]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def invalid(self) -> list[str]:
        """What others would find wrong with the events: each must survive strict reading, in order of time."""
        faults = []
        last = 0.0
        for event in self.events:
            try:
                if msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) != event:
                    faults.append(f"reads differently: {event}")
            except (msgspec.ValidationError, msgspec.DecodeError) as error:
                faults.append(f"{error}: {event}")
            if event.t < last:
                faults.append(f"goes back in time: {event}")
            last = event.t
        return faults
