"""Where the growth of pushed counters is added up by the moment it was sampled at, until that moment has settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rollbackd.model import MAX_BACKWARDS_S, MAX_COUNT, AnyEvent, Gauge, Latency, Requests

SETTLE_S = 6.0
"""A moment is told of when it is so old: Prometheus sends what it scraped within 5 s, in several requests, and the
failures of one scrape must not be counted apart from its successes."""

QUIET_S = 3.0
"""And not sooner after its first sample came, so that a sender which lags behind is heard out too."""

LATE_S = 30.0
"""What comes so late after its moment was told of counts as of the newest moment told; later still, as of its own."""

AHEAD_S = 10.0
"""A sender's clock may be ahead of ours by so much; what is sampled later still counts as of its arrival."""

REACH_S = MAX_BACKWARDS_S - 30.0
"""Growth that was sampled longer ago than this is no news: it is dropped. The engine's bound, less the time that an
event may take to reach it."""


@dataclass(eq=False, slots=True)
class Receipt:
    """What all series share: when the delivery at hand came, and what could not be used, by reason."""

    now: float = 0.0
    since: float = 0.0
    """When the first delivery came."""
    newest: float | None = None
    """The newest moment that a counter was sampled at in the delivery at hand, if there is news in it."""
    blind_until: float = 0.0
    """Until then a series that is new to us may be an old one, which was refused before."""
    dropped: Counter[str] = field(default_factory=Counter)

    def usable(self, bounded: bool) -> bool:
        """Whether a sum is bounded, as events must be: each part of it can be, and the sum not."""
        if not bounded:
            self.dropped["not_a_number"] += 1
        return bounded


@dataclass(eq=False, slots=True)
class Moment:
    """One second of one version: what its samples grew by. `t` is the newest of them, `opened` when the first came.

    `buckets` holds, by bound, what the histograms grew by and how many of them have that bound.
    """

    t: float
    opened: float
    counted: bool = False
    total: float = 0.0
    errors: float = 0.0
    buckets: dict[str, list[float]] = field(default_factory=dict)
    levels: dict[str, float] = field(default_factory=dict)

    def add(self, grown: Mapping[str, float]) -> None:
        """Add what a histogram grew by, cumulative by bound."""
        buckets = self.buckets
        for bound, count in grown.items():
            found = buckets.get(bound)
            if found is None:
                buckets[bound] = [count, 1.0]
            else:
                found[0] += count
                found[1] += 1.0


@dataclass(eq=False, slots=True)
class Account:
    """One version of one service, and its moments that have not settled: one a second at most, back to REACH_S."""

    service: str
    version: str | None
    receipt: Receipt
    open: dict[Account, None]
    """Shared by all: the accounts that have such moments."""
    moments: dict[int, Moment] = field(default_factory=dict)
    settled: float = 0.0
    """The newest moment that was told of."""

    def at(self, t: float) -> Moment | None:
        """Where to add what was sampled at `t`; None where that lies too far back."""
        found = self.moments.get(int(t))
        if found is None:
            found = self._opened(t)
        elif t > found.t:
            found.t = t
        return found

    def _opened(self, t: float) -> Moment | None:
        now = self.receipt.now
        if t < now - REACH_S:
            self.receipt.dropped["too_old"] += 1
            return None
        if self.settled - LATE_S <= t < self.settled:
            t = self.settled
        if t > now + AHEAD_S:
            t = now
        found = self.moments.get(int(t))
        if found is None:
            found = self.moments[int(t)] = Moment(t, now)
            self.open[self] = None
        found.t = max(found.t, t)
        return found

    def told(self, now: float) -> Iterator[AnyEvent]:
        """The events of the moments that have settled by `now`, in order of time."""
        for second in sorted(self.moments):
            moment = self.moments[second]
            # A clock that was set back must not keep them: then they count as of now.
            if -AHEAD_S <= now - moment.t < SETTLE_S or 0 <= now - moment.opened < QUIET_S:
                break
            del self.moments[second]
            t = min(moment.t, now)
            if t < now - REACH_S:
                self.receipt.dropped["too_old"] += 1
                continue
            self.settled = t
            yield from self._events(t, moment)
        if not self.moments:
            self.open.pop(self, None)

    def _events(self, t: float, moment: Moment) -> Iterator[AnyEvent]:
        service, version, usable = self.service, self.version, self.receipt.usable
        if moment.counted:
            total = max(moment.total, moment.errors)
            if usable(total <= MAX_COUNT):
                yield Requests(t=t, service=service, version=version, total=total, errors=moment.errors)
        if moment.buckets:
            buckets = _cumulative(moment.buckets)
            count = buckets.get("+Inf", 0.0)
            if count and usable(count <= MAX_COUNT):
                yield Latency(t=t, service=service, version=version, buckets=buckets)
        for name, value in moment.levels.items():
            yield Gauge(t=t, service=service, version=version, name=name, value=value)


def _cumulative(found: Mapping[str, list[float]]) -> dict[str, float]:
    """The bounds that every histogram of the sum has, in order; counts read while they rose may lag by a little."""
    most = max(parts for _, parts in found.values())
    shared = sorted((bound for bound, (_, parts) in found.items() if parts == most), key=float)
    buckets: dict[str, float] = {}
    floor = 0.0
    for bound in shared:
        floor = max(floor, found[bound][0])
        buckets[bound] = floor
    return buckets if "+Inf" in buckets else {}
