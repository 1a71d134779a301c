"""Log records of OpenTelemetry: OTLP over HTTP, in protobuf or JSON.

Protocol: https://opentelemetry.io/docs/specs/otlp/#otlphttp and
https://opentelemetry.io/docs/specs/otel/logs/data-model/.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Size
from rollbackd.intake.base import Delivery, Intake, IntakeContext, Reading, Reply, ServiceNames, Told
from rollbackd.intake.otlp import CONTENT_TYPES, labels, message, reply, text
from rollbackd.intake.pushed_lines import Batch, PushedLines, PushedLineSettings, Stream
from rollbackd.logs.levels import Level, level_of

_SEVERITIES: tuple[Level, ...] = ("debug", "debug", "info", "warning", "error", "critical")
"""Severity numbers 1 to 24 in fours: trace, debug, info, warn, error, fatal."""


class Config(PushedLineSettings):
    """How log records find their service. Resource attributes count as labels: `service.name` is `service_name`."""

    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = ("service_name", "k8s_deployment_name", "service")
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    version_labels: tuple[str, ...] = ("service_version", "version")
    """Labels to look at for the version: the first that is there, and neither empty nor `unknown`, tells it."""
    max_bytes: Annotated[Size, Field(gt=0)] = 16 * 1024 * 1024
    """The largest delivery, before and after decompression."""


class OtlpLogs(Intake):
    """`POST /v1/logs`."""

    path = "/v1/logs"
    content_types = CONTENT_TYPES
    answer_types = CONTENT_TYPES
    bulk = True
    busy = 429

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._lines = PushedLines(config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The records of known services. Dropped is what PushedLines drops."""
        request = message(delivery, ExportLogsServiceRequest())
        return self._lines.read(delivery, partial(_fill, request))

    def reply(self, delivery: Delivery, reading: Reading, told: Told) -> Reply:
        """Success; partial where records came too late."""
        del told
        answer = ExportLogsServiceResponse()
        late = reading.dropped.get("too_old", 0)
        if late:
            partial_success = ExportLogsPartialSuccess(rejected_log_records=late, error_message="too old to be judged")
            answer.partial_success.CopyFrom(partial_success)
        return reply(delivery, answer)


def _fill(request: ExportLogsServiceRequest, batch: Batch) -> None:
    for resource in request.resource_logs:
        _add(resource, batch)


def _add(resource: ResourceLogs, batch: Batch) -> None:
    stream = batch.stream(labels(resource.resource.attributes))
    for scope in resource.scope_logs:
        if stream is None:
            batch.refuse(len(scope.log_records))
            continue
        for record in scope.log_records:
            _record(record, stream, batch)


def _record(record: LogRecord, stream: Stream, batch: Batch) -> None:
    nanoseconds = record.time_unix_nano or record.observed_time_unix_nano
    level = _level(record)
    batch.record(stream, level, _message(record), nanoseconds / 1e9 if nanoseconds else None)


def _level(record: LogRecord) -> Level | None:
    if 1 <= record.severity_number <= 24:
        return _SEVERITIES[(record.severity_number - 1) // 4]
    return level_of(record.severity_text)


def _message(record: LogRecord) -> str:
    """What it says, and the stack trace that its attributes hold."""
    said = text(record.body)
    attributes = {one.key: text(one.value) for one in record.attributes if one.key.startswith("exception.")}
    if not said:
        parts = (attributes.get("exception.type", ""), attributes.get("exception.message", ""))
        said = ": ".join(part for part in parts if part)
    trace = attributes.get("exception.stacktrace", "")
    return f"{said}\n{trace}" if trace else said


def build(config: Config, context: IntakeContext) -> OtlpLogs:
    """The intake as configured."""
    return OtlpLogs(config, context.services)


ADAPTER = Adapter(Config, build)
