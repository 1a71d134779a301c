"""Synthetic event streams: a service's traffic, errors, latencies, probes, logs and alerts, from a seed.

    shop = Service("shop", seed=7, rate=80)
    events = [*shop.deploy("v1", 0), *shop.run(0, 60), *shop.deploy("v2", 60), *shop.run(60, 90, errors=0.2)]

The same calls on the same seed give the same events. `weave` puts several services' streams in order of time.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import Engine
from rollbackd.model import (
    Alert,
    AlertStatus,
    AnyEvent,
    Decision,
    DeploymentEvent,
    Latency,
    Log,
    Outcome,
    Phase,
    Probe,
    Requests,
)

START = 1_700_000_000.0
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""The usual bucket bounds of a web service, in seconds."""


@dataclass
class Service:
    """One service's source: what it would have sent. Times are seconds after `START`, so tests read easily.

    `rate` is in requests a second, `usual_errors` a share of them, `median` in seconds with log-normal `spread`;
    `labelled` streams carry the version. `burst` makes traffic uneven: the rate's coefficient of variation. What is
    not `probed` sends no probes, what is not `timed` no latencies.
    """

    name: str = "shop"
    seed: int = 1
    rate: float = 80.0
    usual_errors: float = 0.002
    median: float = 0.03
    spread: float = 0.6
    every: float = 1.0
    labelled: bool = False
    burst: float = 0.0
    probed: bool = True
    timed: bool = True
    bounds: tuple[float, ...] = BOUNDS
    version: str = ""
    random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.name}/{self.seed}")

    def deploy(
        self, version: str, at: float, *, took: float | None = 0.5, previous: str | None = None, failed: bool = False
    ) -> Iterator[AnyEvent]:
        """A deployment: started, and `took` seconds later finished (or failed); only started where `took` is None."""
        self.version = version
        yield self._deployment(version, at, "started", previous)
        if took is not None:
            yield self._deployment(version, at + took, "failed" if failed else "finished", previous)

    def _deployment(self, version: str, at: float, phase: Phase, previous: str | None) -> DeploymentEvent:
        return DeploymentEvent(t=START + at, service=self.name, version=version, previous=previous, phase=phase)

    def run(
        self,
        begin: float,
        end: float,
        *,
        errors: float | None = None,
        slower: float = 1.0,
        rate: float | None = None,
        up: bool = True,
        logs: Mapping[str, float] | None = None,
        version: str | None = None,
        metrics: bool = True,
    ) -> Iterator[AnyEvent]:
        """Samples at `begin + every` until `end`: of one version, with so many errors, so slow, so busy.

        `logs` gives error lines a second for each message; `metrics=False` leaves a gap that only probes and logs fill.
        """
        ran = version or self.version
        share = self.usual_errors if errors is None else errors
        for step in range(1, round((end - begin) / self.every) + 1):
            t = START + begin + step * self.every
            total = self.count((self.rate if rate is None else rate) * self.every)
            if metrics:
                label = ran if self.labelled else None
                failed = self.failures(total, share)
                yield Requests(t=t, service=self.name, version=label, total=total, errors=failed)
                if self.timed:
                    yield self.latency(t, total, slower, label)
            if self.probed:
                yield Probe(t=t, service=self.name, up=up, duration=self.random.uniform(0.001, 0.01))
            for message, often in (logs or {}).items():
                for line in range(self.count(often * self.every)):
                    yield Log(t=t, service=self.name, level="error", message=message.replace("#", str(line)))

    def alert(self, name: str, at: float, status: AlertStatus = "firing", severity: str = "critical") -> Alert:
        """One notification about an alert."""
        return Alert(t=START + at, service=self.name, name=name, status=status, severity=severity)

    def count(self, mean: float) -> int:
        """A Poisson count, scattered wider where the service bursts."""
        if self.burst:
            mean *= self.random.gammavariate(1 / self.burst**2, self.burst**2)
        if mean > 200:
            return max(0, round(self.random.gauss(mean, math.sqrt(mean))))
        limit, n, product = math.exp(-mean), 0, self.random.random()
        while product > limit:
            n += 1
            product *= self.random.random()
        return n

    def failures(self, total: int, share: float) -> int:
        """A binomial count: exact while it is small, normal where that is as good."""
        if total * share * (1 - share) > 50:
            drawn = round(self.random.gauss(total * share, math.sqrt(total * share * (1 - share))))
            return min(max(drawn, 0), total)
        return sum(self.random.random() < share for _ in range(total))

    def latency(self, t: float, total: int, slower: float, version: str | None) -> Latency:
        """A sample's histogram, every request drawn from the log-normal distribution."""
        heights = [0.0] * (len(self.bounds) + 1)
        for _ in range(total):
            took = self.median * slower * math.exp(self.spread * self.random.gauss(0, 1))
            heights[next((k for k, bound in enumerate(self.bounds) if took <= bound), len(self.bounds))] += 1
        buckets, height = {}, 0.0
        for bound, count in zip([*map(repr, self.bounds), "+Inf"], heights, strict=True):
            height += count
            buckets[bound] = height
        return Latency(t=t, service=self.name, version=version, buckets=buckets)


def gathered(events: Iterable[AnyEvent], every: float, first: float) -> Iterator[AnyEvent]:
    """The same counts as a source would see them that looks less often: at `first`, and every so many seconds after."""
    counts: Requests | None = None
    times: Latency | None = None
    for event in events:
        looks = round(event.t - START - first) % every == 0
        if isinstance(event, Requests):
            if counts is not None:
                event = replace(event, total=event.total + counts.total, errors=event.errors + counts.errors)
            counts = None if looks else event
        elif isinstance(event, Latency):
            if times is not None:
                event = replace(event, buckets={text: n + times.buckets[text] for text, n in event.buckets.items()})
            times = None if looks else event
        if looks or not isinstance(event, Requests | Latency):
            yield event


def weave(*streams: Iterable[AnyEvent]) -> Iterator[AnyEvent]:
    """Streams, each in order of time, as one in order of time."""
    return heapq.merge(*streams, key=lambda event: event.t)


def engine(policy: Policy | None = None, fleet: FleetPolicy | None = None) -> Engine:
    """An engine that judges every service by one policy."""
    used = policy or Policy()
    return Engine(lambda _service: used, fleet or FleetPolicy())


def play(subject: Engine, events: Iterable[AnyEvent]) -> list[Outcome]:
    """Everything that follows from these events."""
    return [outcome for event in events for outcome in subject.feed(event)]


def decisions(outcomes: Iterable[Outcome]) -> list[Decision]:
    """The decisions among the outcomes."""
    return [outcome for outcome in outcomes if isinstance(outcome, Decision)]


def told(outcomes: Iterable[Outcome]) -> list[str]:
    """The outcomes in short, as in `v2 opened` or `v2 rollback to v1`."""
    return [
        f"{one.version} {one.action} to {one.to}" if isinstance(one, Decision) else f"{one.version} {one.state}"
        for one in outcomes
    ]
