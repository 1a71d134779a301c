"""How often a good release is rolled back: deployments that change nothing, each watched for a full hour.

The services are drawn from a seed: 0.2 to 5,000 requests a second, of which 0.04 to 0.5 % fail, log-normal latencies
in Prometheus' default buckets, a probe that flakes now and then, a queue, memory, and error lines known from before.
None of it is constant or independent: traffic comes in bursts and drifts, and the error ratio, the median latency, the
queue and the memory wander (AR(1)) for minutes at a time. Every second service tells its versions apart. Each stream
of events goes through the engine with the default policy: an hour of history first, then one deployment an hour, with
a look every ten seconds. Nothing gets worse with a deployment, so each decision is a false one, whatever its action.

The interval is Wilson's, of 95 %. Nothing comparable is known to measure against: the ratio is that of the false
decisions to the default policy's alpha, which is promised to be above them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.detect.sequential import wilson
from rollbackd.engine import Engine
from rollbackd.model import (
    AnyEvent,
    Decision,
    DeploymentEvent,
    Gauge,
    Latency,
    Log,
    Probe,
    Requests,
)

START = 1_700_000_000.0
TICK_S = 10.0
HISTORY_TICKS = 360
"""An hour before the first deployment."""
APART_TICKS = 363
"""From one deployment to the next: an hour's bake, and a few samples for its watch to end in."""
PER_STREAM = 20
"""Deployments of one service watched one after another, which saves most of the history."""
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TEXTS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10")
MANY = 50.0
"""Counts are drawn exactly up to so many on average, from the normal distribution beyond."""
FLAKE = 0.0005
"""The share of probes that fail for no reason."""


def binomial(drawn: random.Random, n: int, p: float) -> int:
    """Successes among `n` trials."""
    if p > 0.5:
        return n - binomial(drawn, n, 1 - p)
    if n <= 0 or p <= 0:
        return 0
    mean = n * p
    if mean > MANY:
        return min(max(round(drawn.gauss(mean, math.sqrt(mean * (1 - p)))), 0), n)
    u, k, odds = drawn.random(), 0, p / (1 - p)
    chance = math.exp(n * math.log1p(-p))
    while u > chance and k < n:
        u -= chance
        chance *= odds * (n - k) / (k + 1)
        k += 1
    return k


def poisson(drawn: random.Random, mean: float) -> int:
    """A count of what comes by itself."""
    if mean > MANY:
        return max(round(drawn.gauss(mean, math.sqrt(mean))), 0)
    u, k, chance = drawn.random(), 0, math.exp(-mean)
    while u > chance and k < 500:
        u -= chance
        k += 1
        chance *= mean / k
    return k


def between(drawn: random.Random, low: float, high: float) -> float:
    """A number whose logarithm is as likely anywhere between."""
    return math.exp(drawn.uniform(math.log(low), math.log(high)))


@dataclass
class Wandering:
    """A stationary AR(1) process of mean 0: its standard deviation, and how long it remembers itself, in seconds."""

    deviation: float
    memory: float
    drawn: random.Random
    value: float = field(init=False)

    def __post_init__(self) -> None:
        self.value = self.drawn.gauss(0, self.deviation)

    def step(self) -> float:
        kept = math.exp(-TICK_S / self.memory)
        self.value = kept * self.value + self.drawn.gauss(0, self.deviation * math.sqrt(1 - kept * kept))
        return self.value


class Service:
    """A service that does as it always did, whatever release it runs."""

    def __init__(self, seed: str, *, labelled: bool) -> None:
        self.drawn = drawn = random.Random(seed)
        self.labelled = labelled
        self.rate = between(drawn, 0.2, 5000)
        self.errors = between(drawn, 0.0004, 0.005)
        self.median, self.spread = between(drawn, 0.005, 0.3), drawn.uniform(0.3, 0.9)
        self.burst = between(drawn, 0.02, 0.3)
        self.drift = Wandering(drawn.uniform(0.02, 0.15), between(drawn, 300, 1800), drawn)
        self.worse = Wandering(drawn.uniform(0.03, 0.25), between(drawn, 60, 600), drawn)
        self.slower = Wandering(drawn.uniform(0.005, 0.04), between(drawn, 60, 600), drawn)
        self.queue, self.waiting = between(drawn, 1, 200), Wandering(0.3, between(drawn, 60, 300), drawn)
        self.memory, self.filled = drawn.uniform(-0.5, 0.8), Wandering(0.1, between(drawn, 300, 1800), drawn)
        self.lines = between(drawn, 1 / 1200, 1 / 60)
        self.version = ""

    def deploy(self, version: str, t: float) -> Iterator[AnyEvent]:
        self.version = version
        yield DeploymentEvent(t=t, service="shop", version=version, phase="started")

    def tick(self, t: float) -> Iterator[AnyEvent]:
        """What is seen of the ten seconds that end at `t`."""
        drawn, version = self.drawn, self.version if self.labelled else None
        mean = self.rate * TICK_S * math.exp(self.drift.step())
        total = poisson(drawn, mean * drawn.gammavariate(1 / self.burst**2, self.burst**2))
        failed = binomial(drawn, total, min(self.errors * math.exp(self.worse.step()), 1.0))
        yield Requests(t=t, service="shop", version=version, total=total, errors=failed)
        yield Latency(t=t, service="shop", version=version, buckets=self._buckets(total))
        yield Probe(t=t, service="shop", up=drawn.random() >= FLAKE, duration=0.01)
        waiting = poisson(drawn, self.queue * math.exp(self.waiting.step()))
        yield Gauge(t=t, service="shop", version=version, name="queue_length", value=waiting)
        filled = 1 / (1 + math.exp(-self.memory - self.filled.step()))
        yield Gauge(t=t, service="shop", version=version, name="memory_usage_ratio", value=filled)
        for _ in range(poisson(drawn, self.lines * TICK_S)):
            yield self.line(t)

    def line(self, t: float) -> Log:
        """A known error; one of two, with other particulars each time."""
        order = self.drawn.randrange(1_000_000)
        said = (f"order {order} lost after {order % 977} ms", f"mail to customer {order} bounced for good")
        version = self.version if self.labelled else None
        return Log(t=t, service="shop", version=version, level="error", message=said[order % 2])

    def _buckets(self, total: int) -> dict[str, float]:
        centre, width = math.log(self.median) + self.slower.step(), self.spread * math.sqrt(2)
        shares = [0.5 * (1 + math.erf((math.log(bound) - centre) / width)) for bound in BOUNDS]
        counts, left, above = [], total, 1.0
        for share in reversed(shares):
            left = binomial(self.drawn, left, min(share / above, 1.0)) if above > 0 else 0
            counts.append(left)
            above = share
        return {**dict(zip(TEXTS, reversed(counts), strict=True)), "+Inf": total}


@dataclass
class Found:
    """What came of so many deployments: the rules that decided falsely, and how many ended their bake as good."""

    deployments: int = 0
    good: int = 0
    rules: Counter[str] = field(default_factory=Counter)

    def add(self, other: Found) -> None:
        self.deployments += other.deployments
        self.good += other.good
        self.rules.update(other.rules)


def stream(seed: str, deployments: int) -> Found:
    """One service, deployed so many times. After a false decision the engine begins anew, with an hour of history."""
    service = Service(seed, labelled=random.Random(f"{seed}/labels").random() < 0.5)
    found, tick, release = Found(), 0, 0
    engine: Engine | None = None
    while found.deployments < deployments:
        if engine is None:
            engine = Engine(lambda _name: Policy(), FleetPolicy())
            _feed(engine, service.deploy(f"v{release}", START + tick * TICK_S), found)
            _feed(engine, (service.line(START + tick * TICK_S) for _ in range(20)), found)
            for tick in range(tick + 1, tick + HISTORY_TICKS + 1):  # noqa: B020
                _feed(engine, service.tick(START + tick * TICK_S), found)
        release += 1
        found.deployments += 1
        before = found.rules.total()
        offset = service.drawn.uniform(0, TICK_S)
        _feed(engine, service.deploy(f"v{release}", START + tick * TICK_S + offset), found)
        for tick in range(tick + 1, tick + APART_TICKS + 1):  # noqa: B020
            _feed(engine, service.tick(START + tick * TICK_S), found)
        if found.rules.total() > before:
            engine = None
    return found


def _feed(engine: Engine, events: Iterator[AnyEvent], found: Found) -> None:
    for event in events:
        for outcome in engine.feed(event):
            if isinstance(outcome, Decision):
                found.rules[outcome.rule] += 1
            elif outcome.state == "good" and outcome.previous is not None:
                found.good += 1


def simulate(deployments: int, jobs: int, seed: int) -> Found:
    """So many deployments, on so many processes; the same whatever their number."""
    full, rest = divmod(deployments, PER_STREAM)
    sizes = [PER_STREAM] * full + ([rest] if rest else [])
    found = Found()
    with ProcessPoolExecutor(jobs) as pool:
        running = [pool.submit(stream, f"{seed}/{k}", size) for k, size in enumerate(sizes)]
        for done in as_completed(running):
            found.add(done.result())
            told = f"\r{found.deployments} of {deployments} deployments, {found.rules.total()} false decisions"
            print(told, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def row(name: str, count: int, deployments: int) -> str:
    low, high = wilson(count, deployments)
    return f"{name:<24}{count:>8}{1000 * count / deployments:>12.3f}{1000 * low:>12.3f}{1000 * high:>10.3f}"


def show(found: Found) -> None:
    n = found.deployments
    print(f"{'':<24}{'of ' + str(n):>8}{'per 1,000':>12}{'95 % from':>12}{'to':>10}")
    print(row("false decisions", found.rules.total(), n))
    for rule, count in sorted(found.rules.items()):
        print(row(f"  by {rule}", count, n))
    print(f"{'called good':<24}{found.good:>8}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--deployments", type=int, default=10_000, help="deployments watched (default: 10,000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--seed", type=int, default=1, help="what the services are drawn from (default: 1)")
    options = parser.parse_args()
    found = simulate(options.deployments, options.jobs, options.seed)
    if not options.json:
        show(found)
        return
    ours, alpha = found.rules.total() / found.deployments, Policy().alpha
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {
        "name": "null",
        "unit": "false decisions per 1,000 deployments",
        "ours": round(1000 * ours, 3),
        "peer": None,
        "ratio": round(ours / alpha, 3),
        "machine": machine,
    }
    interval = [round(1000 * end, 3) for end in wilson(found.rules.total(), found.deployments)]
    more = {"deployments": found.deployments, "interval": interval, "good": found.good, "rules": dict(found.rules)}
    print(json.dumps(result | more | {"seed": options.seed}))


if __name__ == "__main__":
    main()
