"""Pushed histograms: what their buckets grew by, whether they come whole or each bucket as a series of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rollbackd.metrics.moments import Account, Receipt
from rollbackd.metrics.pushed import ERROR, REQUEST, REQUESTS, Offer, Service, Slot, Target
from rollbackd.metrics.uses import latency_purpose
from rollbackd.model import MAX_COUNT

MAX_OPEN = 3
"""Moments of one histogram of which not all buckets have come; of more, the oldest is given up."""

FIRST_S = 6.0
"""Which buckets a histogram has is known so long after the first of them came."""

_INF = "+Inf"
_NEVER = -math.inf


class Distribution:
    """The counts of one histogram. Under the meanings `places` it is that one of their latencies, and `roles` tells
    under which its observations are requests or failures."""

    def __init__(
        self,
        service: Service,
        account: Account,
        target: Target,
        places: Mapping[int, int],
        roles: Mapping[int, int],
    ) -> None:
        self.service, self.account, self.target = service, account, target
        self.receipt: Receipt = account.receipt
        self.t, self.start = _NEVER, 0.0
        self._last: Mapping[str, float] | None = None
        self._places, self._roles = places, roles
        self._epoch, self._latency, self._use = -1, False, 0

    def count(self, t: float, counts: Mapping[str, float], *, began: bool = False) -> None:
        """All buckets of moment `t`. `began` says that they began at 0 since we know their target."""
        last, before = self._last, self.t
        self._last, self.t = counts, t
        if last is not None:
            grown = counts if self.start > before else _grown(last, counts)
        elif began:
            grown = counts
        else:
            return
        if self._epoch != self.service.epoch:
            self._choose()
        moment = self.account.at(t) if self._latency or self._use else None
        if moment is None:
            return
        if self._latency and len(grown) > 1:
            moment.add(grown)
        if self._use:
            moment.counted = True
            if self._use & REQUEST:
                moment.total += grown[_INF]
            if self._use & ERROR:
                moment.errors += grown[_INF]

    def _choose(self) -> None:
        best = self.service.best
        self._epoch = self.service.epoch
        rank = best.get(REQUESTS, -1)
        self._use = self._roles.get(rank, 0)
        self._latency = rank in self._places and best.get(latency_purpose(rank)) == self._places[rank]


def _grown(last: Mapping[str, float], counts: Mapping[str, float]) -> Mapping[str, float]:
    """What the buckets that both have grew by; all that they hold where one of them fell, since then all began anew."""
    grown = {bound: count - last[bound] for bound, count in counts.items() if bound in last}
    return counts if min(grown.values()) < 0 else grown


class Classic(Distribution):
    """A histogram whose buckets are series: they are counted together, when all of one moment have come.

    The buckets of one look may come in several requests. A moment that stays without some of them, while a newer one
    has them all, is left out, and what it would have counted comes with the newer one.
    """

    def __init__(
        self,
        service: Service,
        account: Account,
        target: Target,
        places: Mapping[int, int],
    ) -> None:
        super().__init__(service, account, target, places, {})
        self.members: dict[str, BucketSlot] = {}
        self._open: dict[float, dict[str, float]] = {}
        self._heard = self.receipt.now
        self._began: bool | None = None

    def collect(self, bound: str, t: float, value: float) -> None:
        """One bucket of moment `t`."""
        counts = self._open.get(t)
        if counts is None:
            if t <= self.t:
                self.receipt.dropped["out_of_order"] += 1
                return
            counts = self._opened(t)
        counts[bound] = value
        if len(counts) >= len(self.members):
            self._complete(t, counts)

    def _opened(self, t: float) -> dict[str, float]:
        if self._began is None:
            self._began = self.target.began(t, self.start)
        if t > self.target.t:
            self.target.look(t)
        if len(self._open) >= MAX_OPEN:
            oldest = min(self._open)
            self._give_up(oldest)
            for member in [one for one in self.members.values() if one.t < oldest]:
                member.leave()  # it is not there any more, and the others need not wait for it
        return self._open.setdefault(t, {})

    def _give_up(self, t: float) -> None:
        del self._open[t]
        if self._last is not None:
            self.receipt.dropped["incomplete_histogram"] += 1

    def _complete(self, t: float, counts: dict[str, float]) -> None:
        if _INF not in counts or self.receipt.now - self._heard < FIRST_S:
            return
        for older in sorted(other for other in self._open if other < t):
            first = self._open[older]
            if self._last is None and not self._began and first.keys() == counts.keys():
                self.count(older, first)
                del self._open[older]
            else:
                self._give_up(older)
        del self._open[t]
        self.count(t, counts, began=bool(self._began))


class BucketSlot(Slot):
    """One bucket of a histogram whose buckets are series."""

    __slots__ = ("bound", "histogram", "joined")

    def __init__(
        self,
        service: Service,
        account: Account,
        target: Target,
        offers: Sequence[Offer],
        histogram: Classic,
        bound: str,
    ) -> None:
        super().__init__(service, account, target, offers)
        self.histogram, self.bound, self.joined = histogram, bound, False

    def take(self, t: float, value: float, start: float = 0.0) -> None:
        if t <= self.t:
            self._old(t)
            return
        if not 0.0 <= value <= MAX_COUNT:
            self._unusable()
            return
        self.t = t
        histogram = self.histogram
        if not self.joined:
            self.joined = True
            histogram.members[self.bound] = self
        if start > histogram.start:
            histogram.start = start
        histogram.collect(self.bound, t, value)

    def leave(self) -> None:
        if self.joined:
            self.joined = False
            del self.histogram.members[self.bound]


class HistogramSlot(Slot):
    """A histogram that comes whole."""

    __slots__ = ("histogram",)

    def __init__(
        self,
        service: Service,
        account: Account,
        target: Target,
        offers: Sequence[Offer],
        histogram: Distribution,
    ) -> None:
        super().__init__(service, account, target, offers)
        self.histogram = histogram

    def take_histogram(self, t: float, buckets: Mapping[str, float], start: float = 0.0) -> None:
        if t <= self.t:
            self._old(t)
            return
        if not all(0.0 <= count <= MAX_COUNT for count in buckets.values()) or _INF not in buckets:
            self._unusable()
            return
        histogram, target = self.histogram, self.target
        began = self.t == _NEVER and target.began(t, start)
        if t > target.t:
            target.look(t)
        self.t = t
        histogram.start = max(histogram.start, start)
        histogram.count(t, buckets, began=began)
