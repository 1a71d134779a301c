"""How many requests the error test needs, beside the fewest that any test could do with.

A stationary fault: from the deployment on a share of the requests fails that is worse than allowed. Requests go in
samples of ten seconds through the bare test of a share that the rule `error_ratio` rests on, without the warm-up and
without the time that trouble must last, until its evidence reaches the rule's threshold under the default policy. So
this is what the test itself costs, not how long a rollback takes.

The bound: no sequential test that convicts a good release with probability alpha at most needs fewer than
log(1/alpha) / KL(fault, null) requests on average, even if it is told how bad the fault is and when it begins (Wald
1945, Lorden 1971). Ours is told neither, and looks at whole samples only. The ratio is ours to the bound.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rollbackd.decide.policy import Policy
from rollbackd.detect.base import decades
from rollbackd.detect.pack import PACK
from rollbackd.detect.settings import ErrorRatioSettings
from rollbackd.detect.share_test import ShareTest, weight_of

EVERY_S = 10.0
SAMPLES_A_BOUND = 20.0
"""A sample holds a twentieth of the requests that the bound asks for, so that whole samples cost little."""
FAULTS = ((0.0005, 0.005), (0.002, 0.01), (0.002, 0.02), (0.002, 0.1), (0.01, 0.03), (0.01, 0.1), (0.05, 0.15))
"""Shares that fail: usually, and with the fault."""
HEADLINE = (0.002, 0.02)


@dataclass(frozen=True)
class Row:
    """One fault: the shares, the bound and our mean in requests, and ours to the bound."""

    usual: float
    null: float
    fault: float
    bound: float
    ours: float
    ratio: float


def null_of(usual: float) -> float:
    """The largest share that is no worse, by the default settings, where the usual share is known."""
    settings = ErrorRatioSettings()
    return usual * (1 + settings.tolerance) + settings.floor


def alpha() -> float:
    """What the default policy leaves to this one rule."""
    return Policy().alpha / len(PACK)


def bound(fault: float, null: float) -> float:
    """The fewest requests on average."""
    gain = fault * math.log(fault / null) + (1 - fault) * math.log((1 - fault) / (1 - null))
    return math.log(1 / alpha()) / gain


def requests_until_convicted(drawn: random.Random, fault: float, null: float, sample: int) -> int:
    """Requests seen when the evidence suffices, with a look at each sample."""
    policy, test, looks = Policy(), ShareTest(null, 0.0, null), 0
    while True:
        start = looks * EVERY_S
        failures = sum(drawn.random() < fault for _ in range(sample))
        weight = weight_of(start, start + EVERY_S, 0.0, policy.warmup, policy.bake)
        test.take(start, start + EVERY_S, failures, sample, told=True, weight=weight)
        looks += 1
        if test.strength() >= decades(alpha()):
            return looks * sample


def measure(usual: float, fault: float, trials: int, seed: int) -> Row:
    """The mean over so many deployments."""
    drawn = random.Random(f"{seed}/{usual}/{fault}")
    null = null_of(usual)
    least = bound(fault, null)
    sample = max(round(least / SAMPLES_A_BOUND), 1)
    ours = statistics.fmean(requests_until_convicted(drawn, fault, null, sample) for _ in range(trials))
    return Row(usual, round(null, 6), fault, round(least, 1), round(ours, 1), round(ours / least, 2))


def show(rows: Sequence[Row]) -> None:
    print(f"{'usual':>8}{'allowed':>10}{'fault':>8}{'bound':>10}{'ours':>10}{'ratio':>8}{'at 20/s':>10}")
    for row in rows:
        shares = f"{row.usual:>8.2%}{row.null:>10.3%}{row.fault:>8.1%}"
        print(f"{shares}{row.bound:>10.0f}{row.ours:>10.0f}{row.ratio:>8.2f}{row.ours / 20:>8.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--trials", type=int, default=2000, help="deployments simulated for each fault (default: 2000)")
    parser.add_argument("--seed", type=int, default=1, help="what the requests are drawn from (default: 1)")
    options = parser.parse_args()
    rows = [measure(usual, fault, options.trials, options.seed) for usual, fault in FAULTS]
    if not options.json:
        show(rows)
        return
    head = next(row for row in rows if (row.usual, row.fault) == HEADLINE)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {"name": "delay", "unit": "requests", "ours": head.ours, "peer": head.bound, "ratio": head.ratio}
    more = {"fault": head.fault, "usual": head.usual, "alpha": alpha(), "rows": [asdict(row) for row in rows]}
    print(json.dumps(result | {"machine": machine} | more))


if __name__ == "__main__":
    main()
