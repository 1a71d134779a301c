"""The source `loki` against a real Loki, whose program the variable LOKI names.

Not a part of `make test`, since Loki takes minutes to build: `make test-loki` does that and runs this module.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from rollbackd.aiokit import SystemClock
from rollbackd.model import Log
from rollbackd.sources.base import Source, SourceContext
from rollbackd.sources.loki import ADAPTER, LokiConfig
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.timeout(180)

CONFIG = """
auth_enabled: true
analytics: {reporting_enabled: false}
server:
  http_listen_address: 127.0.0.1
  http_listen_port: %(http)d
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: %(grpc)d
  log_level: error
ingester: {lifecycler: {min_ready_duration: 0s}}
limits_config:
  ingestion_rate_mb: 100
  ingestion_burst_size_mb: 100
  per_stream_rate_limit: 100MB
  per_stream_rate_limit_burst: 100MB
common:
  instance_addr: 127.0.0.1
  path_prefix: %(folder)s
  storage: {filesystem: {chunks_directory: %(folder)s/chunks, rules_directory: %(folder)s/rules}}
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
schema_config:
  configs:
    - {from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}
"""


class Loki:
    """One that is ready."""

    def __init__(self, port: int, client: aiohttp.ClientSession) -> None:
        self.url, self._client = f"http://127.0.0.1:{port}", client

    async def push(self, *lines: str, at: int | None = None, labels: dict[str, str] | None = None, **more: str) -> None:
        """Lines of one stream, a nanosecond apart."""
        first = time.time_ns() if at is None else at
        values = [[str(first + number), line, more] for number, line in enumerate(lines)]
        body = {"streams": [{"stream": labels or {"app": "shop"}, "values": values}]}
        async with self._client.post(
            f"{self.url}/loki/api/v1/push", json=body, headers={"X-Scope-OrgID": "shop"}
        ) as answer:
            assert answer.status == 204, await answer.text()

    async def ready(self) -> bool:
        try:
            async with self._client.get(f"{self.url}/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@pytest.fixture
async def loki(tmp_path: Path, unused_tcp_port_factory: object) -> AsyncIterator[Loki]:
    assert callable(unused_tcp_port_factory)
    http, grpc = unused_tcp_port_factory(), unused_tcp_port_factory()
    (tmp_path / "loki.yaml").write_text(CONFIG % {"http": http, "grpc": grpc, "folder": tmp_path / "data"})
    process = await asyncio.create_subprocess_exec(
        os.environ["LOKI"], f"-config.file={tmp_path}/loki.yaml", stderr=subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as client:
            one = Loki(http, client)
            await eventually_async(one.ready, within=90, every=0.2)
            yield one
    finally:
        process.terminate()
        await process.wait()


class Reading:
    """The source as it runs, on the real clock."""

    def __init__(self, source: Source) -> None:
        self.sink = RecordingSink()
        self.task = asyncio.create_task(source.run(self.sink))

    def messages(self) -> list[str]:
        return [event.message for event in self.sink.of(Log)]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def source(loki: Loki, folder: Path, **settings: object) -> Source:
    config = LokiConfig.model_validate({"url": loki.url, "tenant": "shop", "interval": 0.5, **settings})
    return ADAPTER.build(config, SourceContext("shop", SystemClock(), folder / "state"))


@pytest.mark.parametrize("mode", ["query", "tail"])
async def test_lines_are_read_once_over_a_restart_with_what_is_known_of_them(
    loki: Loki, tmp_path: Path, mode: str
) -> None:
    await loki.push("old")
    reading = Reading(source(loki, tmp_path, mode=mode))
    await eventually(lambda: reading.sink.state == "up")
    began = time.time_ns()
    await loki.push("level=error msg=declined", version="v2")
    await loki.push(
        "Traceback (most recent call last):", '  File "a.py", line 1', "ValueError: x", labels={"job": "shop"}
    )
    await loki.push("late", at=began, labels={"app": "shop", "pod": "slow"})
    await eventually(lambda: len(reading.messages()) == 3)
    await reading.stop()
    await loki.push("while it was away", labels={"container": "shop"}, service_version="v3", level="warn")
    again = Reading(source(loki, tmp_path, mode=mode))
    await eventually(lambda: len(again.messages()) == 1)
    await loki.push("the end")
    await eventually(lambda: len(again.messages()) == 2)
    await again.stop()
    events = [*reading.sink.of(Log), *again.sink.of(Log)]
    told = sorted((one.message, one.level, one.version) for one in events)
    assert told == [
        ('Traceback (most recent call last):\n  File "a.py", line 1\nValueError: x', "error", None),
        ("declined", "error", "v2"),
        ("late", "info", None),
        ("the end", "info", None),
        ("while it was away", "warning", "v3"),
    ]
    assert reading.sink.drops == again.sink.drops == {}
    assert [*reading.sink.history, *again.sink.history] == ["up", "up"]


@pytest.mark.parametrize("mode", ["query", "tail"])
async def test_many_lines_of_many_streams_are_read_page_by_page(loki: Loki, tmp_path: Path, mode: str) -> None:
    reading = Reading(source(loki, tmp_path, mode=mode, limit=50))
    await eventually(lambda: reading.sink.state == "up")
    expected = []
    for batch in range(20):
        lines = [f"line {batch} {number}" for number in range(100)]
        await loki.push(*lines, labels={"app": "shop", "pod": f"p{batch % 3}"})
        expected += lines
    await eventually(lambda: len(reading.messages()) >= len(expected), within=30)
    await reading.stop()
    assert sorted(reading.messages()) == sorted(expected)
    assert reading.sink.drops == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"query": '{app="x"'}, "parse error at line 1, col 9: syntax error: unexpected $end, expecting } or ,"),
        ({"query": 'rate({app="x"}[1m])'}, "the query gives a matrix, not log lines: write a log query"),
        ({"match": {"app": ""}}, "queries require at least one regexp or equality matcher that does not have an empty"),
        ({"tenant": None}, "answered 401 Unauthorized: no org id"),
        ({"limit": 6000}, "max entries limit per query exceeded, limit > max_entries_limit_per_query (6000 > 5000)"),
    ],
)
async def test_what_loki_refuses_is_told_in_its_words(
    loki: Loki, tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    await loki.push("level=error msg=x", labels={"app": "x"})
    for mode in ("query", "tail"):
        reading = Reading(source(loki, tmp_path, mode=mode, **settings))
        await eventually(lambda: said in reading.sink.state)  # noqa: B023
        await reading.stop()


async def test_a_tail_too_many_is_told_and_lines_are_asked_for_all_the_same(loki: Loki, tmp_path: Path) -> None:
    many = [Reading(source(loki, tmp_path / str(number), mode="tail")) for number in range(10)]
    await eventually(lambda: all(one.sink.state == "up" for one in many))
    late = Reading(source(loki, tmp_path / "late", mode="tail"))
    await eventually(lambda: "max concurrent tail requests limit exceeded" in late.sink.state)
    await loki.push("read by query")
    await eventually(lambda: late.messages() == ["read by query"])
    for one in (*many, late):
        await one.stop()


async def test_what_a_full_queue_makes_loki_leave_out_is_asked_for(loki: Loki, tmp_path: Path) -> None:
    reading = Reading(source(loki, tmp_path, mode="tail"))
    await eventually(lambda: reading.sink.state == "up")
    reading.sink.hold()
    pushed = 0
    for _ in range(120):
        await loki.push(*[f"{pushed + number} {'x' * 1000}" for number in range(200)])
        pushed += 200
    reading.sink.release()
    await loki.push("the end")
    await eventually(lambda: "the end" in reading.messages(), within=60)
    await reading.stop()
    assert len(reading.messages()) == len(set(reading.messages())) == pushed + 1
    assert (reading.sink.drops, reading.sink.history) == ({}, ["up"])
