"""What the engine takes and keeps: replaying a recording, and judging many services tick by tick as they live.

The streams are drawn from a seed. Each service sends every ten seconds its requests, a latency histogram of 12 buckets
and a probe, every thirty seconds three gauges, now and then a log line; every second service tells its versions apart.
In the recording a service gets a new release every 4,000 s and each is watched for the usual hour, so that nine tenths
of the time a watch is open. Time is the process's CPU time, so what else the machine does counts little.

Nothing comparable is known to measure against: the ratio is that of a replay, reading included, to the aim.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import SNAPSHOT_FORMAT, Engine
from rollbackd.model import AnyEvent, Decision, DeploymentEvent, Gauge, Latency, Log, Outcome, Probe, Requests
from rollbackd.recording import encode, read

AIM = 100_000
"""Events a second on one core, from the file to the verdict."""
SEED = 7
START = 1_700_000_000.0
TICK_S = 10.0
RELEASE_TICKS = 400
HISTORY_TICKS, SHORT_HISTORY_TICKS = 360, 60
"""How long services have been known when they are measured: the hour that is remembered; less where they are many."""
MANY = 2000
WATCHED_TICKS = 30
"""How long ago the deployments were that are being watched."""
BUDGET_S = 20.0
"""What takes longer than this together is not repeated once more."""
BUCKETS = {
    "0.005": 0.02, "0.01": 0.09, "0.025": 0.38, "0.05": 0.8, "0.1": 0.97, "0.25": 0.994,
    "0.5": 0.998, "1.0": 0.9993, "2.5": 0.9998, "5.0": 0.99995, "10.0": 0.99999, "+Inf": 1.0,
}  # fmt: skip
"""The share of requests that are answered within each bound."""
T = TypeVar("T")
MESSAGES = (("warning", "cart # took long"), ("info", "order # accepted"), ("error", "mail to customer # bounced"))


class Traffic:
    """Streams of healthy services. Samples are drawn once and taken again: drawing them takes longer than judging."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self._drawn = [self._draw() for _ in range(1000)]

    def _draw(self) -> tuple[float, float, dict[str, float]]:
        total = self._about(800.0)
        heights = [min(self._about(total * share), total) for share in BUCKETS.values()]
        heights[-1] = total
        return total, min(self._about(2.0), total), dict(zip(BUCKETS, sorted(heights), strict=True))

    def _about(self, mean: float) -> float:
        return float(max(0, round(self._random.gauss(mean, mean**0.5))))

    def tick(self, tick: int, releases: Sequence[str]) -> Iterator[AnyEvent]:
        """What the services that run these releases send in one round of ten seconds, one after the other."""
        for number, release in enumerate(releases):
            t = START + TICK_S * (tick + number / len(releases))
            service, running = name(number), release if number % 2 else None
            total, errors, buckets = self._random.choice(self._drawn)
            yield Requests(t=t, service=service, version=running, total=total, errors=errors)
            yield Latency(t=t, service=service, version=running, buckets=buckets)
            yield Probe(t=t, service=service, up=True, duration=self._random.uniform(0.001, 0.01))
            if tick % 3 == 0:
                for gauge in ("heap_bytes", "queue_length", "connections"):
                    yield Gauge(t=t, service=service, version=running, name=gauge, value=self._random.uniform(100, 200))
            if self._random.random() < 0.2:
                level, message = self._random.choice(MESSAGES)
                text = message.replace("#", str(self._random.randrange(100_000)))
                yield Log(t=t, service=service, version=running, level=level, message=text)


def name(number: int) -> str:
    """A service's name; all are of one length."""
    return f"svc-{number:05d}"


def deployment(tick: int, number: int, release: int) -> DeploymentEvent:
    version, previous = f"v{release}", f"v{release - 1}" if release > 1 else None
    t = START + TICK_S * tick
    return DeploymentEvent(t=t, service=name(number), version=version, previous=previous, phase="finished")


def recording(services: int) -> Iterator[AnyEvent]:
    """An endless recording. The services release one after the other."""
    traffic, tick = Traffic(), 0
    while True:
        ages = [tick + number * RELEASE_TICKS // services for number in range(services)]
        releases = [1 + age // RELEASE_TICKS for age in ages]
        for number, age in enumerate(ages):
            if tick == 0 or age % RELEASE_TICKS == 0:
                yield deployment(tick, number, releases[number])
        yield from traffic.tick(tick, [f"v{release}" for release in releases])
        tick += 1


def engine() -> Engine:
    policy = Policy()
    return Engine(lambda _service: policy, FleetPolicy())


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """The CPU seconds that something takes, and what comes of it."""
    gc.collect()
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def repeated(work: Callable[[], T], times: int) -> list[tuple[float, T]]:
    """`timed`, so many times, as long as there is time."""
    found = [timed(work)]
    while len(found) < times and sum(took for took, _ in found) < BUDGET_S:
        found.append(timed(work))
    return found


def median(found: Iterable[tuple[float, object]]) -> float:
    return statistics.median(took for took, _ in found)


# -- replay


@dataclass(frozen=True)
class Replay:
    """Events a second: all of it, the reading alone, the engine alone. `watched` is the share of time under watch."""

    whole: int
    reading: int
    feeding: int
    events: int
    services: int
    watched: float
    decisions: int
    state: int


def feed_all(subject: Engine, events: Iterable[AnyEvent]) -> list[Outcome]:
    return [outcome for event in events for outcome in subject.feed(event)]


def judge(events: Iterable[AnyEvent]) -> tuple[Engine, list[Outcome]]:
    """A new engine that was fed these events, and what followed from them."""
    subject = engine()
    return subject, feed_all(subject, events)


def replay(events: int, services: int, runs: int) -> Replay:
    """Read and judge a recording of so many events, so many times."""
    with tempfile.TemporaryDirectory(prefix="rollbackd-engine-") as folder:
        path = Path(folder) / "day.jsonl"
        with path.open("wb") as file:
            file.writelines(encode(event) + b"\n" for event, _ in zip(recording(services), range(events), strict=False))
        reading = repeated(lambda: deque(read(path), maxlen=0), runs)
        whole = repeated(lambda: judge(read(path)), runs)
        held = [*read(path)]
    gc.freeze()  # the events are there already, which they are in no replay: the collector must not walk them
    judged = repeated(lambda: judge(held), runs)
    gc.unfreeze()
    subject, outcomes = judged[-1][1]
    return Replay(
        whole=round(events / median(whole)),
        reading=round(events / median(reading)),
        feeding=round(events / median(judged)),
        events=events,
        services=services,
        watched=round(time_watched(outcomes, held[-1].t) / (held[-1].t - START) / services, 2),
        decisions=sum(isinstance(one, Decision) for one in outcomes),
        state=len(subject.snapshot()) // services,
    )


def time_watched(outcomes: Iterable[Outcome], until: float) -> float:
    """Seconds under watch, of all services together."""
    opened, total = dict[str, float](), 0.0
    for one in outcomes:
        if not isinstance(one, Decision) and one.state == "opened":
            opened[one.service] = one.t
        elif not isinstance(one, Decision):
            total += one.t - opened.pop(one.service)
    return total + sum(until - at for at in opened.values())


# -- live


@dataclass(frozen=True)
class Case:
    services: int
    watched: bool


@dataclass(frozen=True)
class Live:
    """Microseconds a service a tick; events a second; bytes of state a service, written out and in memory.

    `open` watches were still open at the end; `ticks` is how much of its past each service remembers; `snapshot_s`
    is how long writing out the whole state took.
    """

    services: int
    watched: bool
    open: int
    ticks: int
    us: float
    events_s: int
    written: int
    memory: int
    snapshot_s: float


def past(traffic: Traffic, case: Case, ticks: int) -> bytes:
    """The state of an engine that knows two services, one of which tells its versions apart."""
    subject, deployed_at = engine(), ticks - WATCHED_TICKS if case.watched else ticks
    for tick in range(ticks):
        if tick == deployed_at:
            feed_all(subject, [deployment(tick, number, 2) for number in range(2)])
        feed_all(subject, traffic.tick(tick, ["v2" if tick >= deployed_at else "v1"] * 2))
    return subject.snapshot()


def multiplied(state: bytes, services: int) -> bytes:
    """The same for so many services: each has the past of one of the two, under its own name."""
    decoded = msgspec.msgpack.decode(state)
    two = [msgspec.msgpack.encode(decoded["services"][name(number)]) for number in range(2)]
    decoded["services"] = {
        name(number): msgspec.Raw(two[number % 2].replace(name(number % 2).encode(), name(number).encode()))
        for number in range(services)
    }
    return msgspec.msgpack.encode(decoded)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def live(case: Case) -> Live:
    """Restore so many services and feed them rounds; to be called in a fresh process, since it measures its memory."""
    traffic, ticks = Traffic(), SHORT_HISTORY_TICKS if case.services > MANY else HISTORY_TICKS
    state = multiplied(past(traffic, case, ticks), case.services)
    subject, before = engine(), resident()
    subject.restore(state, SNAPSHOT_FORMAT)
    gc.collect()
    memory = (resident() - before) // case.services
    del state
    releases, rounds = ["v2" if case.watched else "v1"] * case.services, 3 * min(60, max(3, 3000 // case.services))
    took, fed = list[float](), 0
    while len(took) < rounds and sum(took) < BUDGET_S:
        events = [*traffic.tick(ticks + len(took), releases)]
        took.append(timed(partial(feed_all, subject, events))[0])
        fed += len(events)
    # gauges come with every third round, so a round is a third of three
    a_round = statistics.median(statistics.fmean(took[n : n + 3]) for n in range(0, len(took), 3))
    snapshot_s, written = timed(subject.snapshot)
    return Live(
        services=case.services,
        watched=case.watched,
        open=subject.open_watches,
        ticks=ticks,
        us=round(a_round / case.services * 1e6, 1),
        events_s=round(fed / len(took) / a_round),
        written=len(written) // case.services,
        memory=memory,
        snapshot_s=round(snapshot_s, 3),
    )


def lives(services: Iterable[int]) -> list[Live]:
    """Every case in a process of its own."""
    cases = [Case(count, watched) for count in services for watched in (True, False)]
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh, max_tasks_per_child=1) as pool:
        return [*pool.map(live, cases)]


# -- what is found


def show(found: Replay, living: list[Live]) -> None:
    print(
        f"replay of {found.events:,} events of {found.services} services, {found.watched:.0%} of the time under watch"
    )
    print(f"  {'reading and judging':<22}{found.whole:>10,} events/s, the aim is {AIM:,}")
    print(f"  {'reading alone':<22}{found.reading:>10,} events/s")
    print(f"  {'judging alone':<22}{found.feeding:>10,} events/s")
    print(f"  {'state at the end':<22}{found.state:>10,} bytes a service; {found.decisions} decisions")
    print("\nlive, one tick every 10 s")
    heads = ("services", "watches", "past ticks", "us/service", "events/s", "written B", "memory B", "snapshot s")
    print("".join(f"{head:>12}" for head in heads))
    for one in living:
        told = (f"{one.services:,}", f"{one.open:,} open", f"{one.ticks}", f"{one.us}")
        sizes = (f"{one.events_s:,}", f"{one.written:,}", f"{one.memory:,}", f"{one.snapshot_s}")
        print("".join(f"{word:>12}" for word in told + sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="less of everything: a first impression in seconds")
    parser.add_argument("--runs", type=int, default=3, help="times that the recording is replayed (default: 3)")
    parser.add_argument("--events", type=int, help="events of the recording (default: 200000)")
    parser.add_argument("--services", type=int, nargs="+", help="services live (default: 10 1000 10000)")
    options = parser.parse_args()
    found = replay(options.events or (10_000 if options.quick else 200_000), 5, options.runs)
    living = lives(options.services or ([10, 300] if options.quick else [10, 1000, 10_000]))
    if not options.json:
        show(found, living)
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    ours = {
        "ours": found.whole,
        "peer": None,
        "ratio": round(found.whole / AIM, 2),
        "ratio_is": "ours / aim",
        "aim": AIM,
    }
    parts = {"replay": asdict(found), "live": [asdict(one) for one in living]}
    print(json.dumps({"name": "engine", "unit": "events/s", **ours, "machine": machine, **parts}))


if __name__ == "__main__":
    main()
