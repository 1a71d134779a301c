"""What a look at a metrics endpoint costs: from the bytes of 10,000 samples through growth and tally to events.

Three endpoints: a *service* of which a few hundred samples are wanted, one of which *everything* is wanted, and a
*proxy* that shows the wanted metrics of many services, of which `match` picks one. Every counter grows from look to
look. The bytes come in pieces of 64 KiB, as they do over HTTP, which is left out; so is decompression.

The peer is prometheus_client's parser, which only reads the text, in turn with ours in the same process. Time is the
process's CPU time, and figures are medians over the pairs. *First* is the first look, which meets every series anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import structlog
from prometheus_client.parser import text_string_to_metric_families

from rollbackd.metrics.exposition import Exposition
from rollbackd.metrics.presets import GAUGES, PRESETS
from rollbackd.metrics.tally import Tally

SEED = 7
SAMPLES = 10_000
CHUNK_BYTES = 64 * 1024
EVERY_S = 10.0
LOOKS = 6
"""Looks that are timed in each pair, after the first two."""
LE = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
HANDLERS = tuple(
    f"/api/v1/{noun}{rest}"
    for noun in ("orders", "carts", "customers", "payments", "stock")
    for rest in ("", "/{id}", "/search")
)
CODES = ("200", "201", "404", "500")


@dataclass(frozen=True)
class Endpoint:
    """A target: its exposition look by look, and how many of its samples are wanted."""

    name: str
    looks: list[bytes]
    samples: int
    wanted: int
    match: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """Samples a CPU-second of one endpoint."""

    endpoint: str
    samples: int
    wanted: int
    events: int
    first: int
    ours: int
    peer: int
    ratio: float


# -- what is read


def histogram(name: str, labels: str) -> Iterator[str]:
    yield from (f'{name}_bucket{{{labels},le="{le}"}}' for le in LE)
    yield f"{name}_sum{{{labels}}}"
    yield f"{name}_count{{{labels}}}"


def requests(more: str = "") -> Iterator[str]:
    """What nearly every service shows of its requests: 480 lines, of which 420 are used."""
    yield "# TYPE http_requests_total counter"
    for handler in HANDLERS:
        for code in CODES:
            yield f'http_requests_total{{method="GET",handler="{handler}",code="{code}"{more}}}'
    yield "# TYPE http_request_duration_seconds histogram"
    for handler in HANDLERS:
        for method in ("GET", "POST"):
            yield from histogram("http_request_duration_seconds", f'method="{method}",handler="{handler}"{more}')


def runtime() -> Iterator[str]:
    """The process and its runtime: gauges that are used among many that are not."""
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "go_goroutines"):
        yield f"# TYPE {name} gauge"
        yield name
    for kind in ("alloc", "sys", "heap_alloc", "heap_idle", "heap_inuse", "heap_objects", "mspan_inuse", "stack_sys"):
        yield f"# HELP go_memstats_{kind}_bytes Bytes of the runtime that are {kind}."
        yield f"# TYPE go_memstats_{kind}_bytes gauge"
        yield f"go_memstats_{kind}_bytes"
    for area in ("heap", "nonheap"):
        yield from (f'jvm_memory_committed_bytes{{area="{area}",id="Pool {number}"}}' for number in range(8))


def dependencies() -> Iterator[str]:
    """Endlessly, what services show of their dependencies, and nothing here wants."""
    for number in range(10_000):
        client = f"client_{number}_request_seconds"
        yield f"# HELP {client} How long requests to dependency {number} took."
        yield f"# TYPE {client} histogram"
        for table in ("orders", "carts", "customers"):
            yield from histogram(
                client, f'table="{table}",operation="select",pool="primary",host="db-{number}.internal"'
            )
        yield f"# TYPE queue_{number}_consumer_offset_lag gauge"
        for partition in range(40):
            labels = f'topic="orders.v{number}",partition="{partition}",client_id="checkout-5f7d8c-{number}"'
            yield f"queue_{number}_consumer_offset_lag{{{labels}}}"


def service() -> Iterator[str]:
    yield from runtime()
    yield from requests()
    yield from dependencies()


def everything() -> Iterator[str]:
    for number in range(23):  # as many whole histograms as fit
        yield from (line for line in requests(f',shard="{number:03}"') if "_sum{" not in line and "_count{" not in line)
    for number in range(SAMPLES):
        yield f'http_requests_total{{method="GET",handler="/{number}",code="200"}}'


def proxy() -> Iterator[str]:
    for number in range(10_000):
        yield from requests(f',app="shop-{number:03}"')


def limited(lines: Iterator[str]) -> list[str]:
    """The lines up to so many samples."""
    kept: list[str] = []
    samples = 0
    for line in lines:
        kept.append(line)
        samples += line[0] != "#"
        if samples == SAMPLES:
            break
    return kept


def grown(lines: list[str], looks: int) -> list[bytes]:
    """The lines with values, each larger in every look than in the one before."""
    chance = random.Random(SEED)
    values = [chance.randrange(1_000_000) for _ in lines]
    bodies = []
    for _ in range(looks):
        values = [value + chance.randrange(1000) for value in values]
        told = (line if line[0] == "#" else f"{line} {value}" for line, value in zip(lines, values, strict=True))
        bodies.append("\n".join([*told, ""]).encode())
    return bodies


def endpoint(name: str, make: Callable[[], Iterator[str]], match: Mapping[str, str]) -> Endpoint:
    looks = grown(limited(make()), LOOKS + 2)
    subject = tally(match)
    return Endpoint(name, looks, SAMPLES, len(look(subject, looks[0]).samples), match)


# -- what is timed


def tally(match: Mapping[str, str]) -> Tally:
    meanings = [meaning for row in PRESETS for meaning in row.meanings()]
    return Tally("shop", meanings, GAUGES, match, 20_000)


def look(subject: Tally, body: bytes) -> Exposition:
    exposition = Exposition(subject.reader)
    for at in range(0, len(body), CHUNK_BYTES):
        exposition.feed(body[at : at + CHUNK_BYTES])
    exposition.end()
    return exposition


def ours(target: Endpoint) -> tuple[float, float, int]:
    """CPU seconds of the first look and of a later one, and the events of that."""
    subject = tally(target.match)
    took, events = [], 0
    for number, body in enumerate(target.looks):
        began = time.process_time()
        events = len(subject.take(look(subject, body), 1.7e9 + number * EVERY_S, number * EVERY_S))
        took.append(time.process_time() - began)
    return took[0], statistics.fmean(took[-LOOKS:]), events


def peer(body: bytes) -> float:
    """CPU seconds of reading one look."""
    began = time.process_time()
    read = sum(len(family.samples) for family in text_string_to_metric_families(body.decode()))
    assert read == SAMPLES
    return time.process_time() - began


def measure(target: Endpoint, pairs: int) -> Row:
    """So many times ours, then the peer."""
    runs = [(*ours(target), peer(target.looks[-1])) for _ in range(pairs)]
    first, later, theirs = (statistics.median(run[column] for run in runs) for column in (0, 1, 3))
    ratio = round(statistics.median(run[3] / run[1] for run in runs), 1)
    rates = [round(target.samples / seconds) for seconds in (first, later, theirs)]
    return Row(target.name, target.samples, target.wanted, runs[0][2], rates[0], rates[1], rates[2], ratio)


def endpoints() -> Iterator[Endpoint]:
    yield endpoint("service", service, {})
    yield endpoint("everything", everything, {})
    yield endpoint("proxy", proxy, {"app": "shop-003"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--pairs", type=int, default=7, help="times that ours and the peer take turns (default: 7)")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows = [measure(target, options.pairs) for target in endpoints()]
    if not options.json:
        heads = ("endpoint", "samples", "wanted", "events", "first/s", "ours/s", "peer/s", "ratio")
        print("".join(f"{head:>12}" for head in heads))
        for row in rows:
            print(
                "".join(f"{told:>12,}" if not isinstance(told, str) else f"{told:>12}" for told in asdict(row).values())
            )
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    head = {"name": "scrape", "unit": "samples/CPU-s", "ours": rows[0].ours, "peer": rows[0].peer}
    told = {"ratio": rows[0].ratio, "machine": machine, "rows": [asdict(row) for row in rows]}
    print(json.dumps(head | told))


if __name__ == "__main__":
    main()
