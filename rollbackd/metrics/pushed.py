"""Pushed series, one object each: counters and levels. Each remembers its last sample and adds what is new of the next.

A sample costs the same however many series there are. Nothing here fails: what cannot be used is counted by reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from rollbackd.metrics.moments import Account, Receipt
from rollbackd.model import MAX_COUNT

REQUEST, ERROR = 1, 2
"""What a counter counts, to be added."""

KNOWN_AFTER_S = 20.0
"""A target is known when it has been heard for so long, in two looks at the least: the requests that one look at it
was sent in have all come by then, even those that had to be sent again."""

LIVE_S = 180.0
"""A series that was not heard for so long is not there: many senders push once a minute."""

REQUESTS = "requests"
"""What of a service's meanings is used is kept under this name in `Service.best`."""

_NEVER = -math.inf

Offer: TypeAlias = tuple[str, int]
"""For a purpose, the place that a series has among those that could serve it; the lowest serves."""


@dataclass(eq=False, slots=True)
class Service:
    """One service: which of the things that could serve each purpose does. `epoch` is another after that changed."""

    name: str
    best: dict[str, int]
    epoch: int = 0
    accounts: dict[str | None, Account] = field(default_factory=dict)

    def offer(self, offers: Sequence[Offer]) -> None:
        """A series is there that could serve these purposes."""
        for purpose, rank in offers:
            if rank < self.best.get(purpose, rank + 1):
                self.best[purpose] = rank
                self.epoch += 1

    def settle_for(self, best: Mapping[str, int]) -> None:
        """Of what once was the best, some is there no more. A purpose that nothing serves now keeps what it had."""
        if any(rank != self.best.get(purpose) for purpose, rank in best.items()):
            self.best.update(best)
            self.epoch += 1


@dataclass(eq=False, slots=True)
class Target:
    """One process, or whatever is looked at as a whole, as far as one metric goes."""

    receipt: Receipt
    heard: float
    """When it was heard first."""
    t: float = _NEVER
    looks: int = 0

    def look(self, t: float) -> None:
        """Note a newer sample of it."""
        self.t = t
        self.looks += 1
        newest = self.receipt.newest
        if newest is None or t > newest:
            self.receipt.newest = t

    def began(self, t: float, start: float) -> bool:
        """Whether a series of it whose first sample is this one began at 0 since we know its target."""
        receipt = self.receipt
        if receipt.now < receipt.blind_until:
            return False
        if (self.t if self.looks else receipt.since) < start <= t:
            return True
        earlier = self.looks if t > self.t else self.looks - 1
        return earlier >= 2 and receipt.now - self.heard >= KNOWN_AFTER_S


class Slot:
    """One wanted series. `t` are the sender's moments in Unix seconds; `scale` makes seconds of a histogram's unit.

    Once it is `gone` its samples lead nowhere: ask for another one.
    """

    __slots__ = (
        "account",
        "ended",
        "epoch",
        "gone",
        "heard",
        "noted",
        "offers",
        "receipt",
        "scale",
        "service",
        "t",
        "target",
    )

    def __init__(self, service: Service, account: Account, target: Target, offers: Sequence[Offer]) -> None:
        self.service, self.account, self.target, self.offers = service, account, target, offers
        self.receipt = account.receipt
        self.scale, self.gone = 1.0, False
        self.heard, self.noted = self.receipt.now, _NEVER
        self.t = self.ended = _NEVER
        self.epoch = -1

    def take(self, t: float, value: float, start: float = 0.0) -> None:
        """A sample. `start` is when its counting began, 0 where that is not known."""
        del t, value, start
        self.receipt.dropped["unexpected_type"] += 1

    def take_histogram(self, t: float, buckets: Mapping[str, float], start: float = 0.0) -> None:
        """A whole histogram: counts up to each bound, a text of seconds as events have it, the last one `+Inf`."""
        del t, buckets, start
        self.receipt.dropped["unexpected_type"] += 1

    def stale(self, t: float) -> None:
        """The sender says that the series ended, or that its target could not be read. It may come back."""
        self.ended = max(t, self.ended)

    def leave(self) -> None:
        """It is forgotten."""

    def silent(self, now: float) -> float:
        """How long it was not heard, in seconds of ours and to the call before: a sender may lag far behind. Infinite
        where it has ended."""
        if self.t > self.noted:
            self.noted, self.heard = self.t, now
        return now - self.heard if self.t > self.ended else math.inf

    def _old(self, t: float) -> None:
        """A sample that is not newer: the same one once more, which is nothing, or one that came too late."""
        if t != self.t:
            self.receipt.dropped["out_of_order"] += 1

    def _unusable(self) -> None:
        self.receipt.dropped["not_a_number"] += 1


class CounterSlot(Slot):
    """A counter of requests or failures; `roles` tells under which meaning it counts what."""

    __slots__ = ("roles", "use", "value")

    def __init__(
        self,
        service: Service,
        account: Account,
        target: Target,
        offers: Sequence[Offer],
        roles: Mapping[int, int],
    ) -> None:
        super().__init__(service, account, target, offers)
        self.roles, self.use, self.value = roles, 0, math.nan

    def take(self, t: float, value: float, start: float = 0.0) -> None:
        if t <= self.t:
            self._old(t)
            return
        grown = value - self.value
        if not 0.0 <= grown <= MAX_COUNT or start > self.t:
            grown = self._anew(t, value, start)
        target = self.target
        if t > target.t:
            target.look(t)
        if grown < 0.0:
            return
        self.t, self.value = t, value
        if self.epoch != self.service.epoch:
            self._choose()
        use = self.use
        if use:
            moment = self.account.at(t)
            if moment is not None:
                moment.counted = True
                if use & REQUEST:
                    moment.total += grown
                if use & ERROR:
                    moment.errors += grown

    def _anew(self, t: float, value: float, start: float) -> float:
        """What a counter that began anew has counted; below 0 where that cannot be told."""
        if not 0.0 <= value <= MAX_COUNT:
            self._unusable()
            return -1.0
        if math.isnan(self.value) and not self.target.began(t, start):
            self.t, self.value = t, value
            return -1.0
        return value

    def _choose(self) -> None:
        self.epoch = self.service.epoch
        self.use = self.roles.get(self.service.best.get(REQUESTS, -1), 0)


class Level:
    """A level of one version: the sum of the newest values of its series, told once all have been heard again.

    Each comes in its own time. So a round is over when all that were heard in the last one were heard in this, or when
    one is heard twice: in between, the sum would be that of some new and some old values, and at first of some alone.
    """

    __slots__ = ("_expected", "_heard", "_latest", "_t", "account", "name", "purpose", "row", "service")

    def __init__(self, service: Service, account: Account, name: str, purpose: str, row: int) -> None:
        self.service, self.account, self.name, self.purpose, self.row = service, account, name, purpose, row
        self._latest: dict[LevelSlot, float] = {}
        self._heard: set[LevelSlot] = set()
        self._expected: set[LevelSlot] | None = None
        self._t = _NEVER

    def update(self, slot: LevelSlot, t: float, value: float) -> None:
        """The newest value of one of its series."""
        if slot in self._heard:
            self._tell()
        self._latest[slot] = value
        self._heard.add(slot)
        self._t = max(self._t, t)
        if self._expected is not None and self._expected <= self._heard:
            self._tell()

    def drop(self, slot: LevelSlot) -> None:
        """One of its series has ended."""
        self._latest.pop(slot, None)
        self._heard.discard(slot)
        if self._expected is not None:
            self._expected.discard(slot)

    def _tell(self) -> None:
        if len(self._heard) < len(self._latest):
            for slot in [slot for slot in self._latest if slot.t < self._t - LIVE_S]:
                del self._latest[slot]
        self._expected, self._heard = self._heard, set()
        if self.service.best.get(self.purpose) != self.row:
            return
        value = sum(self._latest.values())
        if self.account.receipt.usable(math.isfinite(value)):
            moment = self.account.at(self._t)
            if moment is not None:
                moment.levels[self.name] = value


class LevelSlot(Slot):
    """A series of a level; of a counter whose growth per second is the level, where `rate`."""

    __slots__ = ("level", "rate", "value")

    def __init__(
        self, service: Service, account: Account, target: Target, offers: Sequence[Offer], level: Level, *, rate: bool
    ) -> None:
        super().__init__(service, account, target, offers)
        self.level, self.rate, self.value = level, rate, math.nan

    def take(self, t: float, value: float, start: float = 0.0) -> None:
        if t <= self.t:
            self._old(t)
        elif not math.isfinite(value):
            self._unusable()
        elif not self.rate:
            self.t = t
            self.level.update(self, t, value)
        else:
            grown, seconds = value - self.value, t - self.t
            self.t, self.value = t, value
            if not math.isnan(grown):
                self.level.update(self, t, (value if grown < 0 or start > t - seconds else grown) / seconds)

    def stale(self, t: float) -> None:
        super().stale(t)
        self.level.drop(self)

    def leave(self) -> None:
        self.level.drop(self)
