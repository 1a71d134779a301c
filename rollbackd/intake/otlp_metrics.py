"""Metrics of OpenTelemetry: OTLP over HTTP, in protobuf or JSON.

Protocol: https://opentelemetry.io/docs/specs/otlp/#otlphttp and
https://opentelemetry.io/docs/specs/otel/metrics/data-model/. Names become those that Prometheus would have
(https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/), so that one table of presets
serves both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, TypeVar

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Size
from rollbackd.intake.base import Delivery, Intake, IntakeContext, Reading, Reply, ServiceNames, Told
from rollbackd.intake.matching import Matcher, Matching
from rollbackd.intake.otlp import CONTENT_TYPES, labels, message, reply
from rollbackd.intake.otlp_deltas import Deltas
from rollbackd.intake.otlp_histograms import explicit, exponential
from rollbackd.metrics.inflow import NAME, Inflow
from rollbackd.metrics.pushed import Slot
from rollbackd.metrics.settings import Metrics, PresetName, meanings

P = TypeVar("P", NumberDataPoint, HistogramDataPoint, ExponentialHistogramDataPoint)

_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_NO_VALUE = 1
"""The flag of a data point that says only that there is none."""

_UNNAMED = re.compile(r"[^a-zA-Z0-9_:]+")
_UNITS: Mapping[str, str] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "h": "hours",
    "d": "days",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "kBy": "kilobytes",
    "MBy": "megabytes",
}
_MAX_NAMES = 10_000
"""Names of metrics whose Prometheus form is remembered."""


class Config(Matching):
    """How metrics find their service, and what they mean. Resource attributes count as labels: `service.name` is
    `service_name`.
    """

    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = ("service_name", "k8s_deployment_name", "service")
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    version_labels: tuple[str, ...] = ("service_version", "version")
    """Labels to look at for the version: the first that is there, and neither empty nor `unknown`, tells it."""
    preset: PresetName = "auto"
    """Whose metric names are expected; `auto` takes the first preset that is present, service by service."""
    metrics: Metrics = Metrics()
    """Your own metric names, as Prometheus would write them: `http.server.duration` in ms is
    `http_server_duration_milliseconds`."""
    max_series: Annotated[int, Field(gt=0)] = 50_000
    """How many series are followed at a time; more are counted as dropped."""
    max_bytes: Annotated[Size, Field(gt=0)] = 16 * 1024 * 1024
    """The largest delivery, before and after decompression."""


class OtlpMetrics(Intake):
    """`POST /v1/metrics`."""

    path = "/v1/metrics"
    content_types = CONTENT_TYPES
    answer_types = CONTENT_TYPES
    bulk = True
    busy = 429

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._inflow = Inflow(
            Matcher(config, services),
            meanings(config.preset, config.metrics, None),
            config.metrics.gauge_rows(),
            max_series=config.max_series,
            shared=config.match,
        )
        self._deltas = Deltas()
        self._names: dict[tuple[str, str, bool], str] = {}

    def read(self, delivery: Delivery) -> Reading:
        """Takes the data points in; what they grew by is told by `settled`. Dropped: what Inflow drops,
        `unknown_service`, `too_many_series`, and `delta_level` for levels that tell only by how much they changed."""
        request = message(delivery, ExportMetricsServiceRequest())
        self._inflow.begin(delivery.received_at)
        dropped: Counter[str] = Counter()
        for resource in request.resource_metrics:
            common = labels(resource.resource.attributes)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self._metric(metric, common, dropped)
        self._deltas.sweep(delivery.received_at)
        dropped.update(self._inflow.take_dropped())
        return Reading(dropped=dropped, newest=self._inflow.newest)

    def settled(self, now: float) -> Reading:
        return Reading(observed=tuple(self._inflow.settled(now)))

    def reply(self, delivery: Delivery, reading: Reading, told: Told) -> Reply:
        """Success; partial where there was no room for a series."""
        del told
        answer = ExportMetricsServiceResponse()
        refused = reading.dropped.get("too_many_series", 0)
        if refused:
            why = "more series than `max_series` of the intake allows"
            answer.partial_success.CopyFrom(
                ExportMetricsPartialSuccess(rejected_data_points=refused, error_message=why)
            )
        return reply(delivery, answer)

    def _metric(self, metric: Metric, common: Mapping[str, str], dropped: Counter[str]) -> None:
        kind = metric.WhichOneof("data")
        counts = kind == "sum" and metric.sum.is_monotonic
        name = self._name(metric.name, metric.unit, counts)
        if name not in self._inflow.wanted:
            return
        if kind in ("gauge", "sum"):
            points = metric.gauge.data_points if kind == "gauge" else metric.sum.data_points
            delta = kind == "sum" and metric.sum.aggregation_temporality == _DELTA
            if delta and not counts:
                dropped["delta_level"] += len(points)
                return
            for point, slot in self._slots(points, name, common, dropped, cumulative=counts and not delta):
                self._number(point, slot, delta=delta)
        elif kind == "histogram":
            delta = metric.histogram.aggregation_temporality == _DELTA
            for bucketed, slot in self._slots(
                metric.histogram.data_points, name, common, dropped, cumulative=not delta
            ):
                self._histogram(bucketed, slot, explicit(bucketed, slot.scale), delta=delta)
        elif kind == "exponential_histogram":
            delta = metric.exponential_histogram.aggregation_temporality == _DELTA
            for spread, slot in self._slots(
                metric.exponential_histogram.data_points, name, common, dropped, cumulative=not delta
            ):
                self._histogram(spread, slot, exponential(spread, slot.scale), delta=delta)

    def _slots(
        self,
        points: Iterable[P],
        name: str,
        common: Mapping[str, str],
        dropped: Counter[str],
        *,
        cumulative: bool,
    ) -> Iterator[tuple[P, Slot]]:
        """The points that are wanted, with where they go.

        Processes that have no `service.instance.id`, as the workers of one server, push under the same labels. What is
        cumulative tells since when, which is another moment for each.
        """
        for point in points:
            if point.flags & _NO_VALUE:
                continue
            start = point.start_time_unix_nano / 1e9 if cumulative else 0.0
            told = {**common, **labels(point.attributes), NAME: name}
            found = self._inflow.slot(told, start if start < point.time_unix_nano / 1e9 else 0.0)
            if isinstance(found, Slot):
                yield point, found
            elif found != "unwanted":
                dropped[found] += 1

    def _number(self, point: NumberDataPoint, slot: Slot, *, delta: bool) -> None:
        value = point.as_double if point.WhichOneof("value") == "as_double" else float(point.as_int)
        t, start = point.time_unix_nano / 1e9, point.start_time_unix_nano / 1e9
        if delta:
            self._deltas.number(slot, t, start, value)
        else:
            slot.take(t, value, start)

    def _histogram(
        self,
        point: HistogramDataPoint | ExponentialHistogramDataPoint,
        slot: Slot,
        buckets: Mapping[str, float],
        *,
        delta: bool,
    ) -> None:
        t, start = point.time_unix_nano / 1e9, point.start_time_unix_nano / 1e9
        if delta:
            self._deltas.histogram(slot, t, start, buckets)
        else:
            slot.take_histogram(t, buckets, start)

    def _name(self, name: str, unit: str, counts: bool) -> str:
        """The metric's name as Prometheus would write it."""
        key = (name, unit, counts)
        known = self._names.get(key)
        if known is None:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            known = self._names[key] = _prometheus_name(*key)
        return known


def _prometheus_name(name: str, unit: str, counts: bool) -> str:
    words = [_UNNAMED.sub("_", name).strip("_")]
    suffix = _UNITS.get(unit, "")
    if suffix and not words[0].endswith(f"_{suffix}"):
        words.append(suffix)
    if counts and not words[0].endswith("_total"):
        words.append("total")
    return "_".join(words)


def build(config: Config, context: IntakeContext) -> OtlpMetrics:
    """The intake as configured."""
    return OtlpMetrics(config, context.services)


ADAPTER = Adapter(Config, build)
