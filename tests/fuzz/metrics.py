"""The formats of metrics as parsers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace
from typing import cast

from rollbackd.errors import Permanent, Temporary
from rollbackd.metrics import statsd as lines_of_statsd
from rollbackd.metrics.exposition import Exposition, Reader
from rollbackd.metrics.samples import Row, Samples
from rollbackd.metrics.settings import Metrics, meanings
from rollbackd.metrics.statsd_tally import Tally as StatsdTally
from rollbackd.metrics.tally import Tally
from rollbackd.sources.http import HttpClient, HttpOptions
from rollbackd.sources.listening import Address
from rollbackd.sources.prometheus_api import Cures, PrometheusApi
from rollbackd.sources.prometheus_queries import Evaluation, Queries
from rollbackd.sources.prometheus_server import Server
from rollbackd.sources.statsd import Port
from tests.fuzz.parser import Parser, Read, few, halves, keepable, run
from tests.support.backend import NOW
from tests.support.clock import ManualClock
from tests.support.sink import RecordingSink

MANY = 1000
"""Series remembered at the most, so that memory shows what is not bounded."""


def exposition() -> Read:
    """One endpoint's scrapes; in two pieces each must say what it says in one."""
    readers, seen = (Reader(max_series=MANY), Reader(max_series=MANY)), 0

    def read(data: bytes) -> object:
        nonlocal seen
        seen += 1
        told = []
        for reader, pieces in zip(readers, ((data,), halves(data)), strict=True):
            if seen % 100 == 0:
                reader.known.clear()
            scrape = Exposition(reader)
            for piece in pieces:
                scrape.feed(piece)
            scrape.end()
            samples = {series.text: repr(value) for series, value in scrape.samples.items()}
            told.append((samples, scrape.malformed, scrape.sound, scrape.complete, scrape.opening))
        assert told[0] == told[1]
        samples, malformed, sound, complete, opening = told[0]
        return sound, complete, opening.isascii(), malformed > 0, few(samples)

    return read


def scraped() -> Read:
    """The events of one service's scrapes, ten seconds apart."""
    tally = Tally("checkout", meanings("auto", Metrics(), None), Metrics().gauge_rows(), {}, MANY)
    looks = 0

    def read(data: bytes) -> object:
        nonlocal looks
        looks += 1
        scrape = Exposition(tally.reader)
        scrape.feed(data)
        scrape.end()
        events = tally.take(scrape, NOW + 10.0 * looks, 10.0 * looks)
        return keepable(events), {type(event).__name__ for event in events}, sorted(tally.dropped)

    return read


def statsd() -> Read:
    """Datagrams of one service, told of after each."""
    clock = ManualClock(NOW)
    tally = StatsdTally(
        lines_of_statsd.Belonging("checkout"), lines_of_statsd.PRESETS, lines_of_statsd.GAUGES, ("version",)
    )
    port = Port(Address("udp", "127.0.0.1"), clock)
    port.join(tally)
    receive = port._receive

    def read(data: bytes) -> object:
        receive(data, None)
        events = tally.events(NOW)
        dropped = sorted(tally.dropped)
        tally.dropped.clear()
        return keepable(events), {type(event).__name__ for event in events}, dropped

    return read


class Said(PrometheusApi):
    """A Prometheus server that answers every question with the same bytes."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9090/api/v1", HttpOptions(), 1.0, Cures("token", "address"))
        self.said = b""

    async def _asked(self, http: HttpClient, form: Mapping[str, str], kind: str, max_bytes: int) -> list[Row]:
        return self._result(self.said, kind)


def query_answer() -> Read:
    """Answers of a Prometheus server to one question after the other."""
    api, looks = Said(), 0
    samples = Samples("checkout", meanings("auto", Metrics(), None), Metrics().gauge_rows(), {}, 10.0, max_series=MANY)

    def read(data: bytes) -> object:
        nonlocal looks
        looks += 1
        api.said = data
        rows = run(api.samples("up", NOW - 60, NOW + 60, MANY))
        events = samples.take(rows, None if looks % 2 else NOW + 30)
        return keepable(events), {type(event).__name__ for event in events}, sorted(samples.dropped)

    return read


def query_steps() -> Read:
    """Answers to the operator's own queries."""
    api, sink = Said(), RecordingSink()
    server = cast("Server", SimpleNamespace(api=api, at_once=nullcontext(), max_bytes=MANY))
    wanted = Queries.model_validate({"requests": "a", "errors": "b", "latency": "c", "gauges": {"load": "d"}})
    evaluation = Evaluation(wanted, "checkout", server, ManualClock(NOW))

    def read(data: bytes) -> object:
        api.said = data
        sink.drops.clear()
        events = run(evaluation._page(NOW - 60, NOW + 60, sink))
        return keepable(events), {type(event).__name__ for event in events}, sorted(sink.drops)

    return read


def query_refusal() -> Read:
    """What a Prometheus server says where it does not answer."""
    api = Said()

    def read(data: bytes) -> object:
        error = api._refusal(422, data)
        assert str(error).isprintable()
        return type(error)

    return read


EXPOSITION = b"""\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code="200",version="v2",path="a\\"b\\\\c\\n"} 1027 1395066363000
http_requests_total{code="500",version="v2"} 3 # {trace_id="KOO5S4vxi0o"} 0.67 1520879607.789
http_request_duration_seconds_bucket{le="0.5"} 1.5e+03
http_request_duration_seconds_bucket{le="+Inf"} 1700
{"utf8.name","label.x"="y"} NaN
process_start_time_seconds 1.7e9
process_resident_memory_bytes 4.2e7
# EOF
"""

STATSD = [
    b"checkout.response.200:1|c|@0.5\ncheckout.response.500:1|c\ncheckout.view.get:320|ms|#version:v2",
    b"checkout.gunicorn.requests:1|c|#service:checkout,version:v2\ncheckout.gunicorn.request.duration:1:2:3|h|T1700000000",
    b"checkout.runtime.node.mem.rss:-5|g\ncheckout.users;version=v2:7|s\n_e{5,4}:title|text\n_sc|a|0",
]

MATRIX = json.dumps(
    {
        "status": "success",
        "warnings": ["store unavailable"],
        "data": {
            "resultType": "matrix",
            "result": [
                {
                    "metric": {"__name__": "http_requests_total", "job": "c", "instance": "i", "code": code},
                    "values": [[NOW + 10 * tick, str(10 * tick)] for tick in range(4)],
                }
                for code in ("200", "500")
            ]
            + [
                {
                    "metric": {"__name__": "http_request_duration_seconds", "job": "c", "instance": "i"},
                    "histograms": [
                        [NOW + 10 * tick, {"count": str(tick), "sum": "1", "buckets": [[0, "0.1", "0.2", str(tick)]]}]
                        for tick in range(4)
                    ],
                }
            ],
        },
    }
).encode()

STEPS = json.dumps(
    {
        "status": "success",
        "data": {
            "resultType": "matrix",
            "result": [
                {"metric": {"le": le, "version": "v2"}, "values": [[NOW + 10 * tick, "0.5"] for tick in range(4)]}
                for le in ("0.5", "+Inf")
            ],
        },
    }
).encode()

NUMBERS = [b"NaN", b"+Inf", b"-1", b"1e308", b"1e-320", b"0x10", b"1_0", b"\xd9\xa1"]

MARKS = [b"{", b"}", b'"', b"\\", b",", b"=", b" ", b"\t", b"\n", b"\r\n", b"#", b"\0"]

PROMETHEUS = ["rollbackd.sources.prometheus_api", "rollbackd.metrics.samples"]
SPOKEN = (Permanent, Temporary)

PARSERS = [
    Parser("exposition", ["rollbackd.metrics.exposition"], exposition, [EXPOSITION], words=[*NUMBERS, *MARKS]),
    Parser("scrape", ["rollbackd.metrics.tally", "rollbackd.sources.scrape"], scraped, [EXPOSITION], words=NUMBERS),
    Parser(
        "statsd",
        ["rollbackd.metrics.statsd", "rollbackd.metrics.statsd_tally", "rollbackd.sources.statsd"],
        statsd,
        STATSD,
        words=[*NUMBERS, b"|", b":", b"|#", b"|@", b"|T", b"\n"],
    ),
    Parser("prometheus.answer", PROMETHEUS, query_answer, [MATRIX], SPOKEN, "json", NUMBERS),
    Parser(
        "prometheus.steps",
        ["rollbackd.sources.prometheus_queries"],
        query_steps,
        [STEPS, MATRIX],
        SPOKEN,
        "json",
        NUMBERS,
    ),
    Parser(
        "prometheus.refusal",
        PROMETHEUS,
        query_refusal,
        [b'{"status":"error","errorType":"execution","error":"too many samples"}', b"<html>502</html>"],
        shape="json",
    ),
]
