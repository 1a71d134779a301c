"""Whether memory stays flat while the values of labels come and go: an hour of it, with the clock moved by hand.

A target shows 1,000 series that stay. Every second brings ten new request counters with an id that was never there
before, and ten of a metric that nobody wants; each is shown for a minute. Every road that such samples can take into
the daemon is walked in a process of its own, look by look, ten seconds apart. Memory is what the process has grown by
(RSS) since before the first look: after five minutes, when everything that may be remembered is, in the middle of
the hour, and at its end.

The peer reads the same text with prometheus_client's parser and keeps the newest value of every sample in a dict. The
ratio is its memory at the end to ours; *flat* is our memory at the end to that at the start.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import structlog
from prometheus_client.parser import text_string_to_metric_families

from bench.remote_write import written
from rollbackd.metrics.exposition import Exposition
from rollbackd.metrics.presets import GAUGES, PRESETS
from rollbackd.metrics.tally import Tally

EVERY_S = 10
STAYING = 1000
NEW_A_SECOND = 10
SHOWN_LOOKS = 6
START_S = 300
HOUR_S = 3600

Sample: TypeAlias = tuple[str, dict[str, str], float]
"""A metric's name, its labels and its value."""

Take: TypeAlias = Callable[[float, list[Sample]], int]
"""Takes in what a target shows at a moment, in seconds; tells how much came of it."""


@dataclass(frozen=True)
class Row:
    """Megabytes (10^6 bytes) that a road has grown by, and what it made of the samples in all."""

    road: str
    start: float
    middle: float
    end: float
    made: int


def shown(at_s: int) -> Iterator[Sample]:
    """What the target shows at a moment."""
    for number in range(STAYING):
        yield (
            "http_requests_total",
            {"handler": f"/{number}", "code": "500" if number % 50 == 0 else "200"},
            at_s + number,
        )
    newest = at_s * NEW_A_SECOND
    for number in range(max(0, newest - SHOWN_LOOKS * EVERY_S * NEW_A_SECOND), newest):
        labels = {"handler": "/cart", "code": "200", "session": f"{number:032x}"}
        yield "http_requests_total", labels, at_s - number / NEW_A_SECOND
        yield "cart_items_total", labels, 1.0


def text(samples: list[Sample]) -> str:
    lines = ["# TYPE http_requests_total counter"]
    for name, labels, value in samples:
        inside = ",".join(f'{label}="{told}"' for label, told in labels.items())
        lines.append(f"{name}{{{inside}}} {value}")
    return "\n".join([*lines, ""])


def scraped() -> Take:
    """The road of the source `scrape`."""
    tally = Tally("shop", [meaning for row in PRESETS for meaning in row.meanings()], GAUGES, {}, 20_000)

    def take(t: float, samples: list[Sample]) -> int:
        exposition = Exposition(tally.reader)
        exposition.feed(text(samples).encode())
        exposition.end()
        return len(tally.take(exposition, 1.7e9 + t, t))

    return take


def kept() -> Take:
    """The peer."""
    newest: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def take(_t: float, samples: list[Sample]) -> int:
        before = len(newest)
        for family in text_string_to_metric_families(text(samples)):
            for sample in family.samples:
                newest[sample.name, tuple(sample.labels.items())] = sample.value
        return len(newest) - before

    return take


ROADS: dict[str, Callable[[], Take]] = {"scrape": scraped, "remote_write": written}
PEER = "peer"


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def walk(road: str, hour_s: int) -> Row:
    """Let the hour pass on a road; to be called in a fresh process, since it measures its memory."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    kept()(0, [*shown(HOUR_S)])  # what parsing itself needs is there before anything is measured
    take, before, made = {**ROADS, PEER: kept}[road](), resident(), 0
    megabytes: dict[int, float] = {}
    for t in range(0, hour_s + 1, EVERY_S):
        made += take(t, [*shown(t)])
        if t in (START_S, hour_s // 2, hour_s):
            megabytes[t] = round((resident() - before) / 1e6, 1)
    return Row(road, megabytes[START_S], megabytes[hour_s // 2], megabytes[hour_s], made)


def walked(roads: list[str], hour_s: int) -> list[Row]:
    """Every road in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh, max_tasks_per_child=1) as pool:
        return [*pool.map(walk, roads, [hour_s] * len(roads))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--seconds", type=int, default=HOUR_S, help="how long it goes on, from 1200 (default: 3600)")
    options = parser.parse_args()
    rows = walked([*ROADS, PEER], options.seconds)
    if not options.json:
        print("".join(f"{head:>14}" for head in ("road", "start MB", "middle MB", "end MB", "made")))
        for row in rows:
            print("".join(f"{told:>14}" for told in asdict(row).values()))
        return
    first, peer = rows[0], rows[-1]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    head = {"name": "churn", "unit": "MB", "ours": first.end, "peer": peer.end}
    told = {"ratio": round(peer.end / first.end, 1), "flat": round(first.end / first.start, 2), "machine": machine}
    print(json.dumps(head | told | {"rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
