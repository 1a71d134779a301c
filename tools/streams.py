"""Small seeded streams for the pictures: what a service would have counted."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterator

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import Engine
from rollbackd.model import DeploymentEvent, Latency, Requests

EVERY = 10.0
"""Seconds between two samples."""
START = 1_700_000_000.0
"""The moment of the deployment that is looked at; other moments are told from it."""
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def counts(mean: float, seed: str) -> Iterator[int]:
    """Poisson counts."""
    chance = random.Random(seed)
    heights = [math.exp(-mean)]
    while heights[-1] < 1 - 1e-9 and len(heights) < 10 * mean + 20:
        k = len(heights)
        heights.append(heights[-1] + math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)))
    while True:
        yield bisect.bisect(heights, chance.random())


def samples(service: str, begin: float, end: float, rate: float, share: float) -> Iterator[Requests]:
    """What a service counts from `begin` to `end`, failing at a share."""
    ok, failed = (counts(rate * EVERY * one, f"{service}/{begin}/{one}") for one in (1 - share, share))
    for step in range(1, round((end - begin) / EVERY) + 1):
        errors = next(failed)
        yield Requests(t=START + begin + step * EVERY, service=service, total=errors + next(ok), errors=errors)


def judged(policy: Policy | None = None) -> Engine:
    used = policy or Policy()
    return Engine(lambda _service: used, FleetPolicy())


def deployed(service: str, version: str, at: float) -> DeploymentEvent:
    return DeploymentEvent(t=START + at, service=service, version=version, phase="finished")


def timed(t: float, slower: float, chance: random.Random, requests: int) -> Latency:
    """A sample of log-normal latencies."""
    took = sorted(0.04 * slower * math.exp(0.7 * chance.gauss(0, 1)) for _ in range(requests))
    counted = {repr(bound): float(bisect.bisect(took, bound)) for bound in BOUNDS}
    return Latency(t=START + t, service="shop", buckets={**counted, "+Inf": float(requests)})
