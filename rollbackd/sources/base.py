"""What a source is: something that runs until cancelled and turns a foreign stream into Events of one service.

"Bad", "no data" and "source down" are three different things. A source reports what it saw with `emit`; that it
could not look with `down`; that it can look again with `up`; and what it saw but could not use with `dropped`.
It never invents an event for what it did not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rollbackd.aiokit import Clock
from rollbackd.model import AnyEvent


class Sink(Protocol):
    """Where a source puts what it learns. Given by the daemon, one per source instance."""

    async def emit(self, event: AnyEvent) -> None:
        """Hand over one event; waits while the service's queue is full (back-pressure)."""

    def up(self) -> None:
        """The stream is readable. Call after every successful look; repeating is cheap."""

    def down(self, reason: str) -> None:
        """The stream cannot be read now. `reason` is one sentence without secrets; repeating is cheap."""

    def dropped(self, reason: str, count: int = 1) -> None:
        """Something was seen but could not be used. `reason` is a short stable label: it becomes a metric label."""


class Source(Protocol):
    """A stream of one service."""

    async def run(self, sink: Sink) -> None:
        """Read the stream until cancelled; survive every fault of the far side by `down` and trying again.

        Releases everything it holds when cancelled. Raises Permanent only for what no retry can cure.
        """


@dataclass(frozen=True)
class SourceContext:
    """What the daemon gives a source's factory beside its configuration."""

    service: str
    clock: Clock
