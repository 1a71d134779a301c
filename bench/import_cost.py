"""What each core dependency costs at start: time to import it, and memory that stays resident.

Each figure is the median over fresh processes. "Alone" is in an interpreter that imported nothing else; "on top" is
what remains when the other dependencies are already there, and so what leaving this one out would save.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass

IMPORTED_AS = {
    "aiohttp": "aiohttp.web",
    "msgspec": "msgspec",
    "prometheus-client": "prometheus_client",
    "pydantic": "pydantic",
    "PyYAML": "yaml",
    "rich": "rich.console, rich.table",
    "structlog": "structlog",
    "tenacity": "tenacity",
}
"""Each core dependency, and what a daemon that uses it imports."""

_CHILD = """
import os, sys, time

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

before, measured = sys.argv[1:]
if before:
    exec("import " + before)
memory, began = resident(), time.perf_counter()
if measured:
    exec("import " + measured)
print(time.perf_counter() - began, resident() - memory)
"""


@dataclass(frozen=True)
class Cost:
    """Milliseconds and megabytes (10^6 bytes)."""

    ms: float
    mb: float


@dataclass(frozen=True)
class Row:
    package: str
    alone: Cost
    on_top: Cost


def cost(measured: list[str], before: list[str], runs: int) -> Cost:
    """The median cost of importing some modules after others."""
    command = [sys.executable, "-c", _CHILD, ", ".join(before), ", ".join(measured)]
    samples: list[tuple[float, float]] = []
    for _ in range(runs):
        seconds, size = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        samples.append((float(seconds) * 1e3, float(size) / 1e6))
    return Cost(
        round(statistics.median(ms for ms, _ in samples), 1), round(statistics.median(mb for _, mb in samples), 1)
    )


def measure(runs: int) -> tuple[list[Row], Cost]:
    """A row for each dependency, and the cost of all of them together."""
    rows = []
    for package, modules in IMPORTED_AS.items():
        others = [name for other, name in IMPORTED_AS.items() if other != package]
        rows.append(Row(package, cost([modules], [], runs), cost([modules], others, runs)))
    return rows, cost(list(IMPORTED_AS.values()), [], runs)


def show(rows: list[Row], together: Cost) -> None:
    print(f"{'package':<20}{'alone ms':>10}{'alone MB':>10}{'on top ms':>11}{'on top MB':>11}")
    for row in rows:
        print(f"{row.package:<20}{row.alone.ms:>10}{row.alone.mb:>10}{row.on_top.ms:>11}{row.on_top.mb:>11}")
    print(f"{'all of them':<20}{together.ms:>10}{together.mb:>10}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--runs", type=int, default=15, help="fresh processes a figure (default: 15)")
    options = parser.parse_args()
    rows, together = measure(options.runs)
    if not options.json:
        show(rows, together)
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {"name": "import_cost", "unit": "MB", "ours": together.mb, "peer": None, "ratio": None, "machine": machine}
    print(json.dumps(result | {"ms": together.ms, "packages": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
