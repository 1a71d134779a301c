"""Under pressure: telemetry is asked to come again before deployments and alerts are, and nothing is lost unseen."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Sequence
from typing import Literal

import aiohttp
import pytest

from rollbackd.errors import Temporary
from rollbackd.intake.base import Delivery, Intake, Reading, Rejected, Reply, Told
from rollbackd.model import AnyEvent, Log
from rollbackd.web.body import Limits
from rollbackd.web.rate import RateLimit
from tests.support.backend import FakeBackend
from tests.support.clock import ManualClock
from tests.support.deliveries import Known, deployment
from tests.support.waiting import eventually
from tests.support.website import Site, bearer, build_intake, served

HEADERS = bearer("ingest") | {"Content-Type": "text/plain"}


class Lines(Intake):
    """Takes one log line a line; holds each delivery until it is let go."""

    path = "/lines"
    content_types = frozenset({"text/plain"})
    bulk = True
    busy: Literal[429, 503] = 429
    max_bytes = 1_000_000

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.reading = 0

    def read(self, delivery: Delivery) -> Reading:
        self.reading += 1
        assert self.go.wait(10)
        lines = delivery.body.splitlines()
        t = delivery.received_at
        return Reading(observed=[Log(t=t, service="checkout", level="info", message=str(line)) for line in lines])


class Shouted(Lines):
    """Undoes an encoding of its own, and answers in its own way."""

    path = "/shouted"
    decoders = {"shout": lambda body, most: body.lower()[: most + 1], "double": lambda body, _most: body * 2}
    success = 204

    def reply(self, delivery: Delivery, reading: Reading, told: Told) -> Reply | None:
        if not reading.observed:
            raise Rejected("nothing in it", status=422, code="malformed")
        return Reply(status=204, headers={"X-Lines-Taken": str(told.accepted)})


async def post(site: Site, body: bytes, path: str = "/lines", **headers: str) -> aiohttp.ClientResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with site.client.post(path, data=body, headers=HEADERS | named) as response:
        await response.read()
        return response


def texts(events: Sequence[AnyEvent]) -> list[str]:
    return [event.message for event in events if isinstance(event, Log)]


async def test_telemetry_is_fed_in_its_order() -> None:
    async with served(intakes={"lines": Lines()}) as site:
        assert (await post(site, b"one\ntwo")).status == 200
        assert texts(site.backend.observed) == ["b'one'", "b'two'"]


async def test_a_large_delivery_does_not_hold_up_others() -> None:
    lines = Lines()
    async with served(intakes={"lines": lines}) as site:
        lines.go.clear()
        posting = asyncio.create_task(post(site, b"x" * 500_000))
        await eventually(lambda: lines.reading)
        async with site.client.get("/healthz") as response:
            assert response.status == 200
        assert not posting.done()
        lines.go.set()
        assert (await posting).status == 200


async def test_deliveries_of_one_intake_are_read_one_after_the_other() -> None:
    lines = Lines()
    async with served(intakes={"lines": lines}) as site:
        lines.go.clear()
        posting = [asyncio.create_task(post(site, b"x" * 200_000)) for _ in range(3)]
        await eventually(lambda: lines.reading)
        async with site.client.get("/healthz"):
            assert lines.reading == 1
        lines.go.set()
        assert [(await one).status for one in posting] == [200, 200, 200]


async def test_beyond_the_room_for_bodies_telemetry_waits_and_a_deployment_does_not() -> None:
    lines = Lines()
    intakes = {"lines": lines, "deployments": build_intake("deployments", Known())}
    async with served(intakes=intakes, limits=Limits(bulk_bytes=500_000)) as site:
        lines.go.clear()
        posting = asyncio.create_task(post(site, b"x" * 300_000))
        await eventually(lambda: lines.reading)
        refused = await post(site, b"y" * 300_000)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        told = json.dumps(deployment()).encode()
        headers = bearer("deploy") | {"Content-Type": "application/json"}
        async with site.client.post("/api/v1/deployments", data=told, headers=headers) as response:
            assert response.status == 200
        lines.go.set()
        assert (await posting).status == 200
        assert (await post(site, b"y" * 300_000)).status == 200, "the room is free again"


async def test_a_compressed_body_takes_the_room_that_it_may_need() -> None:
    async with served(intakes={"lines": Lines()}, limits=Limits(bulk_bytes=5_000)) as site:
        packed = gzip.compress(b"x" * 1000 + bytes(range(256)) * 4)
        assert len(packed) > 300
        assert (await post(site, packed + b"", Content_Encoding="gzip")).status == 200
        big = gzip.compress(bytes(range(256)) * 4 + json.dumps(list(range(2000))).encode())
        assert (await post(site, big, Content_Encoding="gzip")).status == 429


async def test_bodies_that_were_larger_than_they_seemed_wait_within_the_room_all_the_same() -> None:
    """A few bytes of gzip become as many megabytes as an intake allows: what waits for its turn counts as it is."""
    lines = Lines()
    bomb = gzip.compress(b"x" * 400_000)
    assert len(bomb) < 1000
    async with served(intakes={"lines": lines}, limits=Limits(bulk_bytes=1_000_000)) as site:
        lines.go.clear()
        waiting = {asyncio.create_task(post(site, bomb, Content_Encoding="gzip")) for _ in range(6)}
        while len(waiting) > 2:
            done, waiting = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            assert done, "more bodies wait than there is room for"
            assert {one.result().status for one in done} == {429}
        lines.go.set()
        assert [(await one).status for one in waiting] == [200, 200]
        assert (await post(site, b"x" * 900_000)).status == 200, "the room is free again"


async def test_what_waits_for_the_engine_is_asked_of_before_a_body_is_read() -> None:
    backend, lines = FakeBackend(), Lines()
    backend.flooded = True
    async with served(backend, intakes={"lines": lines}) as site:
        refused = await post(site, b"one")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert lines.reading == 0


async def test_a_sender_that_would_give_up_on_429_gets_503() -> None:
    backend, lines = FakeBackend(), Lines()
    lines.busy = 503
    backend.flooded = True
    async with served(backend, intakes={"lines": lines}) as site:
        assert (await post(site, b"one")).status == 503


async def test_an_intake_answers_in_its_protocol_s_own_way() -> None:
    async with served(intakes={"shouted": Shouted()}) as site:
        answered = await post(site, b"ONE\nTWO", "/shouted", Content_Encoding="shout")
        assert (answered.status, answered.headers["X-Lines-Taken"]) == (204, "2")
        assert texts(site.backend.observed) == ["b'one'", "b'two'"]
        assert (await post(site, b"", "/shouted")).status == 422


async def test_what_an_encoding_of_its_own_unpacks_is_bounded_too() -> None:
    async with served(intakes={"shouted": Shouted()}) as site:
        assert (await post(site, b"x" * 400_000, "/shouted", Content_Encoding="double")).status == 204
        assert (await post(site, b"x" * 600_000, "/shouted", Content_Encoding="double")).status == 413
        refused = await post(site, b"x", "/shouted", Content_Encoding="zstd")
        assert (refused.status, refused.headers["Accept-Encoding"]) == (415, "gzip, deflate, double, shout")


async def test_one_credential_cannot_deliver_more_often_than_it_may() -> None:
    clock = ManualClock()
    intakes = {"lines": Lines(), "deployments": build_intake("deployments", Known())}
    async with served(intakes=intakes, clock=clock, deliveries_per_second=2.0) as site:
        answers = [(await post(site, b"one")).status for _ in range(5)]
        assert answers == [200, 200, 200, 200, 429], "a burst of twice the rate"
        headers = bearer("deploy") | {"Content-Type": "application/json"}
        async with site.client.post("/api/v1/deployments", json=deployment(), headers=headers) as response:
            assert response.status == 200, "another credential has its own turn"
        await clock.advance(0.5)
        assert [(await post(site, b"one")).status for _ in range(2)] == [200, 429]
        assert len(site.backend.observed) == 5


def test_a_rate_of_none_lets_all_pass() -> None:
    limit = RateLimit(float, lambda: 0.0)
    for _ in range(10_000):
        limit.take("anyone")


def test_a_rate_says_when_to_come_again_and_remembers_a_bounded_number() -> None:
    limit = RateLimit(lambda: 0.1, lambda: 0.0)
    limit.take("anyone")
    with pytest.raises(Temporary) as refused:
        limit.take("anyone")
    assert refused.value.retry_after == 10
    for number in range(3 * RateLimit.REMEMBERED):
        limit.take(str(number))
    assert len(limit._buckets) == RateLimit.REMEMBERED
