"""Lines pushed as to Loki."""

from __future__ import annotations

import gzip
import json

import cramjam
import pytest

from rollbackd.intake.base import Intake, Reading, Rejected
from rollbackd.intake.snappy import unsnappy
from rollbackd.model import Log
from tests.support.deliveries import NOW, Known, delivery
from tests.support.loki_push import entry, push
from tests.support.website import bearer, build_intake, served

PROTOBUF, JSON = "application/x-protobuf", "application/json"
NS = int(NOW) * 10**9


def intake(**settings: object) -> Intake:
    return build_intake("loki_push", Known(), settings)


def packed(*streams: tuple[str, list[bytes]]) -> bytes:
    return bytes(cramjam.snappy.compress_raw(push(*streams)))


def lines(reading: Reading) -> list[Log]:
    return [event for event in reading.observed if isinstance(event, Log)]


def read(*streams: tuple[str, list[bytes]], **settings: object) -> Reading:
    return intake(**settings).read(delivery(packed(*streams), content_type=PROTOBUF))


def test_protobuf_lines_are_taken_with_their_moments_and_labels() -> None:
    stream = ('{service_name="checkout", version="v2"}', [entry(NS - 3 * 10**9, "ERROR payment failed")])
    [line] = lines(read(stream))
    assert (line.service, line.version, line.level, line.message, line.t) == (
        "checkout",
        "v2",
        "error",
        "ERROR payment failed",
        NOW - 3,
    )


def test_json_lines_are_the_same() -> None:
    body = {"streams": [{"stream": {"app": "checkout"}, "values": [[str(NS), "level=warn msg=slow"]]}]}
    [line] = lines(intake().read(delivery(body, content_type=JSON)))
    assert (line.level, line.message, line.t) == ("warning", "slow", NOW)


def test_the_metadata_of_a_line_tells_its_level_and_version() -> None:
    stream = ('{app="checkout"}', [entry(NS, "boom", detected_level="critical", version="v3")])
    [line] = lines(read(stream))
    assert (line.level, line.version) == ("critical", "v3")


def test_the_lines_of_a_trace_are_one_record_though_each_comes_with_a_level() -> None:
    trace = ["it broke", "Traceback (most recent call last):", '  File "x.py", line 1', "KeyError: 'x'"]
    stream = ('{app="checkout", level="error"}', [entry(NS + place, text) for place, text in enumerate(trace)])
    [line] = lines(read(stream))
    assert line.message == "\n".join(trace)
    assert line.level == "error"


def test_a_line_without_a_moment_is_left_out() -> None:
    body = {"streams": [{"stream": {"app": "checkout"}, "values": [["soon", "x"], [str(NS), "y"]]}]}
    reading = intake().read(delivery(body, content_type=JSON))
    assert len(reading.observed) == 1
    assert reading.dropped == {"malformed": 1}


def test_of_a_broken_push_nothing_is_taken() -> None:
    whole = push(('{app="checkout"}', [entry(NS, "x")]), ('{app="checkout"}', [entry(NS, "y")]))
    broken = bytes(cramjam.snappy.compress_raw(whole[:-3]))
    taken = intake()
    with pytest.raises(Rejected):
        taken.read(delivery(broken, content_type=PROTOBUF))
    good = bytes(cramjam.snappy.compress_raw(whole))
    assert len(taken.read(delivery(good, content_type=PROTOBUF)).observed) == 2


@pytest.mark.parametrize("said", [True, False])
async def test_it_is_unpacked_whether_a_header_says_so_or_not(said: bool) -> None:
    """Promtail says nothing, the format's description asks for nothing, others send `Content-Encoding: snappy`."""
    body = packed(('{app="checkout"}', [entry(NS, "x")]))
    headers = bearer("ingest") | {"Content-Type": PROTOBUF} | ({"Content-Encoding": "snappy"} if said else {})
    async with served(intakes={"loki_push": intake()}) as site:
        async with site.client.post("/loki/api/v1/push", data=body, headers=headers) as response:
            assert (response.status, await response.read()) == (204, b"")
        assert len(site.backend.observed) == 1


async def test_json_may_come_in_gzip() -> None:
    body = json.dumps({"streams": [{"stream": {"app": "checkout"}, "values": [[str(NS), "x"]]}]}).encode()
    headers = bearer("ingest") | {"Content-Type": JSON, "Content-Encoding": "gzip"}
    async with served(intakes={"loki_push": intake()}) as site:
        async with site.client.post("/loki/api/v1/push", data=gzip.compress(body), headers=headers) as response:
            assert response.status == 204
        assert len(site.backend.observed) == 1


def test_a_bomb_is_never_unpacked() -> None:
    bomb = bytes(cramjam.snappy.compress_raw(b"\0" * 50_000_000))
    assert len(bomb) < 3_000_000
    with pytest.raises(Rejected) as refused:
        unsnappy(bomb, 1_000_000)
    assert refused.value.status == 413


@pytest.mark.parametrize("body", [b"", b"\xff" * 10, b"\x05hello", b"\x00\x01\x02"])
def test_what_is_not_in_the_format_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        unsnappy(body, 1000)
    assert refused.value.status == 400
