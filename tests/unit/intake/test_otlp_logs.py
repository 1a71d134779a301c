"""OpenTelemetry's log records over HTTP."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf import json_format
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValueList
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from rollbackd.aiokit import SystemClock
from rollbackd.intake.base import Reading, Told
from rollbackd.intake.otlp import text
from rollbackd.intake.reading import REACH_S
from rollbackd.model import Log
from tests.support.deliveries import NOW, Known, delivery
from tests.support.otlp import attributes, logs, record
from tests.support.website import build_intake, served

PROTOBUF = "application/x-protobuf"


def read(request: ExportLogsServiceRequest) -> Reading:
    return build_intake("otlp_logs", Known()).read(delivery(request.SerializeToString(), content_type=PROTOBUF))


def lines(request: ExportLogsServiceRequest) -> list[Log]:
    return [event for event in read(request).observed if isinstance(event, Log)]


def test_a_record_tells_level_message_version_and_moment() -> None:
    [line] = lines(logs("checkout", record(NOW - 5, "payment failed"), version="v2"))
    assert (line.service, line.version, line.level, line.message, line.t) == (
        "checkout",
        "v2",
        "error",
        "payment failed",
        NOW - 5,
    )


@pytest.mark.parametrize(
    ("severity", "level"), [(1, "debug"), (8, "debug"), (9, "info"), (13, "warning"), (17, "error"), (24, "critical")]
)
def test_severity_numbers_come_in_fours(severity: int, level: str) -> None:
    assert lines(logs("checkout", record(NOW, "x", severity)))[0].level == level


def test_without_a_number_the_text_of_the_severity_or_the_message_tells() -> None:
    spoken, silent = record(NOW, "x", 0), record(NOW, "ERROR no space left", 0)
    spoken.severity_text = "WARN"
    assert [line.level for line in lines(logs("checkout", spoken, silent))] == ["warning", "error"]


def test_an_exception_is_put_with_its_record() -> None:
    trace = {"exception__type": "KeyError", "exception__message": "'x'", "exception__stacktrace": "Traceback\n  at x"}
    found = lines(logs("checkout", record(NOW, "it broke", 17, **trace), record(NOW, "", 17, **trace)))
    assert [line.message for line in found] == ["it broke\nTraceback\n  at x", "KeyError: 'x'\nTraceback\n  at x"]


def test_a_record_too_far_back_is_left_out_and_the_sender_hears_of_it() -> None:
    intake = build_intake("otlp_logs", Known())
    request = logs("checkout", record(NOW - REACH_S - 1, "old"))
    sent = delivery(request.SerializeToString(), content_type=PROTOBUF)
    reading = intake.read(sent)
    assert reading == Reading(dropped={"too_old": 1})
    reply = intake.reply(sent, reading, Told())
    assert reply is not None
    assert ExportLogsServiceResponse.FromString(reply.body).partial_success.rejected_log_records == 1


def test_records_of_nobody_s_are_counted() -> None:
    assert read(logs("somebody-elses", record(NOW, "a"), record(NOW, "b"))).dropped == {"unknown_service": 2}


def test_a_body_that_is_no_text_is_told_as_json() -> None:
    inner = KeyValueList(values=attributes(order=7, state="lost"))
    array = ArrayValue(values=[AnyValue(bool_value=True), AnyValue(double_value=1.5), AnyValue(kvlist_value=inner)])
    assert text(AnyValue(array_value=array)) == '[true,1.5,{"order":7,"state":"lost"}]'
    assert text(AnyValue()) == text(AnyValue(bytes_value=b"\xff")) == ""


def test_a_value_nested_without_end_is_cut() -> None:
    value = AnyValue(string_value="deep")
    for _ in range(50):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    assert "null" in text(value)


def test_json_is_read_as_protobuf_is() -> None:
    fields = json_format.MessageToDict(logs("checkout", record(NOW - 5, "payment failed")))
    fields["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0] |= {"traceId": "5b8aa5a2d2c872e8", "spanId": "051581bf"}
    intake = build_intake("otlp_logs", Known())
    [line] = intake.read(delivery(fields, content_type="application/json")).observed
    assert isinstance(line, Log)
    assert line.message == "payment failed"


async def test_the_sdk_s_own_exporter_is_understood() -> None:
    """OpenTelemetry's Python SDK as a service would set it up."""
    async with served(intakes={"otlp_logs": build_intake("otlp_logs", Known())}, clock=SystemClock()) as site:
        exporter = OTLPLogExporter(f"{site.url}/v1/logs", headers={"Authorization": "Bearer ingest-secret"})
        provider = LoggerProvider(Resource.create({"service.name": "checkout", "service.version": "v2"}))
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))

        def work() -> None:
            logger = provider.get_logger("shop")
            logger.emit(severity_number=SeverityNumber.INFO, body="served")
            trace = {"exception.stacktrace": "Traceback (most recent call last):\n  File ..."}
            logger.emit(severity_number=SeverityNumber.ERROR, body="payment failed", attributes=trace)
            provider.shutdown()

        await asyncio.to_thread(work)
        found = [event for event in site.backend.observed if isinstance(event, Log)]
    assert [(line.level, line.version) for line in found] == [("info", "v2"), ("error", "v2")]
    assert found[1].message.startswith("payment failed\nTraceback")
