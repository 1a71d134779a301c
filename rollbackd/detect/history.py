"""What is remembered of one service: bounded, whatever it is fed.

Bounds: 8 versions, each 360 rows of counts and 360 rows of at most 64 buckets; 360 rows of probes; 32 gauges of 8
versions with 360 rows each; two days in half hours; 300 log signatures and 360 rows of line counts;
100 alerts. Written out that is 6 MiB at the
very most, and with the usual 12 buckets, one or two versions and no gauges about 100 KiB.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from rollbackd.detect.days import Days
from rollbackd.detect.histogram import Histogram
from rollbackd.detect.line_counts import LineCounts
from rollbackd.detect.series import Series
from rollbackd.detect.signature import merged, signature
from rollbackd.model import Alert, AnyEvent, Gauge, Latency, Log, Probe, Requests
from rollbackd.model import bounds as bucket_bounds

MAX_VERSIONS = 8
MAX_BUCKETS = 64
MAX_GAUGES = 32
MAX_SIGNATURES = 300
EVICTED = 30
"""So many signatures make room at once: to find those worth least takes as long as a hundred lines."""
MAX_ALERTS = 100
MAX_FIRINGS = 6
MAX_INSTANCES = 100
"""Alerts of one name whose ends are told apart; those beyond them end with the last of these."""
KNOWN = 5
"""A signature seen so often is known."""
ERROR_LEVELS = frozenset({"error", "critical", "fatal", "alert", "emergency", "panic"})

ANY_VERSION = ""
"""Key of the stream whose source cannot tell versions apart."""


class LatencySeries(msgspec.Struct):
    """Bucket counts of one layout; a new layout begins a new series."""

    bounds: tuple[float, ...] = ()
    series: Series = msgspec.field(default_factory=Series)

    def window(self, after: float, until: float) -> Histogram:
        """The histogram of the samples in `(after, until]`."""
        _, sums = self.series.window(after, until)
        return Histogram(self.bounds, tuple(sums)) if sums else Histogram((), ())


class SignatureSeen(msgspec.Struct):
    """One log signature of a failure level: when first and last, how often, and when other wordings of it first
    came."""

    first: float
    last: float
    count: int
    widened: float | None = None


class AlertSeen(msgspec.Struct):
    """The alerts of one name: firing since `since`, until `until` (None while one of them fires), and since when they
    fired `before`. `firing` are those that do, where they are told apart."""

    since: float
    until: float | None
    severity: str
    before: tuple[float, ...] = ()
    firing: list[str] = []

    def fires(self, instance: str) -> None:
        """One of them fires, perhaps beside others."""
        if instance and instance not in self.firing and len(self.firing) < MAX_INSTANCES:
            self.firing.append(instance)

    def ends(self, instance: str, t: float) -> None:
        """One of them ends at `t`, or all of them where none are told apart."""
        self.firing = [one for one in self.firing if instance and one != instance]
        if not self.firing:
            self.until = t


class History(msgspec.Struct):
    """Everything remembered of one service's signals.

    `newest_signature` is that of the newest line of a failure level, and `merged_signature` the one that was last
    found to be another wording of it, and went into it. `logs` is whether any line was ever seen.
    """

    counts: dict[str, Series] = {}
    latency: dict[str, LatencySeries] = {}
    counts_of_days: Days = msgspec.field(default_factory=Days)
    latency_of_days: Days = msgspec.field(default_factory=Days)
    bounds_of_days: tuple[float, ...] = ()
    probes: Series = msgspec.field(default_factory=Series)
    gauges: dict[str, dict[str, Series]] = {}
    signatures: dict[str, SignatureSeen] = {}
    newest_signature: str = ""
    merged_signature: str = ""
    logs: bool = False
    lines: LineCounts = msgspec.field(default_factory=LineCounts)
    alerts: dict[str, AlertSeen] = {}
    first_at: float | None = None
    last_at: float | None = None

    def add(self, event: AnyEvent) -> None:
        """Remember one event."""
        if isinstance(event, Requests):
            key = event.version or ANY_VERSION
            self._slot(self.counts, key, Series).add(event.t, (event.errors, event.total))
            self.counts_of_days.add(event.t, (event.errors, event.total))
        elif isinstance(event, Latency):
            self._add_latency(event)
        elif isinstance(event, Probe):
            self.probes.add(event.t, (0.0 if event.up else 1.0, 1.0))
        elif isinstance(event, Gauge):
            streams = self.gauges.get(event.name)
            if streams is None and len(self.gauges) < MAX_GAUGES:
                streams = self.gauges[event.name] = {}
            if streams is not None:
                self._slot(streams, event.version or ANY_VERSION, Series).add(event.t, (event.value, 1.0))
        elif isinstance(event, Log):
            self.logs = True
            self._add_log(event)
        elif isinstance(event, Alert):
            self._add_alert(event)
        else:
            return
        self.first_at = min(event.t, event.t if self.first_at is None else self.first_at)
        self.last_at = max(event.t, self.last_at or event.t)

    def _add_latency(self, event: Latency) -> None:
        buckets = _thinned(event.buckets)
        series = self._slot(self.latency, event.version or ANY_VERSION, LatencySeries)
        bounds = bucket_bounds(buckets)
        if bounds != series.bounds:
            series.bounds, series.series = bounds, Series(last=series.series.last)
        sums = tuple(buckets.values())
        series.series.add(event.t, sums)
        if bounds == self.bounds_of_days or not self.bounds_of_days or event.version is None:
            self.bounds_of_days = bounds  # beside a canary's other layout the one that was there first goes on
            self.latency_of_days.add(event.t, sums)

    def _slot(self, table: dict[str, SlotT], key: str, fresh: type[SlotT]) -> SlotT:
        found = table.get(key)
        if found is None:
            if len(table) >= MAX_VERSIONS:
                del table[min(table, key=lambda name: _last(table[name]))]
            found = table[key] = fresh()
        return found

    def _add_log(self, event: Log) -> None:
        if event.level.lower() not in ERROR_LEVELS:
            self.lines.add(event.t, 0.0, event.count)
            return
        self.lines.add(event.t, event.count, 0.0)
        text = signature(event.message)
        seen = self.signatures.get(text)
        if seen is None:
            text, seen = self._merged(text, event.t)
        self.newest_signature = text
        if seen is not None:
            seen.count += event.count
            seen.last = max(seen.last, event.t)
            return
        if len(self.signatures) >= MAX_SIGNATURES:
            for least in sorted(self.signatures, key=self._worth)[:EVICTED]:
                del self.signatures[least]
        self.signatures[text] = SignatureSeen(event.t, event.t, event.count)

    def _worth(self, text: str) -> tuple[int, float]:
        """What was seen once goes before what is known to come again, the longest ago first."""
        seen = self.signatures[text]
        return min(seen.count, KNOWN), seen.last

    def _merged(self, text: str, t: float) -> tuple[str, SignatureSeen | None]:
        """The signature under which a line of a wording not seen before belongs, and what is known of it."""
        if len(self.signatures) >= MAX_SIGNATURES - EVICTED:
            return text, None  # in a storm of messages each would be held against hundreds
        begin, blanks = text.partition(" ")[0] + " ", text.count(" ")
        for known, seen in self.signatures.items():
            if not known.startswith(begin) or known.count(" ") != blanks:
                continue  # told without taking it apart: a storm of messages asks this of each for each
            together = merged(known, text, seen.count)
            if together is None:
                continue
            if together != known:
                del self.signatures[known]
                other = self.signatures.get(together)
                widened = seen.widened if seen.widened is not None else t
                if other is not None:
                    first, last = min(seen.first, other.first), max(seen.last, other.last)
                    widened = min(widened, other.widened if other.widened is not None else t)
                    seen = SignatureSeen(first, last, seen.count + other.count)
                seen.widened = widened
                self.signatures[together] = seen
                self.merged_signature = known
            return together, seen
        return text, None

    def _add_alert(self, event: Alert) -> None:
        seen = self.alerts.get(event.name)
        if event.status == "resolved":
            if seen is not None and seen.until is None and event.t >= seen.since:
                seen.ends(event.instance, event.t)
            return
        if seen is not None and seen.until is None:
            seen.since, seen.severity = min(seen.since, event.since), event.severity
            seen.fires(event.instance)
            return
        if seen is None and len(self.alerts) >= MAX_ALERTS:
            del self.alerts[
                min(self.alerts, key=lambda name: (self.alerts[name].until is None, self.alerts[name].since))
            ]
        before = (*seen.before, seen.since)[-MAX_FIRINGS:] if seen is not None else ()
        self.alerts[event.name] = AlertSeen(
            event.since, None, event.severity, before, [event.instance] if event.instance else []
        )

    def forget(self, version: str, after: float, until: float) -> None:
        """Take out what a condemned release left in `(after, until]`, so that it is nobody's baseline.

        Its own streams go, and of the stream of all versions and the probes that stretch; so do the error messages that
        came with it, which are then as new as before.
        """
        tables: tuple[dict[str, Series] | dict[str, LatencySeries], ...] = (self.counts, self.latency)
        for table in (*tables, *self.gauges.values()):
            table.pop(version, None)
        if (counts := self.counts.get(ANY_VERSION)) is not None:
            counts.cut(after, until)
        if (latency := self.latency.get(ANY_VERSION)) is not None:
            latency.series.cut(after, until)
        for streams in self.gauges.values():
            if (gauge := streams.get(ANY_VERSION)) is not None:
                gauge.cut(after, until)
        self.probes.cut(after, until)
        self.lines.series.cut(after, until)
        self.counts_of_days.cut(after, until)
        self.latency_of_days.cut(after, until)
        for text in [text for text, seen in self.signatures.items() if seen.first > after]:
            del self.signatures[text]

    def counted_until(self) -> float | None:
        """The newest moment of which counts of requests, or latencies, are known."""
        ends = [slot.last for slot in self.counts.values()] + [slot.series.last for slot in self.latency.values()]
        return max((end for end in ends if end is not None), default=None)

    def counted(self, versions: Iterable[str], after: float, until: float) -> tuple[float, float]:
        """(errors, total) of these streams in `(after, until]`."""
        errors = total = 0.0
        for version in versions:
            if (series := self.counts.get(version)) is not None:
                _, sums = series.window(after, until)
                if sums:
                    errors, total = errors + sums[0], total + sums[1]
        return errors, total


SlotT = TypeVar("SlotT", Series, LatencySeries)


def _thinned(buckets: dict[str, float]) -> dict[str, float]:
    """At most so many buckets: cumulative counts stay true when a bound between two others is left out."""
    step = -(-len(buckets) // MAX_BUCKETS)
    return buckets if step <= 1 else dict(reversed(list(reversed(buckets.items()))[::step]))


def _last(slot: Series | LatencySeries) -> float:
    series = slot.series if isinstance(slot, LatencySeries) else slot
    return series.last or 0.0
