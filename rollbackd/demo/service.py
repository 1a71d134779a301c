"""The demo's shop: a small HTTP service with metrics and a log, copied into each release folder and started there.

`release.json` beside this file names the release and the fault it carries. The service listens with SO_REUSEPORT, so
that a new process can be ready before the old one ends: a restart alone harms no request.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest

USUAL_WORK_S = 0.05
"""The median time an order takes; the spread is log-normal."""
ERROR_SHARE = 0.2
SLOWDOWN = 3.0
LIFETIME_S = 1.5
"""How long a crashing release lives."""
NOISE_SHARE = 0.02
"""Every release logs a harmless error for that share of its requests: having error lines is not what is new."""
BUCKETS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 2.5)


class Shop:
    """What one release does with an order: the work, the fault, the metrics, the log."""

    def __init__(self, version: str, fault: str, log: TextIO) -> None:
        self.version = version
        self._fault = fault
        self._log = log
        self._writing = threading.Lock()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("http_requests", "Requests by status code.", ["code"], registry=self.registry)
        self._seconds = Histogram(
            "http_request_duration_seconds", "Time to answer.", buckets=BUCKETS, registry=self.registry
        )

    def order(self) -> int:
        """Handle one order and return its status code."""
        began = time.perf_counter()
        time.sleep(USUAL_WORK_S * random.lognormvariate(0, 0.2) * (SLOWDOWN if self._fault == "latency" else 1.0))
        status = 200
        if random.random() < NOISE_SHARE:
            self.log("error", f"payment provider was slow, order {random.randrange(10**6)} went through at second try")
        if self._fault == "errors" and random.random() < ERROR_SHARE:
            status = 500
        if self._fault == "logs" and random.random() < ERROR_SHARE:
            self.log("error", f"stock of article {random.randrange(10**6)} is negative, selling it all the same")
        self._requests.labels(code=str(status)).inc()
        self._seconds.observe(time.perf_counter() - began)
        return status

    def log(self, level: str, message: str) -> None:
        """Write one JSON line."""
        line = {"time": round(time.time(), 3), "level": level, "release": self.version, "message": message}
        with self._writing:
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()


class Server(ThreadingHTTPServer):
    """Answers in one thread a request; `drain` ends it without dropping one."""

    allow_reuse_address = False
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, port: int, shop: Shop) -> None:
        self.shop = shop
        super().__init__(("127.0.0.1", port), Handler, bind_and_activate=False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.server_bind()
        self.server_activate()

    def drain(self) -> None:
        """Answer what had already connected, then close. Call once `serve_forever` has returned."""
        while select.select([self.socket], [], [], 0)[0]:
            self.handle_request()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """`GET /metrics`, `GET /healthz` and `POST /order`."""

    server: Server
    timeout = 5.0

    def do_GET(self) -> None:
        shop = self.server.shop
        if self.path == "/metrics":
            self._answer(200, generate_latest(shop.registry), "text/plain; version=0.0.4; charset=utf-8")
        elif self.path == "/healthz":
            self._answer(200, b"ok\n", "text/plain")
        else:
            self._answer(404, b"not here\n", "text/plain")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = self.server.shop.order()
        self._answer(status, b"sold\n" if status == 200 else b"sorry\n", "text/plain")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Release", self.server.shop.version)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class named it
        """Keep the access log out of the error log."""


def main() -> None:
    """Serve until SIGTERM, or until whoever holds our standard input is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    release = json.loads(Path(__file__).with_name("release.json").read_text(encoding="utf-8"))
    # Blocked before any thread starts, so that the signal waits for `sigwait` whichever thread it is delivered to.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with options.log.open("a", encoding="utf-8") as log:
        shop = Shop(release["version"], release["fault"], log)
        server = Server(options.port, shop)
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        threading.Thread(target=_end_with_our_starter, daemon=True).start()
        if release["fault"] == "crash":
            crash = threading.Timer(LIFETIME_S, _crash, [shop])
            crash.daemon = True
            crash.start()
        shop.log("info", f"release {shop.version} is ready")
        print("ready", flush=True)
        signal.sigwait({signal.SIGTERM})
        server.shutdown()
        serving.join()
        server.drain()


def _crash(shop: Shop) -> None:
    shop.log("error", "out of memory")
    os._exit(70)


def _end_with_our_starter() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
