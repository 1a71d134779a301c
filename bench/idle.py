"""What an idle daemon costs: memory, and the time from the start of its process until it is ready.

One service is watched with a metrics endpoint, a probe and a release folder, all on loopback. Memory is what Linux
says of the process ten seconds after it was ready: RSS counts every page it has mapped, PSS a page that several
processes share only in part. Ready is READY=1 on systemd's socket; the API is then asked whether that is true. The
median of several fresh processes, with Python's bytecode cached as it is in an installed package.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SETTLE_S = 10.0

CONFIG = """\
listen: 127.0.0.1:{port}
data_dir: {home}/data
services:
  checkout:
    target: {{release_dir: {{path: {home}/checkout, restart: "true"}}}}
    metrics: http://127.0.0.1:{service}/metrics
    probe: http://127.0.0.1:{service}/healthz
"""


class Service(BaseHTTPRequestHandler):
    """A service that does well."""

    def do_GET(self) -> None:
        body = b'# TYPE http_requests_total counter\nhttp_requests_total{code="200"} 1000\n'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing."""


@dataclass(frozen=True)
class Sample:
    """Seconds until ready, CPU seconds until ready, and megabytes (10^6 bytes) when idle."""

    ready: float
    cpu: float
    rss: float
    pss: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def service() -> Iterator[int]:
    """The port of a service that is there to be watched."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def memory(pid: int) -> tuple[float, float]:
    """RSS and PSS in megabytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith(" kB")}
    return kib["Rss"] * 1024 / 1e6, kib["Pss"] * 1024 / 1e6


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(home: Path, watched: int, bytecode: Path, settle: float) -> Sample:
    """Start the daemon in a folder of its own, measure it, stop it."""
    port = free_port()
    release = home / "checkout" / "releases" / "v1"
    release.mkdir(parents=True)
    (release / "app").write_text("v1")
    (home / "checkout" / "current").symlink_to("releases/v1")
    config = home / "rollbackd.yaml"
    config.write_text(CONFIG.format(port=port, home=home, service=watched))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(home / "notify"))
        systemd.settimeout(30)
        environment = {**os.environ, "NOTIFY_SOCKET": str(home / "notify"), "PYTHONPYCACHEPREFIX": str(bytecode)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-m", "rollbackd", "run", "-c", str(config)]
        log = home / "log"
        began = time.perf_counter()
        with log.open("wb") as written:
            process = subprocess.Popen(command, env=environment, stderr=written)
        try:
            told = systemd.recv(4096)
            assert told.startswith(b"READY=1"), told
            ready, used = time.perf_counter() - began, cpu(process.pid)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
                assert answer.status == 200
            time.sleep(settle)
            rss, pss = memory(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert process.returncode == 0, log.read_text()
    return Sample(ready, used, rss, pss)


def measure(runs: int, settle: float) -> Sample:
    """The median of so many runs, after one that fills the caches."""
    with tempfile.TemporaryDirectory(prefix="rollbackd-idle-") as folder, service() as port:
        home = Path(folder)
        samples = [run(home / str(n), port, home / "bytecode", settle if n else 0.1) for n in range(runs + 1)][1:]
    return Sample(
        round(statistics.median(one.ready for one in samples), 3),
        round(statistics.median(one.cpu for one in samples), 3),
        round(statistics.median(one.rss for one in samples), 1),
        round(statistics.median(one.pss for one in samples), 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--runs", type=int, default=5, help="fresh processes (default: 5)")
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="seconds before memory is read (default: 10)")
    options = parser.parse_args()
    found = measure(options.runs, options.settle)
    if not options.json:
        print(f"{'resident memory (RSS)':<28}{found.rss:>8} MB")
        print(f"{'its share of pages (PSS)':<28}{found.pss:>8} MB")
        print(f"{'from start to ready':<28}{found.ready:>8} s")
        print(f"{'CPU used until then':<28}{found.cpu:>8} s")
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    result = {"name": "idle", "unit": "MB", "ours": found.rss, "peer": None, "ratio": None, "machine": machine}
    print(json.dumps(result | {"pss": found.pss, "ready_s": found.ready, "ready_cpu_s": found.cpu}))


if __name__ == "__main__":
    main()
