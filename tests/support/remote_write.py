"""Remote write's two messages, written by hand from their descriptions, and a real Prometheus that sends them.

Descriptions: prompb/types.proto, prompb/remote.proto and prompb/io/prometheus/write/v2/types.proto of Prometheus.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cramjam

from tests.support.running import running

STALE = struct.unpack("<d", bytes.fromhex("020000000000f07f"))[0]
V2_TYPE = "application/x-protobuf;proto=io.prometheus.write.v2.Request"


@dataclass
class Native:
    """A native histogram: buckets by number, as counts of their own."""

    buckets: Mapping[int, float]
    schema: int = 3
    zero: float = 0.0
    floats: bool = False
    bounds: Sequence[float] = ()
    sum: float = 1.0
    start: float = 0.0
    gauge: bool = False
    count: float | None = None


@dataclass
class Pushed:
    """One series: labels with their name, and what was sampled at some moments, in seconds."""

    labels: Mapping[str, str]
    samples: Sequence[tuple[float, float | Native]]
    start: float = 0.0
    exemplars: int = 0


def series(name: str, t: float, value: float | Native, **labels: str) -> Pushed:
    """A series with one sample."""
    return Pushed({"__name__": name, **labels}, [(t, value)])


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> bytes:
    return varint(value << 1 ^ value >> 63)


def number(place: int, value: int) -> bytes:
    return varint(place << 3) + varint(value) if value else b""


def double(place: int, value: float) -> bytes:
    """Left out where it is 0, as gogoproto does."""
    return varint(place << 3 | 1) + struct.pack("<d", value) if value != 0 else b""


def message(place: int, inside: bytes) -> bytes:
    return varint(place << 3 | 2) + varint(len(inside)) + inside


def native(t: float, one: Native) -> bytes:
    """The message Histogram, in its form for whole numbers or for floats."""
    numbers = sorted(one.buckets)
    counts = [one.buckets[number] for number in numbers]
    total = one.count if one.count is not None else sum(counts) + one.zero
    spans, before = b"", 0
    for bucket in numbers:
        spans += message(11, varint(1 << 3) + zigzag(bucket - before) + varint(2 << 3) + varint(1))
        before = bucket + 1
    if one.floats:
        return (
            (varint(2 << 3 | 1) + struct.pack("<d", total))
            + double(3, one.sum)
            + (varint(4 << 3) + zigzag(one.schema))
            + double(7, one.zero)
            + spans
            + message(13, struct.pack(f"<{len(counts)}d", *counts))
            + _ends(t, one)
        )
    deltas = [int(count - last) for count, last in zip(counts, [0.0, *counts], strict=False)]
    return (
        number(1, int(total))
        + double(3, one.sum)
        + (varint(4 << 3) + zigzag(one.schema))
        + number(6, int(one.zero))
        + spans
        + message(12, b"".join(map(zigzag, deltas)))
        + _ends(t, one)
    )


def _ends(t: float, one: Native) -> bytes:
    return (
        number(14, 3 if one.gauge else 0)
        + number(15, round(t * 1000))
        + (message(16, struct.pack(f"<{len(one.bounds)}d", *one.bounds)) if one.bounds else b"")
        + number(17, round(one.start * 1000))
    )


def _values(one: Pushed, samples: int, histograms: int, *, starts: bool) -> bytes:
    out = b""
    for t, value in one.samples:
        if isinstance(value, Native):
            out += message(histograms, native(t, value))
        else:
            start = number(3, round(one.start * 1000)) if starts else b""
            out += message(samples, double(1, value) + number(2, round(t * 1000)) + start)
    return out


def request_v1(all_series: Iterable[Pushed], metadata: bool = False) -> bytes:
    """A `prometheus.WriteRequest`."""
    out = b""
    for one in all_series:
        labels = b"".join(
            message(1, message(1, name.encode()) + message(2, value.encode()))
            for name, value in sorted(one.labels.items())
        )
        exemplars = message(3, double(2, 1.0)) * one.exemplars
        out += message(1, labels + _values(one, 2, 4, starts=False) + exemplars)
    if metadata:
        out += message(3, number(1, 1) + message(2, b"http_requests_total") + message(4, b"All requests."))
    return out


@dataclass
class Symbols:
    """Texts and their places."""

    places: dict[str, int] = field(default_factory=lambda: {"": 0})

    def ref(self, symbol: str) -> int:
        return self.places.setdefault(symbol, len(self.places))


def request_v2(all_series: Iterable[Pushed]) -> bytes:
    """An `io.prometheus.write.v2.Request`."""
    symbols, written = Symbols(), b""
    for one in all_series:
        refs = [symbols.ref(text) for item in sorted(one.labels.items()) for text in item]
        exemplar = message(1, b"") + double(2, 1.0) + number(3, 1)
        metadata = message(5, number(1, 1) + number(3, symbols.ref("Some help.")))
        written += message(
            5,
            message(1, b"".join(map(varint, refs)))
            + _values(one, 2, 3, starts=True)
            + message(4, exemplar) * one.exemplars
            + metadata,
        )
    return b"".join(message(4, symbol.encode()) for symbol in symbols.places) + written


def snappy(body: bytes) -> bytes:
    """The same in Snappy's block format."""
    return bytes(cramjam.snappy.compress_raw(body))


SENT = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}


def scrape(service: str, t: float, ok: float, failed: float, slow: float = 0.0, **labels: str) -> list[Pushed]:
    """What one look at a small service gives."""
    named = {"job": service, "instance": f"{service}-1:8080", "version": "v2", **labels}
    total = ok + failed
    return [
        series("http_requests_total", t, ok, code="200", **named),
        series("http_requests_total", t, failed, code="500", **named),
        series("http_request_duration_seconds_bucket", t, total - slow, le="0.1", **named),
        series("http_request_duration_seconds_bucket", t, total, le="+Inf", **named),
        series("process_resident_memory_bytes", t, 5e7 + ok, **named),
        series("go_gc_duration_seconds_count", t, 3.0, **named),
    ]


SENDER = """\
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
remote_write:
  - url: {url}/api/v1/write
    {authorization}
    queue_config: {{batch_send_deadline: 100ms, max_shards: 4, min_shards: 4, min_backoff: 50ms}}
    metadata_config: {{send_interval: 1s}}
scrape_configs:
{jobs}
"""


@asynccontextmanager
async def real_sender(
    folder: Path, url: str, services: Mapping[str, int], *, interval: str = "1s", token: str | None = None
) -> AsyncIterator[None]:
    """Run a Prometheus that looks at services, by the ports of loopback they are at, and sends on to this address."""
    jobs = "\n".join(
        f"  - {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}"
        for name, port in services.items()
    )
    config = folder / "prometheus.yml"
    authorization = f"authorization: {{credentials: {token}}}" if token is not None else "headers: {}"
    text = SENDER.format(interval=interval, url=url, jobs=jobs, authorization=authorization)
    config.write_text(text, encoding="utf-8")
    async with running("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"):
        yield
