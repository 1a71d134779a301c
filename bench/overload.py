"""What becomes of the daemon under ten times the load that it can take.

A real `rollbackd run` is sent log lines to `/api/v1/lines`: first as fast as it takes them, to find that rate, then ten
times as many by processes that mind no answer and open more connections than the daemon keeps (`--connections` each).
Meanwhile, from another address, `/healthz` is asked twenty times a second, and every half second a pipeline tells of a
deployment and Alertmanager of an alert, which try again as those do. Told at the end: how long `/healthz` took, whether
every deployment and alert got in, whether every line is either accepted or was refused to its sender's face, and
memory. Where the senders cannot offer ten times as much beside the daemon, what they did offer is told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import aiohttp

FACTOR = 10
LINES = 500
"""Lines of one delivery."""
SENDERS = 3
TRIES = 5
AIM_MS = 100.0

CONFIG = """\
listen: 127.0.0.1:{port}
data_dir: {home}/data
auth:
  tokens: [{{name: everybody, token: {{env: BENCH_TOKEN}}, scopes: [ingest, deploy, read, operate]}}]
limits: {{deliveries_per_second: 0}}
intake: {{json_lines: on, deployments: {{unknown_services: accept}}}}
services: {{checkout: {{}}, search: {{}}}}
"""
TOKEN = "bench-0verload-token-that-is-long-enough"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Found:
    """Rates are lines a second, times milliseconds, memory megabytes (10^6 bytes)."""

    sustained: int
    offered: int
    taken: int
    healthz_median: float
    healthz_p99: float
    healthz_worst: float
    deployments_told: int
    deployments_in: int
    alerts_told: int
    alerts_in: int
    told_again: int
    lines_accepted: int
    lines_refused: int
    lines_unanswered: int
    lines_counted: int
    memory_before: float
    memory_after: float


def body(number: int) -> bytes:
    """A delivery of lines, one in a hundred an error, each told apart from all others."""
    lines = (
        {
            "service": "checkout",
            "level": "error" if n % 100 == 0 else "info",
            "message": f"GET /cart/{number}/{n} answered in {n % 90} ms for customer {number * 7919 + n}",
        }
        for n in range(LINES)
    )
    return b"\n".join(json.dumps(line).encode() for line in lines)


async def send(url: str, seconds: float, per_second: float | None, first: int, connections: int = 1) -> Counter[str]:
    """Deliver in a loop, or so many a second whatever is answered; how many came back with which status."""
    answers: Counter[str] = Counter()
    headers = HEADERS | {"Content-Type": "application/x-ndjson"}
    timeout, connector = aiohttp.ClientTimeout(total=30), aiohttp.TCPConnector(limit=connections)
    bodies = [body(first + n) for n in range(50)]

    async def one(client: aiohttp.ClientSession, number: int) -> None:
        marked = bodies[number % 50] + b'\n{"service":"nobody","message":"%d"}' % (first + number)
        try:
            async with client.post(f"{url}/api/v1/lines", data=marked, headers=headers) as answer:
                await answer.read()
                answers[str(answer.status)] += 1
        except (aiohttp.ClientError, TimeoutError):
            answers["none"] += 1

    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client:
        began, number, running = time.monotonic(), 0, set[asyncio.Task[None]]()
        while (now := time.monotonic() - began) < seconds:
            if per_second is None:
                await one(client, number)
                number += 1
                continue
            while number < now * per_second and len(running) < connections:
                task = asyncio.create_task(one(client, number))
                running.add(task)
                task.add_done_callback(running.discard)
                number += 1
            await asyncio.sleep(0.005)
        if running:
            await asyncio.wait(running)
    return answers


def sender(url: str, seconds: float, per_second: float, first: int, connections: int, out: Queue[Counter[str]]) -> None:
    """The body of a process that sends."""
    out.put(asyncio.run(send(url, seconds, per_second, first, connections)))


async def watch(url: str, seconds: float) -> tuple[list[float], Counter[str]]:
    """How many milliseconds each look at /healthz took, and what was told and got in meanwhile."""
    took: list[float] = []
    told: Counter[str] = Counter()
    timeout, connector = aiohttp.ClientTimeout(total=60), aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as client:

        async def look() -> None:
            began = time.monotonic()
            async with client.get("/healthz") as answer:
                assert answer.status == 200
            took.append((time.monotonic() - began) * 1000)

        async def tell(path: str, kind: str, content: object) -> None:
            told[f"{kind} told"] += 1
            for _ in range(TRIES):
                async with client.post(path, json=content, headers=HEADERS) as answer:
                    if answer.status == 200:
                        told[f"{kind} in"] += (await answer.json())["accepted"]
                        return
                told["again"] += 1
                await asyncio.sleep(1)

        began, looks = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            await look()
            if looks % 10 == 0:
                deployed = {"service": "search", "version": f"v{looks}", "id": str(looks)}
                await tell("/api/v1/deployments", "deployments", deployed)
                labels = {"alertname": f"Alert{looks}", "service": "search", "severity": "info"}
                alert = {"status": "firing", "labels": labels, "startsAt": "2026-01-01T00:00:00Z"}
                await tell("/hooks/alertmanager", "alerts", {"version": "4", "alerts": [alert]})
            looks += 1
            await asyncio.sleep(0.05)
    return took, told


@contextmanager
def daemon(home: Path) -> Iterator[tuple[str, int]]:
    """The address and process id of a daemon that is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = home / "rollbackd.yaml"
    config.write_text(CONFIG.format(port=port, home=home))
    command = [sys.executable, "-m", "rollbackd", "run", "-c", str(config)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, "BENCH_TOKEN": TOKEN}, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def counted(url: str) -> int:
    """Lines that the daemon says it accepted."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.search(
        r'^rollbackd_intake_events_total{intake="json_lines",result="accepted"} (\S+)$', text, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


def memory(pid: int) -> float:
    """Resident megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


def measure(seconds: float, connections: int) -> Found:
    """Both parts, with one daemon."""
    with tempfile.TemporaryDirectory(prefix="rollbackd-overload-") as folder, daemon(Path(folder)) as (url, pid):
        asyncio.run(send(url, 1.0, None, 0))
        alone = asyncio.run(send(url, seconds / 3, None, 1_000_000))
        sustained = alone["200"] * LINES / (seconds / 3)
        time.sleep(1)
        before, start = memory(pid), counted(url)
        out: Queue[Counter[str]] = multiprocessing.Queue()
        rate = FACTOR * sustained / LINES / SENDERS
        senders = [
            multiprocessing.Process(target=sender, args=(url, seconds, rate, (n + 2) * 1_000_000, connections, out))
            for n in range(SENDERS)
        ]
        for one in senders:
            one.start()
        took, told = asyncio.run(watch(url, seconds))
        answers = sum((out.get() for _ in senders), Counter[str]())
        for one in senders:
            one.join()
        sent = sum(answers.values()) * LINES
        took.sort()
        return Found(
            sustained=round(sustained),
            offered=round(sent / seconds),
            taken=round(answers["200"] * LINES / seconds),
            healthz_median=round(statistics.median(took), 1),
            healthz_p99=round(took[int(len(took) * 0.99)], 1),
            healthz_worst=round(took[-1], 1),
            deployments_told=told["deployments told"],
            deployments_in=told["deployments in"],
            alerts_told=told["alerts told"],
            alerts_in=told["alerts in"],
            told_again=told["again"],
            lines_accepted=answers["200"] * LINES,
            lines_refused=(answers["429"] + answers["503"]) * LINES,
            lines_unanswered=sent - (answers["200"] + answers["429"] + answers["503"]) * LINES,
            lines_counted=counted(url) - start,
            memory_before=round(before, 1),
            memory_after=round(memory(pid), 1),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the overload lasts (default: 30)")
    parser.add_argument("--connections", type=int, default=300, help="of each of the three senders (default: 300)")
    options = parser.parse_args()
    found = measure(options.seconds, options.connections)
    if options.json:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        ours = {"ours": found.healthz_p99, "peer": None, "ratio": round(AIM_MS / found.healthz_p99, 2)}
        told = {"name": "overload", "unit": "ms", **ours, "ratio_is": "aim / ours", "aim": AIM_MS, "machine": machine}
        print(json.dumps(told | asdict(found)))
        return
    print(f"lines a second: {found.sustained:,} sustained, {found.offered:,} offered, {found.taken:,} taken")
    print(f"/healthz: median {found.healthz_median} ms, p99 {found.healthz_p99} ms, worst {found.healthz_worst} ms")
    print(f"deployments: {found.deployments_in} of {found.deployments_told} got in")
    print(f"alerts: {found.alerts_in} of {found.alerts_told} got in")
    print(f"tries of both that were told to come back: {found.told_again}")
    print(f"lines: {found.lines_accepted:,} accepted, {found.lines_refused:,} refused, {found.lines_unanswered:,} lost")
    print(f"       {found.lines_counted:,} accepted by the daemon's own count")
    print(f"memory: {found.memory_before} MB before, {found.memory_after} MB after")


if __name__ == "__main__":
    main()
