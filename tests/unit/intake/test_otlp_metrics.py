"""OpenTelemetry's metrics over HTTP."""

from __future__ import annotations

import asyncio
import json
import math
import time

import pytest
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from rollbackd.aiokit import SystemClock
from rollbackd.intake.base import Intake, Reading, Rejected, Told
from rollbackd.model import AnyEvent, Latency, Requests
from rollbackd.model import Gauge as Level
from tests.support.deliveries import NOW, Known, delivery
from tests.support.otlp import CUMULATIVE, DELTA, attributes, duration, metrics, served
from tests.support.website import build_intake
from tests.support.website import served as website

PROTOBUF = "application/x-protobuf"


def intake(**settings: object) -> Intake:
    return build_intake("otlp_metrics", Known(), settings)


def send(into: Intake, request: ExportMetricsServiceRequest, at: float) -> Reading:
    return into.read(delivery(request.SerializeToString(), at, content_type=PROTOBUF))


def told(into: Intake, *requests: ExportMetricsServiceRequest, every: float = 10.0) -> list[AnyEvent]:
    """What comes of exports that arrive one after the other, the last one now."""
    for place, request in enumerate(requests):
        send(into, request, NOW - every * (len(requests) - 1 - place))
    return list(into.settled(NOW + 10).observed)


def requests_of(events: list[AnyEvent]) -> list[Requests]:
    return [event for event in events if isinstance(event, Requests)]


def ok(t: float, count: float) -> ExportMetricsServiceRequest:
    return metrics("checkout", duration(served(t, (count, 2, 1, 0)), served(t, (0, count / 10, 0, 0), status=500)))


def test_the_server_s_histogram_tells_requests_failures_and_latency() -> None:
    events = told(intake(), ok(NOW - 10, 100), ok(NOW, 150))
    [requests] = requests_of(events)
    assert (requests.service, requests.total, requests.errors, requests.t) == ("checkout", 55, 5, NOW)
    [latency] = [event for event in events if isinstance(event, Latency)]
    assert latency.buckets == {"0.1": 50, "0.5": 55, "1": 55, "+Inf": 55}


def test_the_resource_tells_the_version() -> None:
    pair = [metrics("checkout", duration(served(NOW - 10 + n * 10, (n, 0, 0, 0))), version="v2") for n in range(2)]
    assert requests_of(told(intake(), *pair))[0].version == "v2"


def test_processes_that_push_under_the_same_labels_are_told_apart_by_their_starts() -> None:
    """The workers of one server have no `service.instance.id`. Taken for one, it would seem to restart all the time."""

    def worker(t: float, count: int, start: float) -> ExportMetricsServiceRequest:
        point = served(t, (count, 0, 0, 0), start=start)
        return metrics("checkout", duration(point))

    pushed = intake()
    for step in range(6):
        t = NOW + 10 * step
        send(pushed, worker(t, 90_000 + 10 * step, NOW - 5000), t)
        send(pushed, worker(t + 3, 500 + 10 * step, NOW - 4000), t + 3)
    reborn = NOW + 55
    send(pushed, worker(NOW + 61, 7, reborn), NOW + 61)
    events = requests_of(list(pushed.settled(NOW + 80).observed))
    assert sum(event.total for event in events) == 2 * 5 * 10 + 7


def test_how_far_behind_an_export_is_can_be_told() -> None:
    assert send(intake(), ok(NOW - 7, 100), NOW).newest == NOW - 7


def test_deltas_count_from_the_first() -> None:
    pair = [
        metrics("checkout", duration(served(NOW - 10 * n, (5, 1, 0, 0), start=NOW - 10 * n - 10), temporality=DELTA))
        for n in (1, 0)
    ]
    into = intake()
    events = told(into, *pair)
    assert sum(event.total for event in requests_of(events)) == 12
    again = told(into, pair[1])
    assert requests_of(again) == [], "the same delta once more is nothing"
    assert send(into, pair[1], NOW).dropped == {}
    assert send(into, pair[0], NOW).dropped == {"out_of_order": 1}, "an older one is lost, and counted"


def test_an_exponential_histogram_is_counted_at_fixed_bounds() -> None:
    def spread(t: float, fast: int, slow: int) -> ExportMetricsServiceRequest:
        point = ExponentialHistogramDataPoint(
            time_unix_nano=int(t * 1e9),
            count=fast + slow,
            scale=1,
            positive=ExponentialHistogramDataPoint.Buckets(offset=-8, bucket_counts=[fast, *[0] * 8, slow]),
            attributes=attributes(http__response__status_code=200),
        )
        histogram = ExponentialHistogram(data_points=[point], aggregation_temporality=CUMULATIVE)
        return metrics(
            "checkout", Metric(name="http.server.request.duration", unit="s", exponential_histogram=histogram)
        )

    events = told(intake(), spread(NOW - 10, 0, 0), spread(NOW, 30, 4))
    [latency] = [event for event in events if isinstance(event, Latency)]
    assert latency.buckets["0.125"] == 30
    assert (latency.buckets["1"], latency.buckets["2"]) == (30, 34)
    assert requests_of(events)[0].total == 34


@pytest.mark.parametrize("scale", [-2_000_000_000, -11, 21, 2_000_000_000])
def test_a_scale_that_no_number_can_hold_is_dropped(scale: int) -> None:
    point = ExponentialHistogramDataPoint(
        time_unix_nano=int(NOW * 1e9),
        count=1,
        scale=scale,
        positive=ExponentialHistogramDataPoint.Buckets(offset=2**31 - 1, bucket_counts=[1]),
        attributes=attributes(http__response__status_code=200),
    )
    histogram = ExponentialHistogram(data_points=[point], aggregation_temporality=CUMULATIVE)
    found = Metric(name="http.server.request.duration", unit="s", exponential_histogram=histogram)
    assert send(intake(), metrics("checkout", found), NOW).dropped == {"not_a_number": 1}


def counter(t: float, value: int, code: int) -> NumberDataPoint:
    return NumberDataPoint(time_unix_nano=int(t * 1e9), as_int=value, attributes=attributes(code=code))


def test_names_become_those_that_prometheus_would_have() -> None:
    def both(t: float, good: int, bad: int) -> ExportMetricsServiceRequest:
        points = [counter(t, good, 200), counter(t, bad, 503)]
        total = Sum(data_points=points, is_monotonic=True, aggregation_temporality=CUMULATIVE)
        return metrics("checkout", Metric(name="http.requests", sum=total))

    [requests] = requests_of(told(intake(), both(NOW - 10, 10, 1), both(NOW, 30, 3)))
    assert (requests.total, requests.errors) == (22, 2)


def test_own_names_are_written_as_prometheus_would_write_them() -> None:
    def orders(t: float, good: int, bad: int) -> ExportMetricsServiceRequest:
        points = [counter(t, good, 1), counter(t, bad, 2)]
        total = Sum(data_points=points, is_monotonic=True, aggregation_temporality=CUMULATIVE)
        return metrics("checkout", Metric(name="shop.orders", unit="{order}", sum=total))

    own = {"requests": "shop_orders_total", "errors": {"metric": "shop_orders_total", "where": {"code": "2"}}}
    [requests] = requests_of(told(intake(metrics=own), orders(NOW - 10, 0, 0), orders(NOW, 8, 2)))
    assert (requests.total, requests.errors) == (10, 2)


def test_levels_are_told() -> None:
    levels = [Gauge(data_points=[NumberDataPoint(time_unix_nano=int(t * 1e9), as_double=7.5)]) for t in (NOW - 10, NOW)]
    events = told(intake(), *(metrics("checkout", Metric(name="queue.depth", gauge=level)) for level in levels))
    found = [(event.name, event.value) for event in events if isinstance(event, Level)]
    assert found
    assert set(found) == {("queue_depth", 7.5)}


def test_a_level_that_only_tells_its_changes_is_dropped() -> None:
    change = Sum(data_points=[counter(NOW, 1, 1)], is_monotonic=False, aggregation_temporality=DELTA)
    reading = send(intake(), metrics("checkout", Metric(name="queue.depth", sum=change)), NOW)
    assert reading.dropped == {"delta_level": 1}


def test_a_point_that_says_there_is_no_value_is_passed_over() -> None:
    point = served(NOW, (1, 0, 0, 0))
    point.flags = 1
    assert send(intake(), metrics("checkout", duration(point)), NOW) == Reading()


def test_without_room_for_a_series_its_points_are_refused_and_the_sender_hears_of_it() -> None:
    into = intake(max_series=1)
    request = delivery(ok(NOW, 5).SerializeToString(), content_type=PROTOBUF)
    reading = into.read(request)
    assert reading.dropped == {"too_many_series": 1}
    reply = into.reply(request, reading, Told())
    assert reply is not None
    answer = ExportMetricsServiceResponse.FromString(reply.body)
    assert answer.partial_success.rejected_data_points == 1
    assert "max_series" in answer.partial_success.error_message


def test_json_is_read_as_protobuf_is_and_answered_as_json() -> None:
    into = intake()
    for t, count in ((NOW - 10, 100), (NOW, 150)):
        fields = json_format.MessageToDict(ok(t, count))
        point = fields["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["histogram"]["dataPoints"][0]
        point["exemplars"] = [
            {"traceId": "5b8aa5a2d2c872e8321cf37308d69df2", "spanId": "051581bf3cb55c13", "asInt": "3"}
        ]
        request = delivery(fields, t, content_type="application/json; charset=utf-8")
        reply = into.reply(request, into.read(request), Told())
        assert reply is not None
        assert (json.loads(reply.body), reply.content_type) == ({}, "application/json")
    assert requests_of(list(into.settled(NOW + 10).observed))[0].total == 55


@pytest.mark.parametrize("body", [b"[]", b'{"resourceMetrics": 7}', b'{"resourceMetrics": [7]}', b"{"])
def test_json_that_does_not_fit_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected):
        intake().read(delivery(body, content_type="application/json"))


@pytest.mark.parametrize("form", ["cumulative", "delta"])
async def test_the_sdk_s_own_exporter_is_understood(form: str) -> None:
    """OpenTelemetry's Python SDK, as a service would set it up, exporting when it is told to."""
    delta: dict[type, AggregationTemporality] = {
        Counter: AggregationTemporality.DELTA,
        Histogram: AggregationTemporality.DELTA,
    }
    into = intake()
    async with website(intakes={"otlp_metrics": into}, clock=SystemClock()) as site:
        exporter = OTLPMetricExporter(
            f"{site.url}/v1/metrics",
            headers={"Authorization": "Bearer ingest-secret"},
            preferred_temporality=delta if form == "delta" else None,
        )
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        resource = Resource.create({"service.name": "checkout", "service.version": "v2"})
        provider = MeterProvider([reader], resource)
        histogram = provider.get_meter("test").create_histogram("http.server.request.duration", unit="s")
        for place in range(3):
            for status in (200, 200, 200, 500):
                histogram.record(0.01 * (place + 1), {"http.response.status_code": status})
            await asyncio.to_thread(reader.collect)
        await asyncio.to_thread(provider.shutdown)
    events = requests_of(list(into.settled(time.time() + 10).observed))
    assert {event.version for event in events} == {"v2"}
    counted = (sum(event.total for event in events), sum(event.errors for event in events))
    assert counted == ((12, 3) if form == "delta" else (8, 2)), "the first cumulative export is a baseline"
