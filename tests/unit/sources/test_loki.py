"""Reading from a server that answers as Loki does, through what happens to queries, tails and the daemon."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import ValidationError

from rollbackd.model import Log
from rollbackd.sources import loki as loki_source
from rollbackd.sources import loki_place, loki_records
from rollbackd.sources.base import Source, SourceContext
from rollbackd.sources.loki import ADAPTER, SAVE_S, LokiConfig
from rollbackd.sources.loki_records import MAX_BEHIND_S
from rollbackd.sources.loki_tail import SILENT_S
from tests.support.clock import ManualClock
from tests.support.loki import SECOND, LokiServer
from tests.support.servers import Run, Server, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually

INTERVAL = 10.0


@pytest.fixture
async def loki() -> AsyncIterator[LokiServer]:
    async with LokiServer() as server:
        yield server


def reading(loki: Server, clock: ManualClock, folder: Path | None = None, **settings: object) -> Source:
    config = LokiConfig.model_validate({"url": loki.url("/"), **settings})
    return ADAPTER.build(config, SourceContext("shop", clock, folder))


def messages(sink: RecordingSink) -> list[str]:
    return [event.message for event in sink.of(Log)]


def nanoseconds(clock: ManualClock, ago: float = 0) -> int:
    return int((clock.now() - ago) * SECOND)


async def looked(run: Run, looks: int = 2) -> None:
    """Looks: one that reads, one that finds the last record over."""
    for _ in range(looks):
        await run.after(INTERVAL)


# -- by query


async def test_what_was_there_before_is_old_and_what_comes_is_read_once(loki: LokiServer) -> None:
    clock = ManualClock()
    await loki.push("ERROR old", nanoseconds(clock, ago=1))
    async with running(reading(loki, clock), clock) as (run, sink):
        await loki.push("ERROR new", at := nanoseconds(clock) + SECOND)
        await loki.push("fine", at + SECOND)
        await looked(run, 5)
    assert sink.events == [
        Log(t=at / 1e9, service="shop", level="error", message="ERROR new"),
        Log(t=at / 1e9 + 1, service="shop", level="info", message="fine"),
    ]
    assert (sink.history, sink.drops, sink.invalid()) == (["up"], {}, [])


async def test_lines_that_come_late_are_read_and_those_that_come_later_are_not(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, delay=15), clock) as (run, sink):
        await looked(run, 3)
        await loki.push("late", nanoseconds(clock, ago=14))
        await loki.push("too late", nanoseconds(clock, ago=16))
        await looked(run)
    assert messages(sink) == ["late"]
    assert sink.invalid() == []


async def test_more_lines_than_fit_a_page_are_read_page_by_page(loki: LokiServer) -> None:
    """Also where lines of one moment lie on both sides of a page's end, and those of several streams mix."""
    clock = ManualClock()
    async with running(reading(loki, clock, limit=5), clock) as (run, sink):
        begin = nanoseconds(clock)
        for number in range(40):
            labels = {"service_name": "shop", "pod": str(number % 2)}
            await loki.push(f"line {number}", begin + number // 3, labels)
        before = len(loki.requests)
        await looked(run)
    assert sorted(messages(sink)) == sorted(f"line {number}" for number in range(40))
    assert len(loki.requests) - before > 8
    assert sink.drops == {}


async def test_more_lines_of_one_moment_than_fit_a_page_do_not_hold_it_up(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, limit=5), clock) as (run, sink):
        begin = nanoseconds(clock)
        for number in range(8):
            await loki.push(f"crowd {number}", begin + 1)
        await loki.push("after", begin + 2)
        await looked(run)
    assert messages(sink) == [*(f"crowd {number}" for number in range(5)), "after"]
    assert sink.drops["crowded_moment"] >= 1


async def test_an_answer_that_is_too_large_is_asked_for_in_smaller_parts(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, max_bytes=64 * 1024, max_line=256), clock) as (run, sink):
        for number in range(30):
            await loki.push(f"{number} {'x' * 10_000}", nanoseconds(clock) + number)
        await looked(run)
        assert (len(messages(sink)), sink.state) == (30, "up")
        assert sink.drops == {"line_too_long": 30}
        await loki.push("y" * 70_000, nanoseconds(clock))
        await looked(run)
        assert "answered with more than 65536 bytes for 1 lines: raise `max_bytes`" in sink.state


async def test_levels_versions_and_messages_come_from_where_they_are(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, version_field="app.version"), clock) as (run, sink):
        begin = nanoseconds(clock)
        pods = ({"service_name": "shop", "pod": str(number)} for number in range(20))
        await loki.push("by label", begin, {**next(pods), "level": "warn", "version": "v1"}, detected_level="error")
        await loki.push("by Loki", begin + 1, next(pods), detected_level="error", service_version="v2")
        await loki.push('{"level":"fatal","msg":"by line","app":{"version":"v3"}}', begin + 2, next(pods))
        await loki.push("ERROR unknown", begin + 3, next(pods), detected_level="unknown", version="unknown")
        await loki.push("own before", begin + 4, {**next(pods), "version": "v1"}, version="v4")
        await looked(run)
    assert [(event.message, event.level, event.version) for event in sink.of(Log)] == [
        ("by label", "warning", "v1"),
        ("by Loki", "error", "v2"),
        ("by line", "critical", "v3"),
        ("ERROR unknown", "error", None),
        ("own before", "info", "v4"),
    ]


async def test_stack_traces_are_put_together_stream_by_stream(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock), clock) as (run, sink):
        begin = nanoseconds(clock)
        for number, line in enumerate(("ERROR broke", "  at a", "  at b")):
            for pod in "12":
                await loki.push(f"{line} {pod}", begin + number, {"service_name": "shop", "pod": pod})
        await looked(run)
    assert messages(sink) == ["ERROR broke 1\n  at a 1\n  at b 1", "ERROR broke 2\n  at a 2\n  at b 2"]


async def test_a_stack_trace_between_two_looks_is_one(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock), clock) as (run, sink):
        await loki.push("ERROR broke", nanoseconds(clock) + int(9.9 * SECOND))
        await run.after(INTERVAL)
        assert messages(sink) == []
        await loki.push("  at a", nanoseconds(clock) + 1)
        await looked(run)
    assert messages(sink) == ["ERROR broke\n  at a"]


async def test_many_streams_are_followed_in_bounded_memory(loki: LokiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loki_records, "MAX_STREAMS", 3)
    clock = ManualClock()
    async with running(reading(loki, clock), clock) as (run, sink):
        begin = nanoseconds(clock) + 9 * SECOND
        for number in range(10):
            await loki.push(f"line {number}", begin + number, {"service_name": "shop", "pod": str(number)})
        await run.after(INTERVAL)
        assert messages(sink) == [f"line {number}" for number in range(7)]
        await run.after(INTERVAL)
    assert len(messages(sink)) == 10


async def test_a_line_of_the_future_is_told_in_the_present(loki: LokiServer) -> None:
    """A producer's clock that runs ahead makes nobody else's lines late."""
    clock = ManualClock()
    async with running(reading(loki, clock), clock) as (run, sink):
        await loki.push("ahead", nanoseconds(clock) + 35 * SECOND)
        await run.after(INTERVAL)
        await loki.push("now", nanoseconds(clock) + 1)
        await looked(run, 6)
    assert messages(sink) == ["now", "ahead"]
    assert sink.invalid() == []


@pytest.mark.parametrize("form", ["merged", "gzip"])
async def test_an_older_loki_and_compressed_answers_are_understood(loki: LokiServer, form: str) -> None:
    clock = ManualClock()
    answer = loki.handler

    async def other(request: web.Request) -> web.StreamResponse:
        if form == "merged":
            headers = request.headers.copy()
            del headers["X-Loki-Response-Encoding-Flags"]
            return await answer(request.clone(headers=headers))
        whole = await answer(request)
        assert isinstance(whole, web.Response)
        assert isinstance(whole.body, bytes)
        return web.Response(body=gzip.compress(whole.body), headers={"Content-Encoding": "gzip"})

    loki.handler = other
    async with running(reading(loki, clock), clock) as (run, sink):
        await loki.push("x", nanoseconds(clock), detected_level="error", version="v2")
        await looked(run)
    assert [(event.level, event.version) for event in sink.of(Log)] == [("error", "v2")]


# -- what is asked


@pytest.mark.parametrize(
    ("settings", "query"),
    [
        ({}, '{service_name="shop"}'),
        ({"match": {"app": 'a"b', "env": "prod"}}, '{app="a\\"b", env="prod"}'),
        ({"query": '{app="x"} |= "y"'}, '{app="x"} |= "y"'),
    ],
)
async def test_the_query_names_the_service_unless_told_otherwise(
    loki: LokiServer, settings: dict[str, object], query: str
) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, None, **settings), clock):
        assert loki.requests[0].query["query"] == query


async def test_the_tenant_and_credentials_are_sent(loki: LokiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    clock = ManualClock()
    for mode in ("query", "tail"):
        source = reading(loki, clock, mode=mode, tenant="a|b", bearer={"env": "TOKEN"})
        async with running(source, clock) as (run, sink):
            await run.after(1)
            assert sink.state == "up"
    for request in loki.requests:
        assert (request.headers["X-Scope-OrgID"], request.headers["Authorization"]) == ("a|b", "Bearer s3cret")
    assert {request.path for request in loki.requests} == {"/loki/api/v1/query_range", "/loki/api/v1/tail"}


async def test_a_path_before_lokis_own_is_kept(loki: LokiServer) -> None:
    clock = ManualClock()
    config = LokiConfig.model_validate({"url": loki.url("/logs/?key=x")})
    async with running(ADAPTER.build(config, SourceContext("shop", clock)), clock):
        assert loki.requests[0].path == "/logs/loki/api/v1/query_range"
        assert loki.requests[0].query["key"] == "x"


# -- when things go wrong


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, "parse error at\nline 1", "answered 400 Said: parse error at line 1"),
        (401, "no org id\n", "answered 401 Said: no org id"),
        (500, "x" * 500, f"answered 500 Said: {'x' * 200}..."),
        (502, "<html>Bad gateway</html>", "answered 502 Said"),
        (403, "s3cret is \x1b[31mwrong", "answered 403 Said: *** is [31mwrong"),
        (200, "hello", "the answer is not Loki's"),
        (200, '{"data":{"resultType":"matrix","result":[]}}', "the query gives a matrix, not log lines"),
    ],
)
async def test_what_is_refused_is_told_in_lokis_words(
    loki: LokiServer, monkeypatch: pytest.MonkeyPatch, status: int, body: str, said: str
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    clock = ManualClock()
    loki.refusal = web.Response(status=status, text=body)
    async with running(reading(loki, clock, bearer={"env": "TOKEN"}), clock) as (run, sink):
        assert sink.state.startswith(f"down: {loki.url('/loki/api/v1/query_range')}")
        assert said in sink.state
        assert sink.state.endswith(said[-10:]) or status == 200
        loki.refusal = None
        await loki.push("in the gap", nanoseconds(clock))
        await looked(run)
        assert (sink.state, messages(sink)) == ("up", ["in the gap"])


@pytest.mark.parametrize(("asked", "waits"), [("60", 60), ("99999", 300), ("soon", 0)])
async def test_a_server_that_asks_for_time_is_given_it(loki: LokiServer, asked: str, waits: float) -> None:
    clock = ManualClock()
    loki.refusal = web.Response(status=429, text="too many outstanding requests", headers={"Retry-After": asked})
    async with running(reading(loki, clock), clock) as (run, sink):
        assert "answered 429 Said: too many outstanding requests" in sink.state
        if waits:
            await run.after(waits - 1)
            assert len(loki.requests) == 1
        await run.after(INTERVAL + 1)
        assert len(loki.requests) == 2


async def test_a_long_gap_is_counted_and_what_is_recent_is_read(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock), clock) as (run, sink):
        await loki.push("lost", nanoseconds(clock) + SECOND)
        await loki.stop()
        await run.after(INTERVAL)
        assert sink.state.startswith("down: ")
        await clock.advance(2 * MAX_BEHIND_S)
        await loki.push("recent", nanoseconds(clock, ago=MAX_BEHIND_S / 2))
        await loki.start()
        await looked(run)
        assert (messages(sink), sink.state) == (["recent"], "up")
        assert sink.drops["gap_too_long"] >= 1
    assert sink.invalid() == []


async def test_lines_without_a_readable_time_are_counted(loki: LokiServer) -> None:
    clock = ManualClock()
    values = [["x", "bad"], [str(nanoseconds(clock)), "good"]]
    result = [{"stream": {}, "values": values}]
    loki.refusal = web.Response(text=json.dumps({"data": {"resultType": "streams", "result": result}}))
    async with running(reading(loki, clock), clock) as (run, sink):
        await looked(run, 1)
        assert (messages(sink), sink.drops) == (["good"], {"no_time": 2})


async def test_a_flood_is_read_in_flat_memory(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock), clock) as (run, sink):
        endless = b'{"data":{"resultType":"streams","result":[' + b" " * 1_000_000

        async def flood(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(endless)

        loki.handler = flood
        tracemalloc.start()
        try:
            await run.idle()
            await clock.advance(INTERVAL)
            await eventually(lambda: sink.state.startswith("down: "), within=30)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert "more than 8388608 bytes" in sink.state
    assert peak < 40_000_000


# -- over a restart


@pytest.mark.parametrize("mode", ["query", "tail"])
async def test_a_restart_repeats_nothing_and_loses_nothing(loki: LokiServer, tmp_path: Path, mode: str) -> None:
    """Not even the record that was still open."""
    clock, told = ManualClock(), list[str]()
    expected = []
    for turn in range(4):
        async with running(reading(loki, clock, tmp_path, mode=mode), clock) as (run, sink):
            for number in range(3):
                await loki.push(f"{turn} {number}", nanoseconds(clock) + number)
                expected.append(f"{turn} {number}")
                await run.after(0.5)
        told += messages(sink)
        await clock.advance(INTERVAL / 4)
        await eventually(lambda: not loki.tails)
        await loki.push(f"{turn} away", nanoseconds(clock))
        expected.append(f"{turn} away")
    async with running(reading(loki, clock, tmp_path, mode=mode), clock) as (run, sink):
        await looked(run, 3)
    assert sorted([*told, *messages(sink)]) == sorted(expected)


async def test_a_restart_while_the_queue_is_full_loses_nothing(loki: LokiServer, tmp_path: Path) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, tmp_path), clock) as (run, sink):
        for number in range(10):
            await loki.push(f"line {number}", nanoseconds(clock) + number)
        await run.idle()
        sink.hold()
        await clock.advance(INTERVAL)
        await eventually(lambda: sink.waiting)
    async with running(reading(loki, clock, tmp_path), clock) as (run, after):
        await looked(run)
    assert messages(sink) == []
    assert messages(after) == [f"line {number}" for number in range(10)]


async def test_a_crash_repeats_no_more_than_was_read_since_the_place_was_kept(loki: LokiServer, tmp_path: Path) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, tmp_path), clock) as (run, sink):
        await loki.push("kept", nanoseconds(clock))
        await run.after(INTERVAL)
        await run.after(SAVE_S)
        place = (tmp_path / "place.json").read_bytes()
        await loki.push("since", nanoseconds(clock))
        await run.after(INTERVAL)
    (tmp_path / "place.json").write_bytes(place)  # what a kill would have left
    async with running(reading(loki, clock, tmp_path), clock) as (run, after):
        await looked(run)
    assert messages(sink) == ["kept", "since"]
    assert messages(after) == ["since"]


async def test_a_place_that_cannot_be_read_is_the_present(loki: LokiServer, tmp_path: Path) -> None:
    clock = ManualClock()
    (tmp_path / "place.json").write_bytes(b"\xff\x00")
    await loki.push("old", nanoseconds(clock, ago=1))
    async with running(reading(loki, clock, tmp_path), clock) as (run, sink):
        await loki.push("new", nanoseconds(clock))
        await looked(run)
    assert messages(sink) == ["new"]


# -- the tail


async def tailing(run: Run, loki: LokiServer, sink: RecordingSink) -> None:
    """Until the tail is there."""
    for _ in range(5):
        if loki.tails and sink.state == "up":
            return
        await run.after(INTERVAL)
    raise AssertionError(f"no tail, but {sink.history}")


async def test_the_tail_tells_at_once(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        asked = len(loki.requests)
        await loki.push("ERROR one", nanoseconds(clock), detected_level="error")
        await loki.push("two", nanoseconds(clock) + 1)
        await eventually(lambda: messages(sink) == ["ERROR one"])
        for _ in range(4):
            await run.after(1)
        assert messages(sink) == ["ERROR one", "two"]
        assert len(loki.requests) == asked
    assert (sink.drops, sink.invalid()) == ({}, [])


async def test_the_tail_answers_pings(loki: LokiServer) -> None:
    """A proxy may end a connection on which nothing is heard from our side."""
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        await eventually(lambda: loki.pongs > 2)


async def test_a_tail_knows_no_more_of_the_past_than_a_query(loki: LokiServer) -> None:
    """Lines from before what is asked for again were told already, or come too late."""
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail", delay=15), clock) as (run, sink):
        await tailing(run, loki, sink)
        for _ in range(30):
            await run.after(1)
        await loki.push("too late", nanoseconds(clock, ago=30))
        await loki.push("late", nanoseconds(clock, ago=14))
        for _ in range(30):
            await run.after(1)
    assert messages(sink) == ["late"]
    assert sink.invalid() == []


async def test_a_line_of_the_future_in_the_tail_is_told_in_the_present(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        await loki.push("ahead", nanoseconds(clock) + 500 * SECOND)
        await eventually(lambda: len(loki.lines) == 1)
        for _ in range(4):
            await run.after(1)
        assert [event.t <= clock.now() for event in sink.of(Log)] == [True]


async def test_lines_that_waited_for_long_are_told_within_the_reach_of_the_engine(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock), clock) as (run, sink):
        for number in range(2):
            await loki.push(f"line {number}", nanoseconds(clock) + number)
        await run.idle()
        sink.hold()
        await clock.advance(INTERVAL)
        await eventually(lambda: sink.waiting)
        await clock.advance(3 * MAX_BEHIND_S)
        sink.release()
        await run.idle()
        assert [event.t >= clock.now() - MAX_BEHIND_S for event in sink.of(Log)] == [False, True]
    assert sink.invalid() == []


async def test_a_tail_that_ends_is_taken_up_and_the_gap_is_asked_for(loki: LokiServer) -> None:
    """As each tail ends after an hour: that is no trouble."""
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        await loki.push("before", nanoseconds(clock))
        for _ in range(8):
            await run.after(1)
        [tail] = loki.tails
        await tail.close(code=1011, message=b"reached tail max duration limit")
        await eventually(lambda: not loki.tails)
        await loki.push("between", nanoseconds(clock))
        await run.after(INTERVAL)
        await tailing(run, loki, sink)
        await loki.push("after", nanoseconds(clock) + 1)
        for _ in range(4):
            await run.after(1)
        await eventually(lambda: len(messages(sink)) == 3)
    assert messages(sink) == ["before", "between", "after"]
    assert (sink.history, sink.drops) == (["up"], {})


async def test_a_tail_that_is_refused_is_told_and_lines_are_asked_for(loki: LokiServer) -> None:
    clock = ManualClock()
    loki.tail_refusal = "max concurrent tail requests limit exceeded, count > limit (11 > 10)"
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        shown = loki.url("/loki/api/v1/tail")
        assert sink.state == f"down: {shown} ended the tail as soon as it began: {loki.tail_refusal}"
        await loki.push("by query", nanoseconds(clock))
        await looked(run)
        assert (messages(sink), set(sink.history)) == (["by query"], {sink.state})


async def test_a_proxy_without_websockets_is_told(loki: LokiServer) -> None:
    clock = ManualClock()
    answer = loki.handler

    async def proxy(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("tail"):
            return web.Response(status=404)
        return await answer(request)

    loki.handler = proxy
    async with running(reading(loki, clock, mode="tail"), clock) as (_, sink):
        assert sink.state == f"down: {loki.url('/loki/api/v1/tail')} answered 404 where a WebSocket was asked for"


async def test_credentials_do_not_follow_a_tail_that_redirects(
    loki: LokiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    clock = ManualClock()
    answer = loki.handler
    async with LokiServer() as other:

        async def moved(request: web.Request) -> web.StreamResponse:
            if request.path.endswith("tail"):
                return web.Response(status=307, headers={"Location": other.url("/loki/api/v1/tail")})
            return await answer(request)

        loki.handler = moved
        source = reading(loki, clock, mode="tail", headers={"X-Key": {"env": "TOKEN"}})
        async with running(source, clock) as (_, sink):
            assert f"{loki.url('/loki/api/v1/tail')} redirects" in sink.state
        assert other.requests == []


async def test_a_tail_that_fell_silent_is_taken_up_anew(loki: LokiServer) -> None:
    clock = ManualClock()
    loki.pings = False
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        begun = sum(request.path.endswith("tail") for request in loki.requests)
        for _ in range(int(SILENT_S + 2 * INTERVAL)):
            await run.after(1)
        assert sum(request.path.endswith("tail") for request in loki.requests) == begun + 1
        assert sink.history == ["up"]


async def test_what_loki_leaves_out_of_the_tail_is_asked_for(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        [tail] = loki.tails
        loki.tails.clear()
        await loki.push("left out", nanoseconds(clock) + 1)
        loki.tails.append(tail)
        await loki.push("sent", nanoseconds(clock) + 2)
        for _ in range(int(INTERVAL) + 3):
            await run.after(1)
    assert (sorted(messages(sink)), sink.history, sink.drops) == (["left out", "sent"], ["up"], {})


async def test_many_lines_of_the_tail_are_completed_before_they_are_forgotten(
    loki: LokiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what was left out among them would not be asked for any more."""
    monkeypatch.setattr(loki_place, "MAX_SEEN", 40)
    monkeypatch.setattr(loki_source, "MAX_UNCHECKED", 20)
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        begin = nanoseconds(clock, ago=5)
        for number in range(200):
            [tail] = loki.tails
            if number % 7 == 0:
                loki.tails.clear()
            await loki.push(f"{number}", begin + number)
            loki.tails[:] = [tail]
            await asyncio.sleep(0.001)
        await run.after(INTERVAL)
        await eventually(lambda: len(messages(sink)) >= 199)
        for _ in range(3):
            await run.after(1)
    assert sorted(messages(sink), key=int) == [f"{number}" for number in range(200)]


@pytest.mark.parametrize("sent", ["hello", '{"streams":[{}]}'])
async def test_a_tail_that_tells_nonsense_is_told(loki: LokiServer, sent: str) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        await loki.tails[0].send_str(sent)
        await eventually(lambda: sink.state.startswith(f"down: {loki.url('/loki/api/v1/tail')}"))
        await run.after(INTERVAL)
        await tailing(run, loki, sink)


async def test_a_message_of_the_tail_that_is_too_large_is_asked_for_in_smaller_parts(loki: LokiServer) -> None:
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail", max_bytes=64 * 1024), clock) as (run, sink):
        await tailing(run, loki, sink)
        [tail] = loki.tails
        loki.tails.clear()
        for number in range(3):
            await loki.push(f"{number} {'x' * 30_000}", nanoseconds(clock) + number)
        loki.tails.append(tail)
        whole = [one.stream(apart=True) for one in loki.lines]
        await tail.send_str(json.dumps({"streams": whole}))
        await eventually(lambda: tail not in loki.tails)
        await run.after(INTERVAL)
        await eventually(lambda: len(messages(sink)) >= 2)
        await tailing(run, loki, sink)
    assert [message[0] for message in messages(sink)] == ["0", "1", "2"]


async def test_while_the_queue_is_full_the_tail_is_not_read(loki: LokiServer) -> None:
    """What waits is what the sockets hold: the sender is held up."""
    clock = ManualClock()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        sink.hold()
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await loki.push(f"{sent} {'x' * 50_000}", nanoseconds(clock) + sent)
                sent += 1

        sending = asyncio.create_task(send())
        try:
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.3)
            assert (sink.waiting, messages(sink)) == (1, [])
            sink.release()
            await eventually(lambda: sent > before)
        finally:
            sending.cancel()
            await asyncio.wait([sending])


async def test_cancelling_a_tail_leaves_nothing_open(loki: LokiServer) -> None:
    clock, tasks = ManualClock(), asyncio.all_tasks()
    async with running(reading(loki, clock, mode="tail"), clock) as (run, sink):
        await tailing(run, loki, sink)
        run.task.cancel()
        await asyncio.wait([run.task], timeout=20)
        assert run.task.cancelled()
    await eventually(lambda: asyncio.all_tasks() <= tasks and not loki.tails)


# -- settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "loki:3100"}, "no HTTP URL"),
        ({"query": '{a="b"}', "match": {"a": "b"}}, "`query` and `match` exclude each other"),
        ({"match": {"service.name": "x"}}, "match"),
        ({"tenant": "a\nb"}, "tenant"),
        ({"tenant": "a", "headers": {"x-scope-orgid": "b"}}, "exclude each other"),
        ({"mode": "poll"}, "mode"),
        ({"delay": "1s"}, "delay"),
        ({"limit": 0}, "limit"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LokiConfig.model_validate({"url": "http://x", **settings})
