"""What OpenTelemetry's exporters post, made with the protocol's own messages."""

from __future__ import annotations

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
BOUNDS = (0.1, 0.5, 1.0)


def attributes(**values: str | int) -> list[KeyValue]:
    """Attributes; a double underscore stands for a dot."""
    return [
        KeyValue(
            key=name.replace("__", "."),
            value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value),
        )
        for name, value in values.items()
    ]


def resource(service: str, version: str = "") -> Resource:
    """Where it comes from."""
    named = attributes(service__name=service, service__instance__id=f"{service}-1")
    return Resource(attributes=[*named, *(attributes(service__version=version) if version else [])])


def served(t: float, counts: tuple[float, ...], *, status: int = 200, start: float = 0.0) -> HistogramDataPoint:
    """A point of `http.server.request.duration`: how many requests of a status took up to each of BOUNDS or longer."""
    return HistogramDataPoint(
        time_unix_nano=int(t * 1e9),
        start_time_unix_nano=int(start * 1e9),
        count=int(sum(counts)),
        sum=1.0,
        bucket_counts=[int(count) for count in counts],
        explicit_bounds=BOUNDS,
        attributes=attributes(http__response__status_code=status, http__request__method="GET"),
    )


def duration(*points: HistogramDataPoint, temporality: AggregationTemporality.ValueType = CUMULATIVE) -> Metric:
    """The metric of the HTTP server conventions."""
    histogram = Histogram(data_points=points, aggregation_temporality=temporality)
    return Metric(name="http.server.request.duration", unit="s", histogram=histogram)


def metrics(service: str, *found: Metric, version: str = "") -> ExportMetricsServiceRequest:
    """An export of metrics."""
    scope = ScopeMetrics(metrics=found)
    return ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=resource(service, version), scope_metrics=[scope])]
    )


def record(t: float, body: str, severity: int = 17, **named: str | int) -> LogRecord:
    """A log record; severity 17 is an error."""
    said = AnyValue(string_value=body) if body else None
    return LogRecord(
        time_unix_nano=int(t * 1e9),
        severity_number=SeverityNumber.ValueType(severity),
        body=said,
        attributes=attributes(**named),
    )


def logs(service: str, *records: LogRecord, version: str = "") -> ExportLogsServiceRequest:
    """An export of log records."""
    scope = ScopeLogs(log_records=records)
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource(service, version), scope_logs=[scope])]
    )
