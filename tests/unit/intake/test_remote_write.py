"""Metrics pushed by remote write: what is told of them, and what each sender is answered."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from rollbackd import registry
from rollbackd.aiokit import SystemClock
from rollbackd.errors import ConfigError
from rollbackd.intake.base import Delivery, Intake, Reading, Rejected, Told
from rollbackd.intake.remote_write import KNOWN_BYTES, Config, RemoteWrite
from rollbackd.model import AnyEvent, Gauge, Latency, Requests
from tests.support.backend import FakeBackend, service
from tests.support.deliveries import NOW, Known
from tests.support.remote_write import (
    SENT,
    STALE,
    V2_TYPE,
    Native,
    Pushed,
    real_sender,
    request_v1,
    request_v2,
    scrape,
    series,
    snappy,
    varint,
)
from tests.support.servers import Server
from tests.support.waiting import eventually_async
from tests.support.website import bearer, build_intake, served

Encode = Callable[[Iterable[Pushed]], bytes]

V1 = (request_v1, "application/x-protobuf")
V2 = (request_v2, V2_TYPE)
versions = pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])


class Sender:
    """Sends to an intake, at moments of the test's."""

    def __init__(self, version: tuple[Encode, str] = V1, **settings: object) -> None:
        self.intake = RemoteWrite(Config.model_validate(settings), Known())
        self.encode, self.content_type = version
        self.dropped: dict[str, int] = {}

    def delivery(self, body: bytes, at: float) -> Delivery:
        return Delivery(body=body, headers={"content-type": self.content_type}, query={}, received_at=at)

    def send(self, sent: Iterable[Pushed], at: float) -> Reading:
        reading = self.intake.read(self.delivery(self.encode(sent), at))
        for reason, count in reading.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        return reading

    def answered(self, sent: Sequence[Pushed], at: float) -> tuple[int, Mapping[str, str], bytes]:
        reading = self.send(sent, at)
        reply = self.intake.reply(self.delivery(b"", at), reading, Told())
        return reply.status, reply.headers, reply.body

    def told(self, *scrapes: Sequence[Pushed], every: float = 15.0) -> list[AnyEvent]:
        """The events of some looks, each so many seconds after the one before, the last at NOW."""
        first = NOW - every * (len(scrapes) - 1)
        events: list[AnyEvent] = []
        for number, sent in enumerate(scrapes):
            self.send(sent, first + number * every)
            events += self.intake.settled(first + number * every + 10).observed
        return events


def looks(*counts: tuple[float, float, float]) -> list[list[Pushed]]:
    first = NOW - 15 * (len(counts) - 1)
    return [scrape("checkout", first + 15 * n, *count) for n, count in enumerate(counts)]


@versions
def test_two_looks_make_requests_latency_and_levels(version: tuple[Encode, str]) -> None:
    sender = Sender(version)
    events = sender.told(*looks((1000, 10, 0), (1090, 13, 7)))
    assert events == [
        Gauge(t=NOW - 15, service="checkout", version="v2", name="memory_bytes", value=5e7 + 1000),
        Requests(t=NOW, service="checkout", version="v2", total=93, errors=3),
        Latency(t=NOW, service="checkout", version="v2", buckets={"0.1": 86, "+Inf": 93}),
        Gauge(t=NOW, service="checkout", version="v2", name="memory_bytes", value=5e7 + 1090),
    ]
    assert sender.dropped == {"unwanted": 2}


@versions
def test_a_counter_that_stands_at_zero_is_read(version: tuple[Encode, str]) -> None:
    """Zero is left out on the wire."""
    events = Sender(version).told(*looks((0, 0, 0), (0, 0, 0), (5, 0, 0)))
    assert [(event.total, event.errors) for event in events if isinstance(event, Requests)] == [(0, 0), (5, 0)]


@versions
def test_several_samples_of_a_series_in_one_request_count_each_as_of_its_moment(version: tuple[Encode, str]) -> None:
    labels = {"__name__": "http_requests_total", "code": "200", "job": "checkout", "instance": "a"}
    backlog = Pushed(labels, [(NOW - 60 + 15 * n, 10.0 * n * n) for n in range(5)])
    sender = Sender(version)
    sender.send([backlog], NOW)
    events = sender.intake.settled(NOW + 10).observed
    counted = [(event.t, event.total) for event in events if isinstance(event, Requests)]
    assert counted == [(NOW - 45, 10), (NOW - 30, 30), (NOW - 15, 50), (NOW, 70)]


@versions
def test_a_stale_marker_is_no_value(version: tuple[Encode, str]) -> None:
    labels = {"code": "200", "job": "checkout", "instance": "a"}
    sent = [
        [series("http_requests_total", NOW - 15 * n, value, **labels)] for n, value in ((2, 5.0), (1, STALE), (0, 9.0))
    ]
    sender = Sender(version)
    assert [event.total for event in sender.told(*sent) if isinstance(event, Requests)] == [4]
    assert sender.dropped == {}


@versions
@pytest.mark.parametrize("floats", [False, True])
def test_native_histograms_count_latency_and_requests(version: tuple[Encode, str], floats: bool) -> None:
    def look(ago: float, count: float) -> list[Pushed]:
        native = Native({-9: count, 1: count}, schema=1, zero=1.0, floats=floats)
        name = "http_server_request_duration_seconds"
        return [
            series(name, NOW - ago, native, http_response_status_code=code, job="checkout", service_version="v7")
            for code in ("200", "500")
        ]

    sender = Sender(version)
    requests, latency = sender.told(look(15, 10), look(0, 15))
    assert requests == Requests(t=NOW, service="checkout", version="v7", total=20, errors=10)
    assert isinstance(latency, Latency)
    assert (latency.buckets["0.03125"], latency.buckets["1"], latency.buckets["+Inf"]) == (0, 10, 20)
    assert sender.dropped == {}


def test_what_is_no_counter_of_durations_is_dropped() -> None:
    sender = Sender()
    sender.send([series("http_request_duration_seconds", NOW, Native({1: 1.0}, gauge=True), job="checkout")], NOW)
    sender.send([series("http_request_duration_seconds", NOW, 5.0, job="checkout")], NOW)
    sender.send([series("up", NOW, 1.0, job="checkout")], NOW)
    assert sender.dropped == {"not_a_number": 1, "unexpected_type": 1, "unwanted": 1}


def test_services_and_versions_are_found_as_the_operator_says() -> None:
    sender = Sender(
        match={"search": {"namespace": "shop", "container": "finder"}},
        version_labels=["release"],
        metrics={
            "requests": "calls",
            "errors": {"metric": "calls", "where": {"ok": "no"}},
            "gauges": {"queue": "waiting"},
        },
    )
    named = {"namespace": "shop", "container": "finder", "release": "r1"}
    sent = [
        [
            series("calls", NOW - ago, 10.0 * n, ok="no", **named),
            series("calls", NOW - ago, 20.0 * n, ok="yes", **named),
            series("waiting", NOW - ago, 3.0, **named),
            series("container_memory_working_set_bytes", NOW - ago, 7.0, **named),
            series("http_requests_total", NOW - ago, 7.0 * n, code="200", **named),
        ]
        for n, ago in enumerate((15.0, 0.0))
    ]
    events = sender.told(*sent)
    assert [event for event in events if event.t == NOW] == [
        Requests(t=NOW, service="search", version="r1", total=30, errors=10),
        Gauge(t=NOW, service="search", version="r1", name="queue", value=3),
        Gauge(t=NOW, service="search", version="r1", name="memory_bytes", value=7),
    ]


def test_a_preset_and_own_names_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        Config.model_validate({"preset": "istio", "metrics": {"latency": "took"}})


def test_more_series_than_allowed_are_told_to_the_sender_and_the_others_count() -> None:
    """Version 2.0 must not hear 2xx of a request that was taken in only in part."""
    for version, told in ((V1, {}), (V2, {"Samples": "5", "Histograms": "0", "Exemplars": "3"})):
        sender = Sender(version, max_series=3)
        sent = [
            Pushed(one.labels, one.samples, exemplars=int(n < 3)) for n, one in enumerate(scrape("checkout", NOW, 1, 0))
        ]
        sent += scrape("search", NOW, 1, 0)
        status, headers, body = sender.answered(sent, NOW)
        assert status == 400
        assert b"max_series" in body
        assert dict(headers) == {f"X-Prometheus-Remote-Write-{kind}-Written": count for kind, count in told.items()}
        assert sender.dropped["too_many_series"] == 7
        status, _, _ = sender.answered(scrape("checkout", NOW + 15, 5, 0)[:3], NOW + 15)
        assert status == 204
        events = sender.intake.settled(NOW + 30).observed
        assert [event.total for event in events if isinstance(event, Requests)] == [4]


def test_success_has_no_body_and_says_how_much_there_was() -> None:
    sent = [
        *scrape("nobody", NOW, 1, 0),
        series("x", NOW, Native({1: 1.0})),
        Pushed({"__name__": "up"}, [(NOW, 1.0)], exemplars=2),
    ]
    assert Sender(V1).answered(sent, NOW) == (204, {}, b"")
    status, headers, body = Sender(V2).answered(sent, NOW)
    assert (status, body) == (204, b"")
    assert [int(one) for one in headers.values()] == [7, 1, 2]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/x-protobuf", 0),
        ('application/x-protobuf; Proto="prometheus.WriteRequest"; charset=utf-8', 0),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", 415),
        ("application/x-protobuf;proto=", 415),
    ],
)
def test_the_content_type_tells_the_message(content_type: str, status: int) -> None:
    sender = Sender((request_v1, content_type))
    if not status:
        assert sender.answered(scrape("checkout", NOW, 1, 0), NOW)[0] == 204
        return
    with pytest.raises(Rejected) as rejected:
        sender.send(scrape("checkout", NOW, 1, 0), NOW)
    assert (rejected.value.status, rejected.value.code) == (status, "wrong_content_type")


def test_what_is_forgotten_is_asked_about_again() -> None:
    sender = Sender(max_series=3)
    sender.send(scrape("checkout", NOW, 1, 0)[:3], NOW)
    sender.send(scrape("search", NOW, 1, 0), NOW)
    assert sender.dropped == {"too_many_series": 5, "unwanted": 1}
    sender.intake.settled(NOW + 10)
    sender.intake.settled(NOW + 4000)
    sender.send(scrape("search", NOW + 4000, 1, 0)[:2], NOW + 4000)
    sender.send(scrape("search", NOW + 4015, 3, 0)[:2], NOW + 4015)
    assert sender.dropped == {"too_many_series": 5, "unwanted": 1}
    events = sender.intake.settled(NOW + 4030).observed
    assert [(event.service, event.total) for event in events if isinstance(event, Requests)] == [("search", 2)]


def test_what_is_of_no_use_is_remembered_within_bounds() -> None:
    sender = Sender()
    labels = {"code": "200", "path": "x" * 30_000}
    for n in range(3000):
        sender.send([series("http_requests_total", NOW, 1.0, job=f"job-{n}", **labels)], NOW)
    assert sender.dropped == {"unknown_service": 3000}
    known = sender.intake._known
    assert 2000 < len(known) < 3000
    assert sum(map(len, known)) <= KNOWN_BYTES
    sender.send([series("http_requests_total", NOW, 1.0, job="other", **labels)], NOW + 700)
    assert len(known) == 1


async def test_it_is_served_as_senders_expect_it() -> None:
    intake = build_intake("remote_write", Known(frozenset({"checkout"})))
    backend, metrics = FakeBackend(), CollectorRegistry()
    async with served(backend, intakes={"remote_write": intake}, metrics=metrics) as site:

        async def post(body: bytes, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
            sent = bearer("ingest") | SENT | {name.replace("_", "-"): value for name, value in headers.items()}
            async with site.client.post("/api/v1/write", data=body, headers=sent) as answer:
                return answer.status, await answer.read(), answer.headers

        look = scrape("checkout", NOW, 1, 0)
        assert (await post(snappy(request_v1(scrape("checkout", NOW - 30, 1, 0)))))[:2] == (204, b"")
        assert metrics.get_sample_value("rollbackd_intake_behind_seconds", {"intake": "remote_write"}) == 30
        assert (await post(snappy(request_v1(look))))[:2] == (204, b"")
        unwanted = {"intake": "remote_write", "reason": "unwanted"}
        assert metrics.get_sample_value("rollbackd_intake_dropped_total", unwanted) == 2
        status, body, told = await post(snappy(request_v2(look)), Content_Type=V2_TYPE)
        assert (status, body) == (204, b"")
        assert told["X-Prometheus-Remote-Write-Samples-Written"] == "6"
        assert (await post(varint(20 * 1024 * 1024) + b"abc"))[0] == 413
        assert (await post(request_v1(look)))[0] == 400
        assert (await post(snappy(b"\x00junk")))[0] == 400
        assert (await post(snappy(request_v1(look)), Content_Encoding="zstd"))[0] == 415
        assert (await post(snappy(request_v1(look)), Content_Type="application/x-protobuf;proto=other"))[0] == 415
        assert (await post(snappy(request_v1(look)), Authorization="Bearer deploy-secret"))[0] == 403
        backend.flooded = True
        status, _, told = await post(snappy(request_v1(look)))
        assert (status, int(told["Retry-After"]) >= 1) == (503, True)


def _page(counts: Mapping[str, float]) -> str:
    total = counts["200"] + counts["500"]
    return (
        "# TYPE http_requests_total counter\n"
        f'http_requests_total{{code="200",version="v1"}} {counts["200"]}\n'
        f'http_requests_total{{code="500",version="v1"}} {counts["500"]}\n'
        "# TYPE http_request_duration_seconds histogram\n"
        f'http_request_duration_seconds_bucket{{version="v1",le="0.1"}} {total - counts["500"]}\n'
        f'http_request_duration_seconds_bucket{{version="v1",le="+Inf"}} {total}\n'
        "process_resident_memory_bytes 5e+07\n"
    )


@pytest.mark.needs("prometheus")
async def test_a_real_prometheus_is_understood(tmp_path: Path) -> None:
    """Of each look at a small service, every request counts once, and its failures with it."""
    counts = {"200": 100.0, "500": 5.0}

    async def answer(_request: web.Request) -> web.StreamResponse:
        counts["200"] += 90
        counts["500"] += 10
        return web.Response(text=_page(counts))

    backend = FakeBackend()
    backend.services = {"shop": service("shop")}
    intake: Intake = build_intake("remote_write", backend)
    events: list[AnyEvent] = []
    async with (
        Server(answer) as shop,
        served(backend, intakes={"remote_write": intake}, clock=SystemClock()) as site,
        real_sender(tmp_path, site.url, {"shop": shop.port}, interval="250ms", token="ingest-secret"),
    ):

        async def enough() -> bool:
            events.extend(intake.settled(time.time()).observed)
            return sum(isinstance(event, Latency) for event in events) >= 2

        await eventually_async(enough, within=30, every=0.2)
    told = [event for event in events if isinstance(event, Requests)]
    assert {(event.service, event.version) for event in told} == {("shop", "v1")}
    assert sum(event.total for event in told) >= 500
    for event in told:
        assert event.total % 100 == 0
        assert event.errors * 10 == event.total, "the failures of a look count with its successes"
    for latency in (event for event in events if isinstance(event, Latency)):
        assert latency.buckets["0.1"] * 10 == latency.buckets["+Inf"] * 9
    assert any(isinstance(event, Gauge) and event.name == "memory_bytes" for event in events)
    assert site.backend.actors
    assert {"out_of_order", "incomplete_histogram"}.isdisjoint(intake.read(_empty(intake)).dropped)


def _empty(intake: Intake) -> Delivery:
    return Delivery(body=request_v1([series("up", NOW, 1.0)]), headers={}, query={}, received_at=time.time())


def test_without_its_package_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("remote_write", "snappy"):
        monkeypatch.delitem(sys.modules, f"rollbackd.intake.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(ConfigError, match=r"rollbackd\[remote-write\]"):
        registry.load("intake", "remote_write")
