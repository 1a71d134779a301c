"""Metrics as Prometheus' remote write pushes them, versions 1.0 and 2.0.

Protocols: https://prometheus.io/docs/specs/prw/remote_write_spec/ and
https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/. Where there is no room, the answer is 503: senders must try
again after 5xx, while after 429 they may as well give up, as Prometheus does unless told otherwise by
`retry_on_http_429`. A request is 400 where it cannot be read, and where more series came than are followed, since no
2xx may be said of what was only taken in part; the rest of it counts all the same.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from rollbackd.adapter import Adapter
from rollbackd.fields import Size
from rollbackd.intake.base import Decoder, Delivery, Intake, IntakeContext, Reading, Rejected, Reply, ServiceNames, Told
from rollbackd.intake.matching import Matcher, Matching
from rollbackd.intake.snappy import unsnappy
from rollbackd.intake.write_histogram import Histogram
from rollbackd.intake.write_request import Heads, Sample, Tally, labels_v1, labels_v2, read_v1, read_v2
from rollbackd.metrics.inflow import REPLICA_LABELS, Inflow, Reason
from rollbackd.metrics.pushed import Slot
from rollbackd.metrics.settings import Metrics, PresetName, meanings
from rollbackd.wire import Malformed

V1, V2 = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"

STALE = bytes.fromhex("020000000000f07f")
"""The value, as it is on the wire, that ends a series."""

KNOWN_BYTES = 64 * 1024 * 1024
"""How much of what series stand for is remembered by the bytes of their labels, so that these are read once."""

ENTRY_BYTES = 150
"""What remembering one takes beside its labels."""

CLEARED_EVERY_S = 600.0
"""When there is more, what is remembered is forgotten, but not more often than this."""

_VALUE = struct.Struct("<d")


class Config(Matching):
    """What is taken in, and how series find their service and version."""

    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "service",
        "app",
        "app_kubernetes_io_name",
        "job",
        "destination_service_name",
    )
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    version_labels: tuple[str, ...] = (
        "version",
        "service_version",
        "app_kubernetes_io_version",
        "destination_version",
    )
    """Labels to look at for the version: the first that is there, and neither empty nor `unknown`, tells it."""
    replica_labels: tuple[str, ...] = tuple(sorted(REPLICA_LABELS))
    """Labels by which the series of the two Prometheus servers of a pair differ, and nothing else does."""
    preset: PresetName = "auto"
    """Whose metric names are expected; `auto` takes, for each service, the first preset that is present."""
    metrics: Metrics = Metrics()
    """Your own metric names."""
    max_series: Annotated[int, Field(gt=0)] = 100_000
    """How many series are followed at a time; more are counted as dropped."""
    max_bytes: Annotated[Size, Field(gt=0, le=64 * 1024 * 1024)] = 16 * 1024 * 1024
    """The largest request, after decompression."""

    @model_validator(mode="after")
    def _one_mapping(self) -> Self:
        if self.preset != "auto" and (self.metrics.requests or self.metrics.latency):
            raise ValueError("`preset` and your own `metrics` exclude each other: keep one")
        return self


class Taken(Reading, frozen=True, kw_only=True):
    """What a request held, for its answer: how much of it was taken in, and how many samples were not."""

    samples: int
    histograms: int
    exemplars: int
    refused: int


class RemoteWrite(Intake):
    """`POST /api/v1/write`."""

    path = "/api/v1/write"
    content_types = frozenset({"application/x-protobuf"})
    bulk = True
    success = 204

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self.decoders: Mapping[str, Decoder] = {"snappy": unsnappy}
        self._inflow = Inflow(
            Matcher(config, services),
            meanings(config.preset, config.metrics, None),
            config.metrics.gauge_rows(),
            max_series=config.max_series,
            shared=config.match,
            ignored=config.replica_labels,
        )
        self._wanted = frozenset(name.encode() for name in self._inflow.wanted)
        self._heads = Heads(self._wanted)
        self._known: dict[bytes, Slot | Reason] = {}
        self._room = KNOWN_BYTES
        self._services: frozenset[str] = frozenset()
        self._epoch, self._cleared = 0, 0.0

    def read(self, delivery: Delivery) -> Taken:
        """What became certain is told by `settled`. Dropped, in samples: `unwanted` (in series), `unknown_service`,
        `too_many_series`, and what Inflow.take_dropped says."""
        version = _message(delivery.headers.get("content-type", ""))
        if not delivery.body:
            raise Rejected("the request is empty")
        self._inflow.begin(delivery.received_at)
        self._unlearn(delivery.received_at)
        tally = Tally()
        try:
            if version == V2:
                refused = self._take(read_v2(delivery.body, self._wanted, tally), labels_v2, tally)
            else:
                refused = self._take(read_v1(delivery.body, self._heads, self._known, tally), labels_v1, tally)
        except Malformed as error:
            raise Rejected(f"the body is no {version}: {error}") from None
        if tally.unwanted:
            refused["unwanted"] += tally.unwanted
        return Taken(
            dropped=refused + self._inflow.take_dropped(),
            newest=self._inflow.newest,
            samples=tally.samples,
            histograms=tally.histograms,
            exemplars=tally.exemplars,
            refused=refused["too_many_series"],
        )

    def settled(self, now: float) -> Reading:
        return Reading(observed=tuple(self._inflow.settled(now)))

    def reply(self, delivery: Delivery, reading: Reading, told: Told) -> Reply:
        """Nothing, or what was not taken in; for version 2, how much was."""
        del told
        assert isinstance(reading, Taken)  # noqa: S101  it is what `read` gives
        headers: dict[str, str] = {}
        if _message(delivery.headers.get("content-type", "")) == V2:
            headers = {
                "X-Prometheus-Remote-Write-Samples-Written": str(reading.samples),
                "X-Prometheus-Remote-Write-Histograms-Written": str(reading.histograms),
                "X-Prometheus-Remote-Write-Exemplars-Written": str(reading.exemplars),
            }
        if not reading.refused:
            return Reply(status=204, headers=headers)
        message = (
            f"{reading.refused} samples are of more series than are followed, and were left out; the others were taken "
            "in: raise `max_series`, or send less with `write_relabel_configs`"
        )
        body = json.dumps({"error": "too_many_series", "message": message}).encode()
        return Reply(status=400, body=body, headers=headers)

    def _take(
        self, samples: Iterator[Sample], labels: Callable[[bytes], Mapping[str, str]], tally: Tally
    ) -> Counter[str]:
        """Hand each sample to its series; gives how many found none, by reason, and takes those out of the tally that
        should have. Raises Malformed."""
        known, refused = self._known, Counter[str]()
        for key, t, value, start, histogram in samples:
            slot = known.get(key) or self._asked(key, labels)
            if isinstance(slot, str):
                refused[slot] += 1
                if slot == "too_many_series":
                    tally.refuse(histogram)
            elif histogram is not None:
                self._take_histogram(slot, t, histogram)
            elif value != value and _VALUE.pack(value) == STALE:
                slot.stale(t)
            else:
                slot.take(t, value, start)
        return refused

    def _take_histogram(self, slot: Slot, t: float, histogram: Histogram) -> None:
        if _VALUE.pack(histogram.sum) == STALE:
            slot.stale(t)
        else:
            slot.take_histogram(t, histogram.buckets(slot.scale), histogram.start)

    def _unlearn(self, now: float) -> None:
        """Forget what no longer holds of what is remembered of series."""
        inflow = self._inflow
        crowded = self._room <= 0 and abs(now - self._cleared) > CLEARED_EVERY_S
        if crowded or inflow.services is not self._services:
            self._known.clear()
            self._cleared, self._services = now, inflow.services
        elif inflow.epoch != self._epoch:
            for key in [key for key, slot in self._known.items() if _is_over(slot)]:
                del self._known[key]
        else:
            return
        self._epoch = inflow.epoch
        self._room = KNOWN_BYTES - sum(map(len, self._known)) - ENTRY_BYTES * len(self._known)

    def _asked(self, key: bytes, labels: Callable[[bytes], Mapping[str, str]]) -> Slot | Reason:
        slot = self._inflow.slot(labels(key))
        if self._room > 0:
            self._room -= len(key) + ENTRY_BYTES
            self._known[key] = slot
        return slot


def _is_over(slot: Slot | Reason) -> bool:
    return slot == "too_many_series" if isinstance(slot, str) else slot.gone


def _message(content_type: str) -> str:
    """The message that a content type names. Raises Rejected where it is not one of the two."""
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "proto":
            found = value.strip().strip('"')
            if found not in (V1, V2):
                raise Rejected(
                    f"`{found[:100]}` is not understood: send {V2} or {V1}", status=415, code="wrong_content_type"
                )
            return found
    return V1


def build(config: Config, context: IntakeContext) -> RemoteWrite:
    """The intake as configured."""
    return RemoteWrite(config, context.services)


ADAPTER = Adapter(Config, build)
