"""The client of the query API: pages, refusals and answers that are none, against a real HTTP server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web

from rollbackd.backtest import prometheus as module
from rollbackd.backtest.prometheus import Prometheus, api_url
from rollbackd.errors import ConfigError, Permanent, Temporary
from rollbackd.fields import Secret
from rollbackd.sources.http import HttpOptions
from tests.support.clock import ManualClock
from tests.support.servers import Server, text

T = 1_700_000_000.0


class Patient(ManualClock):
    """Time that passes at once for whoever sleeps."""

    async def sleep(self, seconds: float) -> None:
        """Go on."""


def matrix(*samples: tuple[float, str], **more: object) -> str:
    result = [{"metric": {"__name__": "up", "job": "shop"}, "values": samples}]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more})


async def moments(server: Server, until: float = T + 60, options: HttpOptions | None = None) -> list[float]:
    async with Prometheus(server.url(""), options or HttpOptions(), Patient()) as client:
        pages = [rows async for rows in client.pages('{job="shop"}', T, until)]
    return [t for rows in pages for row in rows for t, _ in row.values]


async def test_a_long_time_is_asked_for_in_pages_that_share_no_sample() -> None:
    asked: list[tuple[str, float]] = []

    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        asked.append((str(form["query"]), float(str(form["time"]))))
        end = asked[-1][1]
        # as Prometheus 2 does: both ends of the range belong to it
        return web.Response(text=matrix((end - 3600, "1"), (end - 1800, "1"), (end, "1")))

    async with Server(answer) as server:
        found = await moments(server, T + 7200)
    assert asked == [('{job="shop"}[3600000ms]', T + 3600), ('{job="shop"}[3600000ms]', T + 7200)]
    assert found == [T + 1800, T + 3600, T + 5400, T + 7200]


async def test_what_is_too_much_for_the_server_is_asked_for_in_halves() -> None:
    spans: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        form = await request.post()
        spans.append(str(form["query"]).partition("[")[2])
        if len(spans) < 3:
            error = {
                "status": "error",
                "errorType": "execution",
                "error": "query processing would load too many samples",
            }
            return web.Response(status=422, text=json.dumps(error))
        return web.Response(text=matrix((float(str(form["time"])), "1")))

    async with Server(answer) as server:
        found = await moments(server, T + 3600)
    assert spans == ["3600000ms]", "1800000ms]", *["900000ms]"] * 4]
    assert found == [T + 900, T + 1800, T + 2700, T + 3600]


async def test_an_answer_larger_than_memory_allows_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100)
    async with Server(text(matrix(*((T + n, "1") for n in range(50))))) as server:
        with pytest.raises(Permanent, match="narrow the series with --match"):
            await moments(server, T + 600)
        assert len(server.requests) == 5  # 600, 300, 150, 75 and 60 seconds


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_tried_again(status: int) -> None:
    async with Server(text("busy", status=status)) as server:

        async def recover(request: web.Request) -> web.StreamResponse:
            return await (text("busy", status=status) if len(server.requests) < 3 else text(matrix((T + 9, "1"))))(
                request
            )

        server.handler = recover
        assert await moments(server) == [T + 9]
        server.handler = text(
            json.dumps({"status": "error", "error": "the disk\n is \x1b[31m full " + "x" * 500}), status=status
        )
        server.requests.clear()
        with pytest.raises(Temporary) as caught:
            await moments(server)
        assert len(server.requests) == module.RETRIES.attempts
    assert f"answered {status}: the disk is \N{REPLACEMENT CHARACTER}[31m full xxx" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("status", "cure"),
    [(400, "parse error"), (401, "--prometheus-token-file"), (403, "--prometheus-token-file"), (404, "before /api/v1")],
)
async def test_a_refusal_is_told_with_the_servers_words_and_not_tried_again(status: int, cure: str) -> None:
    error = json.dumps({"status": "error", "errorType": "bad_data", "error": "parse error"})
    async with Server(text(error, status=status)) as server:
        with pytest.raises(Permanent, match=cure) as caught:
            await moments(server)
        assert len(server.requests) == 1
    assert f"answered {status}: parse error" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "<!doctype html><title>Grafana</title>",
        "",
        "[]",
        '{"status":"success"}',
        '{"status":"success","data":{"resultType":"vector","result":[]}}',
        '{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,2]]}]}}',
    ],
)
async def test_an_answer_that_is_none_is_no_empty_history(body: str) -> None:
    async with Server(text(body)) as server:
        with pytest.raises(Permanent, match=r"does not answer as Prometheus does|not with a matrix"):
            await moments(server)


async def test_a_server_that_is_down_is_said_to_be() -> None:
    async with Server(text("")) as server:
        pass
    with pytest.raises(Temporary, match="Connection refused"):
        await moments(server)


async def test_the_token_is_sent_and_never_told(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret-token\n")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(status=400, text=f"what is {request.headers['Authorization']}?")

    async with Server(echo) as server:
        with pytest.raises(Permanent) as caught:
            await moments(server, options=HttpOptions(bearer=Secret(file=file)))
    assert "what is Bearer ***?" in str(caught.value)


async def test_what_the_server_doubts_is_kept() -> None:
    async with (
        Server(text(matrix(warnings=["store-1 is away"]))) as server,
        Prometheus(server.url(""), HttpOptions(), Patient()) as client,
    ):
        assert [rows async for rows in client.pages("up", T, T + 7200)] != []
        assert client.warnings == {"store-1 is away": 2}


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://p:9090", "http://p:9090/api/v1"),
        ("p:9090/", "http://p:9090/api/v1"),
        ("https://p/prometheus/", "https://p/prometheus/api/v1"),
        ("http://p/api/v1", "http://p/api/v1"),
    ],
)
def test_the_address_is_the_one_before_the_api(given: str, used: str) -> None:
    assert api_url(given) == used


@pytest.mark.parametrize("given", ["ftp://p", "http://", "http://p:x", "http://p/?a=b"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="--prometheus"):
        api_url(given)
