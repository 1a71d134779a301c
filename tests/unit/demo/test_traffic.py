"""The demo's users: what they count as harm."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.test_utils import TestServer

from rollbackd.demo.traffic import MANY, Tally, Traffic
from tests.support.waiting import eventually


def test_harm_is_what_failed_or_was_slow() -> None:
    tally = Tally()
    tally.add(10.0, ok=True, slow=False)
    tally.add(12.0, ok=False, slow=True)
    tally.add(11.0, ok=True, slow=True)
    assert (tally.total, tally.failed, tally.slow, tally.harmed) == (3, 1, 1, 2)


def test_the_first_harmed_request_is_the_one_sent_first() -> None:
    """A slow answer may arrive after a failure that was sent later."""
    tally = Tally()
    assert tally.first_harmed is None
    tally.add(12.0, ok=False, slow=False)
    tally.add(11.0, ok=True, slow=True)
    assert tally.first_harmed == 11.0


class Site:
    """A server that answers as it is told, and users who ask it a hundred and fifty times a second."""

    def __init__(self) -> None:
        self.status, self.wait = 200, 0.05
        self.traffic = Traffic("", 150.0)

    async def _answer(self, _request: web.Request) -> web.Response:
        await asyncio.sleep(self.wait)
        return web.Response(status=self.status)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Traffic]:
        app = web.Application()
        app.router.add_post("/", self._answer)
        async with TestServer(app) as server:
            self.traffic.url = str(server.make_url("/"))
            sending = asyncio.create_task(self.traffic.run())
            yield self.traffic
            sending.cancel()
            await asyncio.wait([sending])
            assert sending.cancelled()


async def test_failures_are_counted() -> None:
    site = Site()
    async with site.open() as traffic:
        await eventually(lambda: traffic.knows_enough)
        traffic.learn_usual()
        assert traffic.tally.total == 0
        site.status = 500
        await eventually(lambda: traffic.tally.failed >= 5)


async def test_an_answer_is_slow_if_it_takes_twice_as_long_as_usual() -> None:
    site = Site()
    async with site.open() as traffic:
        await eventually(lambda: traffic.knows_enough)
        traffic.learn_usual()
        assert traffic.usual_s is not None
        assert traffic.usual_s >= 0.05
        site.wait = 2.5 * traffic.usual_s
        await eventually(lambda: traffic.tally.slow >= 5)
        assert traffic.tally.failed == 0


async def test_nobody_there_is_a_failure() -> None:
    """As long as a release is down, each request that is refused counts."""
    traffic = Traffic("http://127.0.0.1:1/", 500.0)
    sending = asyncio.create_task(traffic.run())
    await eventually(lambda: traffic.tally.total >= MANY // 10)
    assert traffic.tally.failed == traffic.tally.total
    sending.cancel()
    await asyncio.wait([sending])
