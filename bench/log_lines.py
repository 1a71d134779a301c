"""Lines of a log a second of CPU time: from the file to the engine, beside mtail, which counts the same lines.

A file of about 114 bytes a line, of which 1.2 % are errors of six kinds, full of names and numbers, and 2 % warnings.
Ours is the source `log_file` as the daemon runs it: it follows the file, counts warnings and what is below, reads
errors, puts stack traces together, masks secrets, and gives all that to an engine that watches a deployment, mines
templates and judges. mtail (its Debian package) reads the file once and counts the lines that match /ERROR/ and /WARN/.
Both counts are compared with what was written.

CPU time, user and system, is the operating system's of the whole child process, less that of the same process with an
empty file: a daemon starts once. Both are measured in turn, several times; the figures are medians, the ratio that of
the pairs. The file is in the page cache for both. A file so short that the start of a process hides what its lines took
has no figure at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rollbackd.aiokit import SystemClock
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import Engine
from rollbackd.logs.masking import masked
from rollbackd.model import AnyEvent, DeploymentEvent, Log
from rollbackd.sources.base import SourceContext
from rollbackd.sources.log_file import ADAPTER, LogFileConfig

AIM = 3.0
"""Times as many lines as mtail."""
SEED = 3
ERRORS, WARNINGS = 0.012, 0.02
PARTS = ("checkout", "inventory", "payment", "cart", "session", "ledger", "mail")
PROGRAM = """\
counter errors
counter warnings
/ERROR/ {
  errors++
}
/WARN/ {
  warnings++
}
"""
LAYOUTS = ("plain", "json", "access")
"""`access` is a web server's log of requests, whose lines have no level: what is no error has to be searched."""


@dataclass(frozen=True)
class Written:
    """What a file holds."""

    lines: int
    errors: int
    warnings: int
    bytes: int


@dataclass(frozen=True)
class Row:
    """Lines a CPU-second of one layout, and ours to the peer's."""

    layout: str
    line_bytes: float
    ours: int | None
    peer: int | None
    ratio: float | None


# -- the file


def error(drawn: random.Random) -> str:
    """One of six kinds of complaint."""
    return drawn.choice(
        (
            f"cannot reach db 10.0.{drawn.randrange(9)}.{drawn.randrange(255)} from worker {drawn.randrange(99)}",
            f"payment for order {drawn.randrange(10**6)} declined by gateway 'stripe' with code E{drawn.randrange(99)}",
            f"timeout calling http://inventory:8080/items/{drawn.randrange(10**5)} after 3000 ms, giving up",
            f"user {drawn.choice(PARTS)} not found in tenant {drawn.choice(PARTS)} while loading profile page",
            f"failed to parse body of request {drawn.getrandbits(64):016x}: unexpected end of input",
            f"deadlock detected on table {drawn.choice(PARTS)}, transaction {drawn.randrange(10**6)} rolled back",
        )
    )


def line(drawn: random.Random, number: int, level: str, layout: str) -> str:
    stamp = f"2026-11-24T13:{number // 60000 % 60:02d}:{number // 1000 % 60:02d}.{number % 1000:03d}Z"
    part = drawn.choice(PARTS)
    path = f"/api/v1/{part}/{drawn.randrange(10**4)}"
    took = drawn.randrange(300)
    if layout == "access" and level == "INFO":
        client = f"10.0.{drawn.randrange(9)}.{drawn.randrange(255)}"
        return f'{client} - - [24/Nov/2026:13:00:00 +0000] "GET {path} HTTP/1.1" 200 {took} "-" "curl/8.0 (x86_64)"'
    said = {"INFO": f"request {drawn.getrandbits(48):012x} GET {path} 200 in {took} ms", "ERROR": error(drawn)}
    said["WARN"] = f"slow query took {took} ms on table {part}"
    if layout == "json":
        return json.dumps(
            {"ts": stamp, "level": level, "logger": f"shop.{part}", "msg": said[level]}, separators=(",", ":")
        )
    return f"{stamp} {level:<5} [worker-{drawn.randrange(16)}] shop.{part}: {said[level]}"


def write(path: Path, lines: int, layout: str) -> Written:
    """A file of so many lines."""
    drawn = random.Random(SEED)
    counts = {"ERROR": 0, "WARN": 0, "INFO": 0}

    def levels() -> Iterator[str]:
        for number in range(lines):
            chance = drawn.random()
            level = "ERROR" if chance < ERRORS else "WARN" if chance < ERRORS + WARNINGS else "INFO"
            counts[level] += 1
            yield line(drawn, number, level, layout) + "\n"

    with path.open("w") as file:
        file.writelines(levels())
    return Written(lines, counts["ERROR"], counts["WARN"], path.stat().st_size)


# -- ours


class Judging:
    """A sink that does with events what the daemon does: masks secrets, and lets the engine judge."""

    def __init__(self, lines: int) -> None:
        self.all_seen = asyncio.Event()
        if not lines:
            self.all_seen.set()
        self._left = lines
        policy = Policy()
        self._engine = Engine(lambda _service: policy, FleetPolicy())
        for at, version in ((0.0, "v1"), (1000.0, "v2")):
            self._engine.feed(DeploymentEvent(t=at, service="shop", version=version, phase="finished"))
        self.counts: dict[str, int] = {}

    async def emit(self, event: AnyEvent) -> None:
        if isinstance(event, Log):
            event = masked(event)
            self.counts[event.level] = self.counts.get(event.level, 0) + event.count
            self._left -= event.count
        self._engine.feed(event)
        if self._left <= 0:
            self.all_seen.set()

    def up(self) -> None: ...

    def down(self, reason: str) -> None: ...

    def dropped(self, reason: str, count: int = 1) -> None: ...


def follow(path: Path, lines: int) -> dict[str, int]:
    """Follow a file that appears once it is followed, until so many lines were seen."""
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    sink = Judging(lines)
    asyncio.run(_follow(path, sink, lambda: hidden.rename(path)))
    return sink.counts


async def _follow(path: Path, sink: Judging, appear: Callable[[], object]) -> None:
    source = ADAPTER.build(LogFileConfig(path=path, poll=0.05), SourceContext("shop", SystemClock()))
    following = asyncio.create_task(source.run(sink))
    await asyncio.sleep(0.1)
    appear()
    await sink.all_seen.wait()
    following.cancel()
    await asyncio.wait([following])


# -- both, as processes


def run(command: list[str], output: Path) -> float:
    """CPU seconds of a process, whose standard output goes to a file."""
    with output.open("wb") as file, Path(os.devnull).open("wb") as nowhere:
        actions = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, nowhere.fileno(), 2)]
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def ours(log: Path, written: Written, output: Path) -> float:
    took = run([sys.executable, __file__, "--follow", str(log), "--lines", str(written.lines)], output)
    found = json.loads(output.read_text())
    if written.lines and (found.get("error"), found.get("warning")) != (written.errors, written.warnings):
        raise RuntimeError(f"ours counted {found}, written were {written}")
    return took


def peer(log: Path, written: Written, output: Path) -> float:
    program = log.with_name("count.mtail")
    program.write_text(PROGRAM)
    # it listens even so, on a port of its own choice where another mtail may run, and writes a log of itself
    (own_logs := log.parent / "mtail").mkdir(exist_ok=True)
    quietly = ["--one_shot", "--address=127.0.0.1", "--port=0", f"--log_dir={own_logs}"]
    took = run([shutil.which("mtail") or "mtail", *quietly, f"--progs={program}", f"--logs={log}"], output)
    counted = dict(_counters(output.read_text()))
    if (counted.get("errors", 0), counted.get("warnings", 0)) != (written.errors, written.warnings):
        raise RuntimeError(f"mtail counted {counted}, written were {written}")
    return took


def _counters(text: str) -> Iterator[tuple[str, int]]:
    for name, metrics in json.loads(text[text.index("{") :]).items():
        for metric in metrics:
            for value in metric.get("LabelValues") or ():
                yield name, int(value["Value"]["Value"])


def measure(layout: str, lines: int, pairs: int) -> Row:
    """Both in turn, so many times."""
    with tempfile.TemporaryDirectory(prefix="rollbackd-log-lines-") as folder:
        log, empty, output = Path(folder) / "app.log", Path(folder) / "empty.log", Path(folder) / "out"
        written = write(log, lines, layout)
        empty.touch()
        nothing = Written(0, 0, 0, 0)
        has_peer = shutil.which("mtail") is not None
        took = list[tuple[float, float]]()
        for _ in range(pairs):
            mine = ours(log, written, output) - ours(empty, nothing, output)
            theirs = peer(log, written, output) - peer(empty, nothing, output) if has_peer else 0.0
            took.append((mine, theirs))
    return row(layout, written, took)


def row(layout: str, written: Written, took: list[tuple[float, float]]) -> Row:
    """The figures of CPU seconds that lines took, ours and the peer's; what is not above zero was not measured."""
    mine = [written.lines / seconds for seconds, _ in took if seconds > 0]
    theirs = [written.lines / seconds for _, seconds in took if seconds > 0]
    ratios = [peers / own for own, peers in took if own > 0 and peers > 0]
    return Row(
        layout=layout,
        line_bytes=round(written.bytes / written.lines, 1),
        ours=round(statistics.median(mine)) if mine else None,
        peer=round(statistics.median(theirs)) if theirs else None,
        ratio=round(statistics.median(ratios), 2) if ratios else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="less of everything: a first impression in seconds")
    parser.add_argument("--lines", type=int, help="lines of the file (default: 1,000,000)")
    parser.add_argument("--pairs", type=int, help="times that both are measured (default: 5)")
    parser.add_argument("--follow", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.follow is not None:
        print(json.dumps(follow(options.follow, options.lines)))
        return
    lines = options.lines or (100_000 if options.quick else 1_000_000)
    pairs = options.pairs or (1 if options.quick else 5)
    rows = [measure(layout, lines, pairs) for layout in LAYOUTS]
    if not options.json:
        print(f"{'layout':<10}{'bytes/line':>12}{'ours, lines/s':>16}{'mtail':>12}{'ratio':>8}   (the aim is {AIM:g})")
        for found in rows:
            own, peers = (f"{rate:,}" if rate is not None else "-" for rate in (found.ours, found.peer))
            print(f"{found.layout:<10}{found.line_bytes:>12}{own:>16}{peers:>12}{found.ratio or '-':>8}")
        return
    first = rows[0]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    figures = {"ours": first.ours, "peer": first.peer, "ratio": first.ratio, "aim": AIM, "machine": machine}
    parts = {"layouts": [asdict(found) for found in rows]}
    print(json.dumps({"name": "log_lines", "unit": "lines per CPU-second", **figures, **parts}))


if __name__ == "__main__":
    main()
