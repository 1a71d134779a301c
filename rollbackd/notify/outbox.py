"""The delivery loop: takes what people still have to be told from the ledger, and tells them."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from rollbackd.aiokit import Clock, RetryPolicy, retry
from rollbackd.errors import Permanent, Temporary
from rollbackd.notify.base import Message, Notifier

T = TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.outbox")

FIRST_WAIT = 1.0
LONGEST_WAIT = 300.0
"""Waits between attempts double from the one to the other, in seconds."""

LONGEST_RETRY_AFTER = 3600.0
"""A receiver's own wish to be left alone is granted up to here, in seconds."""

_FETCH = 200
_MOST_FETCHED = 100_000
_SEND_WITHIN = 120.0
_LEDGER_RETRIES = RetryPolicy(first_wait=0.5, longest_wait=30.0)


class Item(Protocol):
    """A message that a notifier still has to deliver; `ledger.base.OutboxItem` is one."""

    @property
    def id(self) -> int: ...
    @property
    def notifier(self) -> str: ...
    @property
    def message(self) -> Message: ...
    @property
    def attempts(self) -> int: ...


class Store(Protocol):
    """The outbox's part of the ledger. Methods raise Temporary while it cannot be read or written."""

    async def outbox(self, now: float, limit: int = 100) -> Sequence[Item]: ...
    async def delivered(self, item_id: int) -> None: ...
    async def postpone(self, item_id: int, due_at: float, error: str) -> None: ...
    async def give_up(self, item_id: int, error: str) -> None: ...


@dataclass
class _Lane:
    """One notifier's deliveries, one after another, beside the other notifiers'."""

    task: asyncio.Task[None] | None = None
    failures: int = 0
    rests_until: float = 0.0

    def free(self, now: float) -> bool:
        return self.task is None and self.rests_until <= now


class Outbox:
    """Delivers each message at least once, or gives it up after `give_up_after` seconds of failing.

    A receiver sees the same key twice where the daemon died between its answer and our note of it. After a failure the
    notifier rests, ever longer; the message that failed comes later, so that one that can never arrive blocks no other.
    """

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        clock: Clock,
        *,
        give_up_after: float = 3 * 86400.0,
        idle: float = 30.0,
    ) -> None:
        """`idle` is how often to look, in seconds, when nobody nudges and nothing is known to be due."""
        self._store, self._notifiers, self._clock = store, notifiers, clock
        self._give_up_after, self._idle = give_up_after, idle
        self._lanes: dict[str, _Lane] = {}
        self._due: list[float] = []
        self._nudged = asyncio.Event()
        self._fetch = _FETCH

    def nudge(self) -> None:
        """There is something new to deliver: look now."""
        self._nudged.set()

    def use(self, notifiers: Mapping[str, Notifier]) -> None:
        """Deliver through these from now on. A delivery under way ends with the notifier it began with."""
        self._notifiers = notifiers
        for lane in self._lanes.values():
            lane.rests_until = 0.0
        self.nudge()

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                self._nudged.clear()
                await self._deal()
                await self._wait()
        finally:
            tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _deal(self) -> None:
        """Hand what is due to the notifiers that are free."""
        for lane in self._lanes.values():
            if lane.task is not None and lane.task.done():
                lane.task.result()
                lane.task = None
        now = self._clock.now()
        while self._due and self._due[0] <= now:
            heapq.heappop(self._due)
        items = await self._ridden_out(lambda: self._store.outbox(now, self._fetch))
        work: dict[str, list[Item]] = {}
        for item in items:
            if self._lanes.setdefault(item.notifier, _Lane()).free(now):
                work.setdefault(item.notifier, []).append(item)
        for name, its in work.items():
            task = asyncio.create_task(self._deliver_all(name, its), name=f"outbox-{name}")
            task.add_done_callback(lambda _ended: self.nudge())
            self._lanes[name].task = task
        self._widen(crowded=len(items) >= self._fetch and not work)

    def _widen(self, *, crowded: bool) -> None:
        """Look further where the oldest messages are all for notifiers that are busy: others may wait behind them."""
        if not crowded:
            self._fetch = _FETCH
        elif self._fetch < _MOST_FETCHED:
            self._fetch *= 4
            self.nudge()

    async def _wait(self) -> None:
        """Until somebody nudges, a delivery ends, a rest ends, or a message is due."""
        now = self._clock.now()
        moments = [lane.rests_until for lane in self._lanes.values() if lane.rests_until > now] + self._due[:1]
        pause = min([self._idle, *(max(moment - now, 0.0) for moment in moments)])
        waits = [asyncio.create_task(self._clock.sleep(pause)), asyncio.create_task(self._nudged.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _deliver_all(self, name: str, items: Sequence[Item]) -> None:
        """Deliver one after another, up to the first that fails; what failed before comes after what did not."""
        lane, notifier = self._lanes[name], self._notifiers.get(name)
        for item in sorted(items, key=lambda item: item.attempts):
            failure = await self._try(item, notifier)
            if failure is None:
                lane.failures = 0
                continue
            lane.failures += 1
            lane.rests_until = self._clock.now() + _pause(lane.failures, failure)
            return

    async def _try(self, item: Item, notifier: Notifier | None) -> Temporary | None:
        """One attempt, and the ledger's note of it. What is returned speaks against the receiver, not the message."""
        failure = await _attempt(item, notifier)
        if failure is None:
            await self._ridden_out(lambda: self._store.delivered(item.id))
            return None
        now = self._clock.now()
        about = {
            "notifier": item.notifier,
            "key": item.message.key,
            "attempt": item.attempts + 1,
            "error": str(failure),
        }
        if isinstance(failure, Permanent) or now - item.message.t > self._give_up_after:
            log.error("notification_given_up", **about)
            await self._ridden_out(lambda: self._store.give_up(item.id, str(failure)))
        else:
            due = now + _pause(item.attempts + 1, failure)
            log.warning("notification_failed", **about, retry_in_s=round(due - now, 3))
            heapq.heappush(self._due, due)
            await self._ridden_out(lambda: self._store.postpone(item.id, due, str(failure)))
        return failure if isinstance(failure, Temporary) else None

    async def _ridden_out(self, call: Callable[[], Awaitable[T]]) -> T:
        """The ledger's answer, however long it takes to be able to give one."""
        return await retry(call, _LEDGER_RETRIES, self._clock, on_retry=self._ledger_failed)

    @staticmethod
    def _ledger_failed(error: Temporary, wait: float) -> None:
        log.warning("outbox_ledger_failed", error=str(error), retry_in_s=round(wait, 3))


async def _attempt(item: Item, notifier: Notifier | None) -> Temporary | Permanent | None:
    """Send once; what went wrong, in our own kinds of error, whatever the notifier raised."""
    if notifier is None:
        return Temporary(f"no notifier called {item.notifier} is configured", retry_after=LONGEST_WAIT)
    try:
        async with asyncio.timeout(_SEND_WITHIN):
            await notifier.send(item.message)
    except (Temporary, Permanent) as error:
        return error
    except TimeoutError:
        return Temporary(f"the notifier did not end within {_SEND_WITHIN:g} s")
    except Exception as error:  # a fault in one notifier must not stop the others
        log.exception("notifier_crashed", notifier=item.notifier)
        return Temporary(f"the notifier crashed: {error.__class__.__name__}")
    return None


def _pause(failures: int, error: Temporary) -> float:
    asked = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER)
    return max(asked, min(FIRST_WAIT * 2.0 ** min(failures - 1, 30), LONGEST_WAIT))
