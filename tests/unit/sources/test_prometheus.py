"""A server of Prometheus' query API as a source: a real one where one runs, a small one that misbehaves elsewhere."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import structlog.testing
from aiohttp import web
from pydantic import ValidationError

from rollbackd.model import Gauge, Latency, Requests
from rollbackd.sources.base import Commons, Source, SourceContext
from rollbackd.sources.prometheus import ADAPTER, PrometheusConfig
from tests.support.clock import ManualClock
from tests.support.prometheus import Past, Shape, real_prometheus
from tests.support.servers import Run, Server, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually

T = 1_700_000_100.0
GOOD = Shape(rate=20.0, failing=0.01)

Sample = dict[str, object]


def source(
    url: str,
    clock: ManualClock,
    service: str = "shop",
    commons: Commons | None = None,
    known: float | None = None,
    **settings: object,
) -> Source:
    context = SourceContext(service, clock, None, commons or Commons(), lambda: known)
    return ADAPTER.build(PrometheusConfig.model_validate({"url": url, **settings}), context)


def series(labels: dict[str, str], *samples: tuple[float, object], name: str = "http_requests_total") -> Sample:
    return {"metric": {"__name__": name, **labels}, "values": [(T + t, str(value)) for t, value in samples]}


def hits(*samples: tuple[float, object], code: str = "200", **labels: str) -> Sample:
    return series({"service": "shop", "instance": "a", "code": code, **labels}, *samples)


class Fake:
    """Answers as Prometheus does, from series that a test gives; `asked` are the queries."""

    def __init__(self, *kept: Sample) -> None:
        self.kept = [*kept]
        self.asked: list[str] = []
        self.more: dict[str, object] = {}
        self.hook: Callable[[str], web.Response | None] = lambda _query: None
        self.server = Server(self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        query, now = str(form["query"]), float(str(form.get("time", "0")))
        self.asked.append(query)
        refused = self.hook(query)
        if refused is not None:
            return refused
        matchers = re.findall(r'(\w+)(=~|=)"((?:[^"\\]|\\.)*)"', query)
        found = [one for one in self.kept if all(_holds(one, *matcher) for matcher in matchers)]
        if query.startswith("count by"):
            label = query[len("count by (") :].partition(")")[0]
            values = {one["metric"][label] for one in found}  # type: ignore[index]
            return self._said("vector", [{"metric": {label: value}, "value": [now, "1"]} for value in sorted(values)])
        seconds = float(query.rpartition("[")[2].removesuffix("ms]")) / 1000
        result = []
        for one in found:
            inside = {
                kind: [sample for sample in samples if now - seconds <= sample[0] <= now]
                for kind, samples in one.items()
                if kind != "metric" and isinstance(samples, list)
            }
            if any(inside.values()):
                result.append({"metric": one["metric"], **inside})
        return self._said("matrix", result)

    def _said(self, kind: str, result: object) -> web.Response:
        return web.json_response({"status": "success", "data": {"resultType": kind, "result": result}, **self.more})

    @property
    def url(self) -> str:
        return self.server.url("")


def _holds(one: Sample, label: str, operator: str, text: str) -> bool:
    value = str(one["metric"].get(label, ""))  # type: ignore[attr-defined]
    text = text.replace("\\\\", "\\")
    return value == text if operator == "=" else re.fullmatch(text, value) is not None


@asynccontextmanager
async def fake(*kept: Sample) -> AsyncIterator[Fake]:
    one = Fake(*kept)
    async with one.server:
        yield one


async def looked(server: Fake, looks: int = 1, **settings: object) -> RecordingSink:
    """What a source tells that begins at T + 100."""
    clock = ManualClock(T + 100)
    async with running(source(server.url, clock, **settings), clock) as (run, sink):  # type: ignore[arg-type]
        for _ in range(looks):
            await run.after(10)
        await eventually(lambda: sink.looks)
    return sink


def counts(sink: RecordingSink) -> list[tuple[float, str | None, float, float]]:
    return [(one.t - T, one.version, one.total, one.errors) for one in sink.of(Requests)]


# -- a real server


@pytest.fixture
def past() -> Past:
    past = Past()
    past.serve("shop", T - 3600, T, lambda t: ("v1" if t < T - 600 else "v2", GOOD))
    return past


@pytest.mark.needs("prometheus")
async def test_a_fresh_start_reads_the_past_hour_exactly(tmp_path: Path, past: Past) -> None:
    """Nothing is told twice or left out: what the counters grew by is what the events add up to."""
    async with real_prometheus(tmp_path, past) as url:
        clock = ManualClock(T + 5)
        async with running(source(url, clock), clock) as (run, sink):
            await eventually(lambda: len(sink.of(Requests)) > 230, within=20)
            for _ in range(3):
                await run.after(10)
    grown = Counter[str]()
    for text, samples in past.series["http_requests"].items():
        version = "v1" if 'version="v1"' in text else "v2"
        grown[version] += int(samples[-1][1] - (samples[0][1] if version == "v1" else 0))
    told = Counter[str]()
    for event in sink.of(Requests):
        told[event.version or ""] += int(event.total)
    assert told == grown
    assert sink.history == ["up"]
    assert (sink.invalid(), sink.drops) == ([], {})
    moments = sorted({event.t for event in sink.of(Requests)})
    assert {round(b - a) for a, b in pairwise(moments)} == {15}
    assert T - 3600 < moments[0] <= T - 3570
    latency = sink.of(Latency)
    assert sum(one.buckets["+Inf"] for one in latency) == sum(grown.values())
    assert "0.05" in latency[0].buckets


@pytest.mark.needs("prometheus")
async def test_what_is_known_already_is_not_told_again(tmp_path: Path, past: Past) -> None:
    async with real_prometheus(tmp_path, past) as url:
        clock = ManualClock(T + 5)
        async with running(source(url, clock, known=T - 300), clock) as (run, sink):
            await eventually(lambda: len(sink.of(Requests)) >= 18, within=20)
            await run.after(10)
        first = sink.of(Requests)[0]
        assert T - 300 < first.t <= T - 285
        assert first.total < 500  # the growth of one step, and not all that was counted before
        again = source(url, clock, known=None, backfill=600.0)
        for _ in range(2):  # crashed and started again, it goes on where it was
            async with running(again, clock) as (run, sink):
                await run.after(10)
                await run.after(10)
        assert sink.events == []


@pytest.mark.needs("prometheus")
async def test_own_queries_give_counts_of_each_step(tmp_path: Path, past: Past) -> None:
    requests = 'sum by (version) (rate(http_requests_total{job="{service}"}[{step}]))'
    queries = {
        "requests": requests,
        "errors": requests.replace('job="', 'code=~"5..",job="'),
        "latency": 'sum by (le) (rate(http_request_duration_seconds_bucket{job="{service}"}[{step}]))',
        "gauges": {"load": requests.replace("by (version) ", "")},
        "step": "1m",
    }
    async with real_prometheus(tmp_path, past) as url:
        clock = ManualClock(T + 5)
        async with running(source(url, clock, queries=queries), clock) as (run, sink):
            await eventually(lambda: sink.state == "up", within=20)
            told = len(sink.events)
            await run.after(60)
            assert len(sink.events) == told or sink.events[-1].t > sink.events[told - 1].t
    moments = [one.t for one in sink.of(Requests) if one.version == "v1"]
    assert len(moments) >= 47
    assert {b - a for a, b in pairwise(moments)} == {60}
    middle = sink.of(Requests)[10]
    assert middle.total == pytest.approx(20 * 60, rel=0.15)
    assert 0 < middle.errors < 0.05 * middle.total
    assert sink.of(Latency)[5].buckets["+Inf"] == pytest.approx(20 * 60, rel=0.15)
    assert sink.of(Gauge)[5].value == pytest.approx(20, rel=0.15)
    assert (sink.invalid(), sink.drops) == ([], {})


@pytest.mark.needs("prometheus")
async def test_a_query_that_is_none_is_told_in_the_servers_words(tmp_path: Path) -> None:
    past = Past()
    past.serve("shop", T - 60, T, lambda _t: ("v1", GOOD))
    async with real_prometheus(tmp_path, past) as url:
        clock = ManualClock(T)
        wrong = {"gauges": {"depth": "sum(("}}
        async with running(source(url, clock, queries=wrong), clock) as (_, sink):
            await eventually(lambda: sink.state.startswith("down"), within=20)
    assert "answered 400" in sink.state
    assert "parse error" in sink.state


# -- whose series, which version


async def test_the_first_usual_label_with_the_services_name_picks_its_series() -> None:
    mine = series({"job": "shop", "instance": "a", "code": "200"}, (0, 10), (10, 15), (20, 25), (30, 25))
    theirs = series({"job": "other", "instance": "a", "code": "200"}, (0, 10), (10, 500), (20, 900), (30, 900))
    async with fake(mine, theirs) as server:
        sink = await looked(server)
    assert counts(sink) == [(10, None, 5, 0), (20, None, 10, 0), (30, None, 0, 0)]
    assert [query.partition(")")[0] for query in server.asked if query.startswith("count")] == [
        f"count by ({label}" for label in ("service", "app", "app_kubernetes_io_name", "service_name", "job")
    ]


async def test_a_service_without_series_is_no_data_and_is_found_once_it_is_there() -> None:
    async with fake() as server:
        clock = ManualClock(T)
        with structlog.testing.capture_logs() as logged:
            async with running(source(server.url, clock), clock) as (run, sink):
                for _ in range(8):
                    await run.after(10)
                assert (sink.history, sink.events) == (["up"], [])
                server.kept = [hits(*((10.0 * k, 5 * k) for k in range(60)))]
                for _ in range(12):
                    await run.after(10)
                assert sink.of(Requests)
    (warning,) = [one for one in logged if one["event"] == "no_series"]
    assert "set `match`" in warning["cure"]


async def test_labels_of_the_operators_choice_pick_the_series() -> None:
    prod, staging = (hits((0, 1), (10, 3), (20, 6), namespace=space) for space in ("prod", "staging"))
    async with fake(prod, staging) as server:
        sink = await looked(server, match={"namespace": "prod", "service": "shop"})
    assert counts(sink) == [(10, None, 2, 0), (20, None, 3, 0)]
    assert not any(query.startswith("count") for query in server.asked)
    assert 'service=~"shop",namespace="prod"' in server.asked[0]


@pytest.mark.parametrize(
    ("label", "settings"),
    [
        ("version", {}),
        ("app_kubernetes_io_version", {}),
        ("service_version", {}),
        ("pod_template_hash", {"version_label": "pod_template_hash"}),
    ],
)
async def test_versions_are_told_apart_by_the_usual_labels(label: str, settings: dict[str, str]) -> None:
    one = [hits((0, 1), (10, 3), **{label: "7d9f"}), hits((0, 1), (10, 2), code="500", **{label: "7d9f"})]
    async with fake(*one) as server:
        sink = await looked(server, 1, **settings)
    assert counts(sink) == [(10, "7d9f", 3, 1)]


async def test_linkerds_metrics_are_known() -> None:
    labels = {"deployment": "shop", "direction": "inbound", "instance": "a"}
    outbound = {**labels, "direction": "outbound"}
    kept = [
        series({**labels, "classification": "success"}, (0, 10), (10, 20), name="response_total"),
        series({**labels, "classification": "failure"}, (0, 1), (10, 4), name="response_total"),
        series({**outbound, "classification": "failure"}, (0, 1), (10, 90), name="response_total"),
        series({**labels, "le": "50"}, (0, 1), (10, 9), name="response_latency_ms_bucket"),
        series({**labels, "le": "+Inf"}, (0, 1), (10, 14), name="response_latency_ms_bucket"),
    ]
    async with fake(*kept) as server:
        sink = await looked(server)
    assert counts(sink) == [(10, None, 13, 3)]
    assert [one.buckets for one in sink.of(Latency)] == [{"0.05": 8, "+Inf": 13}]


# -- counting


async def test_instances_restarts_and_gaps_are_counted_each_for_itself() -> None:
    kept = [
        hits((0, 100), (10, 110), (20, 4), (30, 9)),
        hits((2, 50), (12, 60), (62, 90), (72, 95), instance="b"),
    ]
    async with fake(*kept) as server:
        sink = await looked(server)
    assert counts(sink) == [(12, None, 20, 0), (20, None, 4, 0), (30, None, 5, 0), (62, None, 30, 0), (72, None, 5, 0)]


async def test_of_two_servers_that_scrape_the_same_one_is_followed_at_a_time() -> None:
    first = hits((0, 10), (10, 20), (20, 30), prometheus_replica="a")
    second = hits((5, 15), (15, 25), (25, 35), (35, 45), (45, 55), (55, 65), (65, 75), prometheus_replica="b")
    async with fake(first, second) as server:
        clock = ManualClock(T + 24)
        async with running(source(server.url, clock), clock) as (run, sink):
            for _ in range(6):
                await run.after(10)
    assert sum(total for _, _, total, _ in counts(sink)) in (
        60,
        65,
    )  # what the counter grew by, from the first sample of either
    assert max(total for _, _, total, _ in counts(sink)) <= 40


async def test_levels_of_several_instances_are_the_highest() -> None:
    labels = {"service": "shop", "code": "200"}
    kept = [
        hits((0, 1), (10, 2)),
        series({**labels, "instance": "a"}, (0, 7), (10, 8), name="queue_depth"),
        series({**labels, "instance": "b"}, (0, 3), (10, 90), name="queue_depth"),
    ]
    async with fake(*kept) as server:
        sink = await looked(server)
    assert [(one.t - T, one.value) for one in sink.of(Gauge)] == [(0, 7), (10, 90)]


async def test_a_late_sample_is_counted_in_the_first_step_that_is_open() -> None:
    early = hits((0, 0), (10, 10), (20, 20))
    async with fake(early) as server:
        clock = ManualClock(T + 33)
        async with running(source(server.url, clock), clock) as (run, sink):
            await run.after(10)
            server.kept = [hits((0, 0), (10, 10), (20, 20), (30, 33), (40, 40), (50, 52), (60, 60))]
            for _ in range(4):
                await run.after(10)
    assert sum(total for _, _, total, _ in counts(sink)) == 60
    assert sink.invalid() == []


NATIVE = {"service": "shop", "instance": "a"}


def native(t: float, count: int, *buckets: tuple[float, float, int]) -> tuple[float, object]:
    """A sample as the API writes it: boundary rule 0 is open to the left."""
    told = [[0, repr(left), repr(right), str(held)] for left, right, held in buckets]
    return T + t, {"count": str(count), "sum": "3.5", "buckets": told}


async def test_native_histograms_become_counts_up_to_bounds() -> None:
    """Three requests of 17 to 32 ms and one of half a second, at a resolution of four buckets for each doubling."""
    fine = 2.0**-5.75
    kept: list[Sample] = [
        {
            "metric": {"__name__": "http_server_request_duration_seconds", "http_response_status_code": code, **NATIVE},
            "histograms": [native(0, 0), native(10, slow + fast, (fine, 2.0**-5.5, fast), (2.0**-1.25, 0.5, slow))],
        }
        for code, fast, slow in (("200", 3, 0), ("500", 0, 1))
    ]
    async with fake(*kept) as server:
        sink = await looked(server)
    assert counts(sink) == [(10, None, 4, 1)]
    (latency,) = sink.of(Latency)
    assert latency.buckets["+Inf"] == 4
    assert latency.buckets["0.015625"] == 0
    assert latency.buckets["0.0220970869121"] == 3
    assert latency.buckets["0.353553390593"] == 3
    assert latency.buckets["0.5"] == 4
    assert len(latency.buckets) < 64


async def test_a_histogram_shown_both_ways_is_counted_once() -> None:
    name = "http_request_duration_seconds"
    kept: list[Sample] = [
        hits((0, 0), (10, 4)),
        {"metric": {"__name__": name, **NATIVE}, "histograms": [native(0, 0), native(10, 4, (0.25, 0.5, 4))]},
        *(series({**NATIVE, "le": le}, (0, 0), (10, n), name=f"{name}_bucket") for le, n in (("0.5", 4), ("+Inf", 4))),
    ]
    async with fake(*kept) as server:
        sink = await looked(server)
    assert [one.buckets for one in sink.of(Latency)] == [{"0.5": 4, "+Inf": 4}]


async def test_series_beyond_the_bound_are_counted_as_dropped() -> None:
    kept = [hits((0, 0), (10, 4), path=str(k)) for k in range(30)]
    async with fake(*kept) as server:
        sink = await looked(server, max_series=10)
    assert sum(total for _, _, total, _ in counts(sink)) == 40
    assert sink.drops["too_many_series"] > 0


# -- what goes wrong


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, "{}", "answered 401: {} (give a credential that may query: `bearer`, `basic` or `headers`)"),
        (404, "not here", "`url` wants the address before /api/v1"),
        (500, '{"status":"error","error":"storage is\\n gone"}', "answered 500: storage is gone"),
        (503, '{"status":"error","error":"query timed out"}', "answered 503: query timed out"),
        (200, "<html>", "does not answer as Prometheus does; its answer begins with `<html>`"),
        (200, '{"status":"success","data":{"resultType":"scalar","result":[]}}', "answered with a scalar"),
        (200, '{"status":"success","isPartial":true,"data":{"resultType":"matrix","result":[]}}', "in part only"),
    ],
)
async def test_what_is_no_whole_answer_is_down_with_the_reason(status: int, body: str, words: str) -> None:
    async with fake() as server:
        server.hook = lambda _query: web.Response(status=status, text=body)
        sink = await looked(server, match={"service": "shop"})
    assert words in sink.state
    assert sink.events == []


async def test_moments_that_were_not_asked_for_are_left_out() -> None:
    rate = {"metric": {}, "values": [(1e15, "1"), (-5, "1"), (T + 80, "2"), (T + 90, "2")]}
    async with fake() as server:
        said = {"status": "success", "data": {"resultType": "matrix", "result": [rate]}}
        server.hook = lambda _query: web.json_response(said)
        queries = {"requests": "a", "errors": "b", "step": "10s"}
        sink = await looked(server, queries=queries, backfill="30s")
    assert sink.state == "up"
    assert counts(sink) == [(80, None, 20, 20), (90, None, 20, 20)]


async def test_whole_answers_are_asked_for_and_warnings_are_logged_once() -> None:
    async with fake(hits((0, 1), (10, 3))) as server:
        server.more = {"warnings": ["a store is slow"], "infos": ["PromQL info: metric might not be a counter"]}
        with structlog.testing.capture_logs() as logged:
            sink = await looked(server, looks=5)
        (request, *_) = server.server.requests
        assert (await request.post())["partial_response"] == "false"
    assert sink.state == "up"
    told = [(one["event"], one["said"]) for one in logged if one["event"].startswith("prometheus_")]
    assert told == [
        ("prometheus_warning", "a store is slow"),
        ("prometheus_info", "PromQL info: metric might not be a counter"),
    ]


async def test_an_answer_that_is_too_large_is_asked_for_in_parts() -> None:
    kept = [hits(*((10.0 * k, 3 * k) for k in range(360)), path=str(n)) for n in range(4)]
    async with fake(*kept) as server:
        clock = ManualClock(T + 3600)
        async with running(source(server.url, clock, max_bytes=20_000), clock) as (run, sink):
            for _ in range(40):
                await run.after(10)
    assert sink.history == ["up"]
    assert sum(total for _, _, total, _ in counts(sink)) == 4 * 3 * 359
    assert sink.invalid() == []


async def test_one_services_broken_query_takes_no_other_down() -> None:
    names = [f"s{k}" for k in range(20)]
    kept = [series({"service": name, "instance": name, "code": "200"}, (0, 1), (10, 4)) for name in names]

    def refuse(query: str) -> web.Response | None:
        if "|s7|" in query or 'service=~"s7"' in query or "s7|" in query.partition("service=~")[2]:
            return web.json_response({"status": "error", "error": "too many samples"}, status=422)
        return None

    async with fake(*kept) as server, AsyncExitStack() as stack:
        clock, commons = ManualClock(T + 100), Commons()
        server.hook = lambda query: None if query.startswith("count") else refuse(query)
        sinks = {}
        for name in names:
            one = source(server.url, clock, name, commons)
            _, sinks[name] = await stack.enter_async_context(running(one, clock))
        await clock.advance(10)
        await eventually(lambda: all(sink.looks for sink in sinks.values()))
        states = {name: sink.state.partition(":")[0] for name, sink in sinks.items()}
        assert Counter(states.values()) == {"up": 19, "down": 1}
        assert states["s7"] == "down"


# -- sharing


@pytest.mark.timeout(200)  # seconds of work, of which a busy machine makes minutes
async def test_a_thousand_services_are_a_handful_of_queries_a_tick() -> None:
    """All of one daemon's services on one server are asked for together; each gets its own and nothing else."""
    names = [f"svc-{k}" for k in range(1000)]
    kept = [
        series({"service": name, "instance": name, "code": "200"}, *((10.0 * s, k + s) for s in range(60)))
        for k, name in enumerate(names)
    ]
    async with fake() as server:
        labels = [one["metric"]["service"] for one in kept]  # type: ignore[index]

        async def answer(request: web.Request) -> web.StreamResponse:
            form = await request.post()
            query, now = str(form["query"]), float(str(form["time"]))
            server.asked.append(query)
            named = set(re.findall(r"svc-\d+", query))
            if query.startswith("count"):
                return server._said("vector", [{"metric": {"service": name}, "value": [now, "1"]} for name in named])
            seconds = float(query.rpartition("[")[2].removesuffix("ms]")) / 1000
            inside = [
                {**one, "values": [v for v in one["values"] if now - seconds < v[0] <= now]}  # type: ignore[attr-defined]
                for one, name in zip(kept, labels, strict=True)
                if name in named
            ]
            return server._said("matrix", inside)

        server.server.handler = answer
        clock, commons = ManualClock(T + 200), Commons()
        sinks = {name: RecordingSink() for name in names}
        runs = [Run(source(server.url, clock, name, commons, backfill=60.0), clock, sinks[name]) for name in names]
        await eventually(lambda: all(sink.looks for sink in sinks.values()), within=100)
        at_start = len(server.asked)
        for tick in range(3):
            server.asked.clear()
            looks = sinks[names[-1]].looks
            await clock.advance(10)
            await eventually(lambda: sinks[names[-1]].looks > looks, within=100)  # noqa: B023  asked at once
            assert len(server.asked) <= 10, f"tick {tick}"
            assert max(map(len, server.asked)) < 16_000
        for run in runs:
            await run.stop()
        assert at_start <= 40
        assert len(server.server.callers) <= 4
    for sink in sinks.values():
        assert sink.history == ["up"]
        assert {one.total for one in sink.of(Requests)} == {1}


async def test_servers_with_other_settings_are_not_shared() -> None:
    async with fake(hits((0, 1), (10, 3))) as server:
        clock, commons = ManualClock(T + 30), Commons()
        async with (
            running(source(server.url, clock, commons=commons, headers={"X-Scope-OrgID": "one"}), clock) as (run, _),
            running(source(server.url, clock, commons=commons, headers={"X-Scope-OrgID": "two"}), clock),
        ):
            await run.after(10)
            await eventually(lambda: {r.headers["X-Scope-OrgID"] for r in server.server.requests} == {"one", "two"})
        assert commons._kept == {}


async def test_a_fault_of_ours_crashes_the_sources_that_wait_and_leaves_the_next_start_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with fake(hits((0, 1), (10, 3))) as server:
        clock, commons = ManualClock(T + 30), Commons()
        one = source(server.url, clock, commons=commons)
        with monkeypatch.context() as patch:
            patch.setattr("rollbackd.sources.prometheus_server.named", lambda *_: 1 / 0)
            task = asyncio.create_task(one.run(RecordingSink()))
            await asyncio.wait([task])
            assert isinstance(task.exception(), ZeroDivisionError | ExceptionGroup)
        async with running(one, clock) as (run, sink):
            await run.after(10)
            assert sink.state == "up"


# -- settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "ftp://x"}, "no HTTP URL"),
        ({"url": "http://x/#y"}, "a fragment has no meaning"),
        ({"backfill": 7 * 3600.0}, "less than or equal"),
        ({"preset": "istio", "metrics": {"latency": "x"}}, "exclude each other"),
        ({"queries": {"requests": "up"}}, "need each other"),
        ({"queries": {}}, "nothing is asked for"),
        ({"queries": {"gauges": {"x": "up"}}, "preset": "istio"}, "stand in place of"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PrometheusConfig.model_validate({"url": "http://127.0.0.1:9090", **settings})


def test_the_api_is_found_below_the_address_and_its_query_is_kept() -> None:
    config = PrometheusConfig(url="https://vm/select/0/prometheus/?extra_label=a%3Db")
    assert config.access().root == "https://vm/select/0/prometheus/api/v1?extra_label=a%3Db"
    assert math.isclose(config.access().timeout, 10.0)
