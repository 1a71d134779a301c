"""What a source is: something that runs until cancelled and turns a foreign stream into Events of one service.

"Bad", "no data" and "source down" are three different things. A source reports what it saw with `emit`; that it
could not look with `down`; that it can look again with `up`; and what it saw but could not use with `dropped`.
It never invents an event for what it did not see.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from rollbackd.aiokit import Clock
from rollbackd.model import AnyEvent

T = TypeVar("T")


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


class Commons:
    """What the sources of one daemon share, so that many services ask one far side once and not each for itself.

    Each module keeps its own under keys of its own, such as its name with the settings that must be equal.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, object] = {}

    def get(self, key: Hashable, kind: type[T], make: Callable[[], T]) -> T:
        """What is kept under the key, made now if it is not there yet."""
        found = self._kept.get(key)
        if not isinstance(found, kind):
            found = self._kept[key] = make()
        return found

    def forget(self, key: Hashable) -> None:
        """Keep it no longer: its last user is gone."""
        self._kept.pop(key, None)


@dataclass(frozen=True)
class SourceContext:
    """What the daemon gives a source's factory beside its configuration.

    `state_dir` is a folder of this source's own for what it must remember over restarts, such as its place in a stream;
    it need not exist yet. None where nothing is remembered. `counted_until` tells up to which moment (Unix seconds)
    requests and latencies of the service are known already, as after a restart: a source that can read the past
    begins there. None where none are.
    """

    service: str
    clock: Clock
    state_dir: Path | None = None
    commons: Commons = field(default_factory=Commons)
    counted_until: Callable[[], float | None] = lambda: None
