"""Judge the engine on labelled recordings: does it roll back exactly the bad deployments, how soon, how often wrongly?

    python bench/decisions.py FOLDER                                   # the default policy
    python bench/decisions.py FOLDER --set warmup=90 --set rules.latency.tolerance=0.2
    python bench/decisions.py FOLDER --sweep alpha=0.0001,0.001,0.01   # a line for each value

FOLDER holds recordings `NAME.jsonl`, each with its truth beside it as `NAME.truth.json`:

    {"service": S, "version": V, "previous": P, "should_rollback": true, "fault_at": T, "deadline": T}

A hit is a rollback of that version to its predecessor from `fault_at` to `deadline`; any other rollback is a false one.
Timeliness is the share of the time from fault to deadline that was left, 0 for a miss. `--json` prints the figures as
the last line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.detect.sequential import wilson
from rollbackd.engine import Engine
from rollbackd.model import Decision
from rollbackd.recording import read


class Truth(msgspec.Struct):
    """What is known of a recording's focal deployment. `deployments` counts those of all services, where given."""

    service: str
    version: str
    previous: str | None
    should_rollback: bool
    fault_at: float | None = None
    deadline: float | None = None
    deployments: list[list[str | None]] = []


@dataclass(frozen=True)
class Outcome:
    """What became of one recording: `delay` and `allowed` in seconds from the fault."""

    bad: bool
    good_deployments: int
    false: int
    delay: float | None
    allowed: float


def judge(path: Path, policy: Policy) -> Outcome:
    """Replay one recording and compare with its truth."""
    truth = msgspec.json.decode(path.with_suffix(".truth.json").read_bytes(), type=Truth)
    engine = Engine(lambda _service: policy, FleetPolicy())
    false, delay, seen = 0, None, set[tuple[str, str]]()
    for outcome in (one for event in read(path) for one in engine.feed(event)):
        if not isinstance(outcome, Decision) or outcome.action != "rollback":
            continue
        if (outcome.service, outcome.version) in seen:
            continue
        seen.add((outcome.service, outcome.version))
        right = truth.should_rollback and (outcome.service, outcome.version) == (truth.service, truth.version)
        if not right or outcome.to != truth.previous or outcome.t < (truth.fault_at or 0.0):
            false += 1
        elif outcome.t <= (truth.deadline or 0.0):
            delay = outcome.t - (truth.fault_at or 0.0)
    count = max(len(truth.deployments), 1)
    allowed = (truth.deadline or 0.0) - (truth.fault_at or 0.0)
    return Outcome(truth.should_rollback, count - truth.should_rollback, false, delay, allowed)


def policy_of(settings: list[str]) -> Policy:
    """The default policy with `path=value` settings."""
    chosen: dict[str, object] = {}
    for setting in settings:
        path, _, value = setting.partition("=")
        place = chosen
        *parents, last = path.split(".")
        for name in parents:
            place = place.setdefault(name, {})  # type: ignore[assignment]  # made of dicts a line above
        place[last] = json.loads(value) if value[:1] in "0123456789[{tfn" and not value[-1:].isalpha() else value
    return Policy.model_validate(chosen)


def figures(outcomes: list[Outcome]) -> dict[str, object]:
    """The summary of many recordings."""
    bad = [one for one in outcomes if one.bad]
    delays = [one.delay for one in bad if one.delay is not None]
    false, good = sum(one.false for one in outcomes), sum(one.good_deployments for one in outcomes)
    low, high = wilson(false, good)
    left = [1 - one.delay / one.allowed if one.delay is not None else 0.0 for one in bad]
    return {
        "recordings": len(outcomes),
        "bad": len(bad),
        "good_deployments": good,
        "precision": round(len(delays) / (len(delays) + false), 4) if delays else None,
        "recall": round(len(delays) / len(bad), 4) if bad else None,
        "false": false,
        "false_per_1000_good": round(1000 * false / good, 2) if good else None,
        "interval": [round(1000 * low, 2), round(1000 * high, 2)],
        "delay_median_s": round(statistics.median(delays), 1) if delays else None,
        "timeliness": round(statistics.mean(left), 4) if left else None,
    }


def run(paths: list[Path], policy: Policy, jobs: int) -> dict[str, object]:
    """Judge all recordings by one policy."""
    with ProcessPoolExecutor(jobs) as pool:
        return figures(list(pool.map(partial(judge, policy=policy), paths, chunksize=4)))


def variants(options: argparse.Namespace) -> Iterator[tuple[str, Policy]]:
    """What is to be compared: the chosen policy, or one for each value of the sweep."""
    if options.sweep is None:
        yield "chosen", policy_of(options.set)
        return
    path, _, values = options.sweep.partition("=")
    for value in values.split(","):
        yield f"{path}={value}", policy_of([*options.set, f"{path}={value}"])


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--sweep", metavar="PATH=VALUE,VALUE")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th recording")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.jsonl"))[:: options.every]
    if not paths:
        print(f"{options.folder}: holds no recordings (*.jsonl)", file=sys.stderr)
        return 2
    names = ("precision", "recall", "false_per_1000_good", "delay_median_s", "timeliness")
    print(f"{'':32}" + "".join(f"{name:>21}" for name in names))
    found = {}
    for label, policy in variants(options):
        found[label] = run(paths, policy, options.jobs)
        print(f"{label:32}" + "".join(f"{found[label][name]!s:>21}" for name in names))
    if options.json:
        print(json.dumps({"name": "decisions", "unit": "recordings", "peer": None, "ratio": None, "ours": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
