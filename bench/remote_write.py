"""What taking remote write in costs: samples per CPU second, beside Prometheus' own receiver.

Both are sent the same requests: 2,000 samples of series with seven labels, of which 100,000 are seen and 2,000 matched:
counters, buckets and levels of 20 services. Of the others, 18,000 are of metrics that rollbackd has use for, but of
nobody's, and 80,000 of metrics that it has none for. A round later the same series come again, sampled 15 seconds
later. Both run as processes of their own on loopback, rollbackd as `rollbackd run`, so HTTP, Snappy and everything
behind are in. CPU is what Linux says of the process from the first request until what was sent has settled, after one
round that makes the series known. Ours and theirs take turns; medians are over the pairs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cramjam

from rollbackd.intake.base import Delivery
from rollbackd.intake.remote_write import Config, RemoteWrite

SERIES = 100_000
PER_REQUEST = 2_000
APART_S = 15
SERVICES = 20

CONFIG = """\
listen: 127.0.0.1:{port}
data_dir: {home}/data
log: {{level: warning}}
auth: {{anonymous: [read, ingest]}}
intake: {{remote_write: {{}}}}
limits: {{deliveries_per_second: 100000}}
services:
"""

BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf")


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(place: int, inside: bytes) -> bytes:
    return varint(place << 3 | 2) + varint(len(inside)) + inside


def labels(**said: str) -> bytes:
    """Labels as they are on the wire, in order; their texts are short."""
    return b"".join(
        b"\n%c\n%c%b\x12%c%b" % (len(name) + len(value) + 4, len(name), name.encode(), len(value), value.encode())
        for name, value in sorted(said.items())
    )


def seen(count: int) -> Iterator[bytes]:
    """The labels of all series: 2 % of services that are known, 18 % of others', 80 % of no use."""
    for n in range(count):
        pod, known = f"pod-{n // 200:05d}", n % 50 == 0
        place = n // 50
        service = f"service-{place % SERVICES}" if known else f"other-{n % 3000}"
        named = {"job": service, "instance": f"10.0.{n % 250}.{n // 400}:8080", "pod": pod, "namespace": "shop"}
        if known and place % 5 == 4:
            yield labels(__name__="process_open_fds", cluster="eu-1", zone="a", **named)
        elif known and place % 5 < 2:
            yield labels(__name__="http_requests_total", code=("200", "500")[place % 2], path=f"/p{place}", **named)
        elif known:
            bound = BOUNDS[place // SERVICES % 10]
            yield labels(__name__="http_request_duration_seconds_bucket", le=bound, path="/", **named)
        elif n % 50 < 10:
            yield labels(__name__="http_requests_total", code="200", path=f"/p{n}", **named)
        else:
            yield labels(__name__=f"go_or_else_{n % 400}_bytes", quantile=f"0.{n % 99}", shard=str(n % 7), **named)


class Payloads:
    """Requests by round, all series in each."""

    def __init__(self, count: int, start: float) -> None:
        self._labels = list(seen(count))
        self._start = start

    def round(self, number: int) -> list[bytes]:
        """All series at one moment, packed."""
        stamp = b"\x10" + varint(int((self._start + APART_S * number) * 1000))
        out = []
        for first in range(0, len(self._labels), PER_REQUEST):
            parts = []
            for place, named in enumerate(self._labels[first : first + PER_REQUEST], first):
                value = b"\x09" + struct.pack("<d", float((place % 97 + 1) * (number + 1)))
                parts.append(message(1, named + message(2, value + stamp)))
            out.append(bytes(cramjam.snappy.compress_raw(b"".join(parts))))
        return out


@dataclass(frozen=True)
class Pair:
    """Samples per CPU second of one turn."""

    ours: float
    peer: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: Sequence[str], port: int, ready: str, home: Path) -> Iterator[int]:
    """The process of a server, from when it is ready until it is ended."""
    with (home / "log").open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5):
                    break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit((home / "log").read_text()) from None
                time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextmanager
def rollbackd(home: Path) -> Iterator[tuple[int, int]]:
    """Port and process of ours."""
    port = free_port()
    services = "".join(f"  service-{n}: {{}}\n" for n in range(SERVICES))
    (home / "rollbackd.yaml").write_text(CONFIG.format(port=port, home=home) + services)
    command = [sys.executable, "-m", "rollbackd", "run", "-c", str(home / "rollbackd.yaml")]
    with running(command, port, "/healthz", home) as pid:
        yield port, pid


@contextmanager
def prometheus(home: Path) -> Iterator[tuple[int, int]]:
    """Port and process of the peer's."""
    port = free_port()
    (home / "prometheus.yml").write_text("scrape_configs: []\n")
    command = [
        "prometheus",
        f"--config.file={home / 'prometheus.yml'}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
    ]
    with running(command, port, "/-/ready", home) as pid:
        yield port, pid


def send(port: int, requests: Sequence[bytes]) -> None:
    """Send them one after the other, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    for body in requests:
        connection.request("POST", "/api/v1/write", body, headers)
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 204:
            raise SystemExit(f"{answer.status} {told.decode()}")
    connection.close()


def measure(port: int, pid: int, first: Sequence[bytes], rest: Sequence[bytes], settle: float) -> float:
    """CPU seconds for the rest, once the first made the series known."""
    send(port, first)
    time.sleep(0.5)
    began = cpu(pid)
    send(port, rest)
    time.sleep(settle)
    return cpu(pid) - began


def pairs(count: int, series: int, rounds: int, settle: float) -> list[Pair]:
    """So many turns, each with processes of their own."""
    payloads = Payloads(series, time.time() - APART_S * (rounds + 1))
    first, *others = [payloads.round(number) for number in range(rounds + 1)]
    rest = [body for one in others for body in one]
    found = []
    for number in range(count):
        rates = []
        for server in (rollbackd, prometheus):
            with tempfile.TemporaryDirectory(prefix="rollbackd-write-") as folder, server(Path(folder)) as (port, pid):
                rates.append(series * rounds / measure(port, pid, first, rest, settle))
        found.append(Pair(*rates))
        print(f"\r{number + 1} of {count} pairs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


class _Shop:
    """The one service there is."""

    names = frozenset({"shop"})

    def known(self) -> frozenset[str]:
        return self.names


def written() -> Callable[[float, list[tuple[str, dict[str, str], float]]], int]:
    """The road of the intake, for churn.py: takes in what a target shows at a moment, tells how much came of it."""
    intake = RemoteWrite(Config(), _Shop())

    def take(t: float, samples: list[tuple[str, dict[str, str], float]]) -> int:
        now = 1.7e9 + t
        stamp = b"\x10" + varint(int(now * 1000))
        body = b"".join(
            message(
                1, labels(__name__=name, job="shop", **said) + message(2, b"\x09" + struct.pack("<d", value) + stamp)
            )
            for name, said, value in samples
        )
        intake.read(Delivery(body=body, headers={}, query={}, received_at=now))
        return len(intake.settled(now + 8).observed)

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--pairs", type=int, default=5, help="turns of ours and the peer's (default: 5)")
    parser.add_argument("--series", type=int, default=SERIES, help="series seen (default: 100,000)")
    parser.add_argument("--rounds", type=int, default=6, help="samples of each that are measured (default: 6)")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds after the last request (default: 10)")
    options = parser.parse_args()
    found = pairs(options.pairs, options.series, options.rounds, options.settle)
    ours = statistics.median(one.ours for one in found)
    peer = statistics.median(one.peer for one in found)
    ratio = statistics.median(one.ours / one.peer for one in found)
    if not options.json:
        print(f"{'rollbackd':<14}{ours:>12,.0f} samples per CPU second")
        print(f"{'Prometheus':<14}{peer:>12,.0f}")
        print(f"{'ratio':<14}{ratio:>12.2f}")
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {
        "name": "remote_write",
        "unit": "samples per CPU second",
        "ours": round(ours),
        "peer": round(peer),
        "ratio": round(ratio, 2),
        "machine": machine,
    }
    print(json.dumps(result | {"pairs": [[round(one.ours), round(one.peer)] for one in found]}))


if __name__ == "__main__":
    main()
