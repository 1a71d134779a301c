"""Log lines as senders push them to Loki: Promtail, Alloy, Fluent Bit, Vector, Docker's driver.

Protocol: https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs. Senders come again after 429 and
5xx, and give up after other 4xx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated

from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.fields import Size
from rollbackd.intake.base import Decoder, Delivery, Intake, IntakeContext, Reading, Rejected, Reply, ServiceNames, Told
from rollbackd.intake.pushed_lines import Batch, PushedLines, PushedLineSettings, Stream
from rollbackd.intake.snappy import unsnappy
from rollbackd.logs.levels import level_of
from rollbackd.logs.loki_push import Malformed, Pushed, PushedStream, read_json, read_protobuf

LEVELS = ("level", "detected_level", "severity")
"""Labels, and then metadata of the line, that tell its level."""


class Config(PushedLineSettings):
    """How pushed lines find their service, and how they are read."""

    max_bytes: Annotated[Size, Field(gt=0)] = 8 * 1024 * 1024
    """The largest delivery, before and after decompression."""


class LokiPush(Intake):
    """`POST /loki/api/v1/push`."""

    path = "/loki/api/v1/push"
    content_types = frozenset({"application/json", "application/x-protobuf"})
    bulk = True
    busy = 429
    success = 204
    decoders: Mapping[str, Decoder] = {"snappy": unsnappy}

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._lines = PushedLines(config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The lines of known services. Dropped: what PushedLines drops, and `malformed` for lines without a moment."""
        return self._lines.read(delivery, partial(_fill, self._streams(delivery)))

    def _streams(self, delivery: Delivery) -> Callable[[], Iterable[PushedStream]]:
        if delivery.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            return partial(read_json, delivery.body)
        packed = delivery.headers.get("content-encoding", "").strip().lower() != "snappy"
        body = unsnappy(delivery.body, self.max_bytes) if packed else delivery.body
        return partial(read_protobuf, body)

    def reply(self, delivery: Delivery, reading: Reading, told: Told) -> Reply:
        del delivery, reading, told
        return Reply(status=204)


def _fill(streams: Callable[[], Iterable[PushedStream]], batch: Batch) -> None:
    try:
        for pushed in streams():
            stream = batch.stream(pushed.labels)
            if stream is None:
                batch.refuse(pushed.count)
                continue
            for entry in pushed.entries():
                _add(entry, pushed.labels, stream, batch)
    except Malformed as error:
        raise Rejected(str(error)) from None


def _add(entry: Pushed, labels: Mapping[str, str], stream: Stream, batch: Batch) -> None:
    if entry.moment is None:
        batch.dropped["malformed"] += 1
        return
    at = entry.moment / 1e9
    told = (level_of(some.get(name)) for some in (labels, entry.metadata) for name in LEVELS)
    level = next((found for found in told if found is not None), None)
    batch.line(stream, entry.line, at, level=level, version=entry.metadata.get("version"))


def build(config: Config, context: IntakeContext) -> LokiPush:
    """The intake as configured."""
    return LokiPush(config, context.services)


ADAPTER = Adapter(Config, build)
