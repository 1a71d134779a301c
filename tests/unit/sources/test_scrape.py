"""The scrape source against real HTTP servers, well and badly behaved."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pydantic import ValidationError

from rollbackd.model import Gauge, Latency, Requests
from rollbackd.sources.base import Source, SourceContext
from rollbackd.sources.scrape import ADAPTER, ScrapeConfig
from tests.support.clock import ManualClock
from tests.support.servers import Handler, Server, raw_server, running, text
from tests.support.waiting import eventually

OK = 'http_requests_total{code="200"}'


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(text(f"{OK} 1\n")) as server:
        yield server


def scrape(url: str, clock: ManualClock, **settings: object) -> Source:
    config = ScrapeConfig.model_validate({"url": url, **settings})
    return ADAPTER.build(config, SourceContext("shop", clock))


async def test_requests_between_two_scrapes_are_emitted_at_the_time_of_the_second(server: Server) -> None:
    clock = ManualClock()
    async with running(scrape(server.url(), clock), clock) as (run, sink):
        assert (sink.events, sink.state) == ([], "up")
        server.handler = text(f"{OK} 8\n")
        await run.after(10)
    assert sink.events == [Requests(t=clock.now(), service="shop", total=7.0, errors=0.0)]


async def test_a_missed_scrape_is_a_gap_and_its_counts_come_with_the_next(server: Server) -> None:
    clock = ManualClock()
    async with running(scrape(server.url(), clock), clock) as (run, sink):
        server.handler = text("busy", status=503)
        await run.after(10)
        assert sink.state == f"down: {server.url()} answered 503 Service Unavailable"
        await run.after(10)
        assert sink.events == []
        server.handler = text(f"{OK} 31\n")
        await run.after(10)
        assert sink.state == "up"
        assert [(event.total, event.t) for event in sink.of(Requests)] == [(30.0, clock.now())]


async def test_a_server_that_is_gone_is_survived(server: Server) -> None:
    clock = ManualClock()
    async with running(scrape(server.url(), clock), clock) as (run, sink):
        await server.stop()
        await run.after(10)
        assert sink.state == f"down: {server.url()}: Connection refused"
        await server.start()
        await run.after(10)
        assert sink.state == "up"


LOOP = "http://127.0.0.1:{port}/again"


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (text("<!doctype html><html>"), "is not Prometheus text: it begins with <!doctype html><html>"),
        (text('{"status": "ok"}'), 'is not Prometheus text: it begins with {"status": "ok"}'),
        (text(""), "answered with an empty body"),
        (text("no", status=404), "answered 404 Not Found"),
        (text("x 1\n", Content_Encoding="br"), "answered in a content encoding that was not asked for"),
        (text("x 1\n", Content_Encoding="gzip"), "answered with broken gzip"),
        (text(gzip.compress(b"x 1\n")[:-6], Content_Encoding="gzip"), "the answer broke off"),
        (text("x 1\n", Content_Type="application/openmetrics-text; version=1.0.0"), "broke off before its `# EOF`"),
        (text("", status=302, Location="/metrics"), "redirects more than 5 times"),
        (text("", status=302, Location="http://localhost:1/metrics"), "redirects to another host"),
        (text("", status=302, Location="ftp://127.0.0.1/metrics"), "redirects to another host, port or protocol"),
        (text("", status=302, Location="https://127.0.0.1/metrics"), "redirects to another host, port or protocol"),
        (text("", status=302, Location="mailto:a@b"), "redirects to something that is no URL"),
        (text("", status=302, Location="http://[bad/"), "redirects to something that is no URL"),
        (text("x" * 2000), "answered with more than 1000 bytes"),
        (text(gzip.compress(b"x 1\n" * 9999), Content_Encoding="gzip"), "answered with more than 1000 bytes"),
    ],
)
async def test_an_unusable_answer_is_a_gap_with_its_reason(server: Server, handler: Handler, reason: str) -> None:
    clock = ManualClock()
    server.handler = handler
    async with running(scrape(server.url(), clock, max_bytes=1000), clock) as (_, sink):
        assert reason in sink.state
        assert sink.state.startswith("down: ")
    assert sink.events == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx 1\n", "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nx 1\n\r\n", "the answer broke off"),
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", "did not answer in HTTP"),
    ],
)
async def test_a_broken_connection_is_a_gap_with_its_reason(answer: bytes, reason: str) -> None:
    clock = ManualClock()
    async with raw_server(answer) as port, running(scrape(f"http://127.0.0.1:{port}/", clock), clock) as (_, sink):
        assert reason in sink.state
    assert sink.events == []


async def test_a_truncated_scrape_changes_no_count(server: Server) -> None:
    """Half an answer must not move the baseline, or its counts would be lost or doubled."""
    clock = ManualClock()

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "5000"})
        await response.prepare(request)
        await response.write(f"{OK} 50\n".encode())
        assert request.transport is not None
        request.transport.close()
        return response

    async with running(scrape(server.url(), clock), clock) as (run, sink):
        server.handler = half
        await run.after(10)
        assert sink.state.endswith("the answer broke off")
        server.handler = text(f"{OK} 61\n")
        await run.after(10)
    assert [event.total for event in sink.of(Requests)] == [60.0]


async def test_no_answer_in_time_is_a_gap(server: Server) -> None:
    clock = ManualClock()
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    server.handler = hang
    async with running(scrape(server.url(), clock, timeout=0.05), clock) as (_, sink):
        assert sink.state == f"down: {server.url()}: no answer within 0.05 s"


async def test_a_body_that_never_ends_is_a_gap() -> None:
    clock = ManualClock()
    async with (
        raw_server(b"HTTP/1.1 200 OK\r\n\r\nx 1\n", then_close=False) as port,
        running(scrape(f"http://127.0.0.1:{port}/", clock, timeout=0.05), clock) as (_, sink),
    ):
        assert "no answer within" in sink.state


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_scrape_of_200_megabytes_is_refused_in_flat_memory(server: Server, compressed: bool) -> None:
    clock = ManualClock()
    line = b'http_requests_total{code="200",path="/"} 1\n'
    block = line * 20_000
    bomb = gzip.compress(block * 250, compresslevel=1) if compressed else b""

    async def flood(request: web.Request) -> web.StreamResponse:
        if compressed:
            return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
        response = web.StreamResponse(headers={"Content-Length": str(len(block) * 250)})
        await response.prepare(request)
        for _ in range(250):
            await response.write(block)
        return response

    server.handler = flood
    tracemalloc.start()
    try:
        async with running(scrape(server.url(), clock, timeout=30.0, max_bytes="8MiB"), clock) as (_, sink):
            await eventually(lambda: sink.state, within=30)
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "answered with more than 8388608 bytes: raise `max_bytes`" in sink.state
    assert peak < 8 * 1024 * 1024 + len(bomb)


async def test_a_body_of_nothing_but_bad_lines_is_given_up_early(server: Server) -> None:
    """Reading it to its end would cost seconds at every scrape."""
    clock = ManualClock()
    server.handler = text(gzip.compress(b"http_requests_total{a=b} 1\n" * 400_000), Content_Encoding="gzip")
    async with running(scrape(server.url(), clock, max_bytes="1MiB"), clock) as (_, sink):
        assert sink.state.endswith("is not Prometheus text: it begins with http_requests_total{a=b} 1 http_requests")


async def test_many_bad_lines_do_not_matter_after_a_good_one(server: Server) -> None:
    clock = ManualClock()
    bad = "http_requests_total{a=b} 1\n" * 10_000
    server.handler = text(f"{OK} 1\n{bad}")
    async with running(scrape(server.url(), clock), clock) as (run, sink):
        server.handler = text(f"{OK} 2\n{bad}{OK} 3\n")
        await run.after(10)
    assert [event.total for event in sink.of(Requests)] == [2.0]
    assert sink.drops == {"malformed_line": 20_000}


async def test_bad_lines_and_values_are_counted_and_the_rest_is_used(server: Server) -> None:
    clock = ManualClock()
    server.handler = text(f'{OK} 1\nhttp_requests_total{{code="500"}} 0\n')
    async with running(scrape(server.url(), clock), clock) as (run, sink):
        server.handler = text(
            f'{OK} 5\nhttp_requests_total{{code=500}} 7\nhttp_requests_total{{code="500"}} NaN\n'.encode()
            + b'http_requests_total{code="\xff"} 1\n'
        )
        await run.after(10)
    assert [(event.total, event.errors) for event in sink.of(Requests)] == [(4.0, 0.0)]
    assert sink.drops == {"malformed_line": 2, "not_a_number": 1}
    assert sink.state == "up"


async def test_gzip_is_asked_for_and_read(server: Server) -> None:
    clock = ManualClock()
    async with running(scrape(server.url(), clock), clock) as (run, sink):
        assert server.requests[0].headers["Accept-Encoding"] == "gzip"
        server.handler = text(gzip.compress(f"{OK} 3\n".encode() + b"# x\n" * 100_000), Content_Encoding="gzip")
        await run.after(10)
    assert [event.total for event in sink.of(Requests)] == [2.0]


async def test_a_redirect_within_the_host_is_followed(server: Server) -> None:
    clock = ManualClock()

    async def moved(request: web.Request) -> web.StreamResponse:
        if request.path == "/metrics":
            return web.Response(status=308, headers={"Location": "/metrics/"})
        return web.Response(text=f"{OK} 1\n")

    server.handler = moved
    async with running(scrape(server.url(), clock), clock) as (_, sink):
        assert sink.state == "up"


async def test_credentials_do_not_follow_a_redirect_to_another_port(server: Server, tmp_path: Path) -> None:
    """What listens there can be somebody else's."""
    (tmp_path / "token").write_text("s3cret")
    clock = ManualClock()
    async with Server(text(f"{OK} 1\n")) as other:
        server.handler = text("", status=302, Location=other.url())
        bearer = {"file": str(tmp_path / "token")}
        async with running(scrape(server.url(), clock, bearer=bearer), clock) as (_, sink):
            assert "redirects to another host, port or protocol" in sink.state
        assert other.requests == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"bearer": {"env": "TOKEN"}}, {"Authorization": "Bearer s3cret"}),
        ({"basic": {"username": "me", "password": {"env": "TOKEN"}}}, {"Authorization": "Basic bWU6czNjcmV0"}),
        ({"headers": {"X-Scope": "eu", "X-Key": {"env": "TOKEN"}}}, {"X-Scope": "eu", "X-Key": "s3cret"}),
    ],
)
async def test_credentials_are_sent(
    server: Server, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], expected: dict[str, str]
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    clock = ManualClock()
    async with running(scrape(server.url(), clock, **settings), clock):
        got = server.requests[0].headers
    assert {name: got[name] for name in expected} == expected


async def test_a_credential_that_is_missing_is_a_gap_until_it_is_there(server: Server, tmp_path: Path) -> None:
    clock = ManualClock()
    token = tmp_path / "token"
    async with running(scrape(server.url(), clock, bearer={"file": str(token)}), clock) as (run, sink):
        assert sink.state == f"down: secret: cannot read file {token}: No such file or directory"
        token.write_text("two\nlines")
        await run.after(10)
        assert sink.state == "down: the secret for header `Authorization` holds a line break"
        token.write_text("s3cret\n")
        await run.after(10)
        assert sink.state == "up"
    assert server.requests[0].headers["Authorization"] == "Bearer s3cret"


async def test_no_secret_is_shown_when_things_go_wrong(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one in the URL, nor one that the far side sends back."""
    monkeypatch.setenv("TOKEN", "t0ken")
    clock = ManualClock()
    server.handler = text("<t0ken>")
    url = f"http://me:passw0rd@127.0.0.1:{server.port}/metrics?key=qu3ry"
    config = ScrapeConfig.model_validate({"url": url, "headers": {"X-Key": {"env": "TOKEN"}}})
    async with running(ADAPTER.build(config, SourceContext("shop", clock)), clock) as (run, sink):
        assert sink.state == f"down: {server.url()}?... is not Prometheus text: it begins with <***>"
        assert server.requests[0].headers["Authorization"] == "Basic bWU6cGFzc3cwcmQ="
        assert server.requests[0].query_string == "key=qu3ry"
        await server.stop()
        await run.after(10)
    everything = " ".join([*sink.history, repr(config), str(config)])
    assert not [secret for secret in ("passw0rd", "qu3ry", "t0ken") if secret in everything]


async def test_a_host_that_does_not_resolve_is_named() -> None:
    clock = ManualClock()
    async with running(scrape("http://no-such-host.invalid/metrics", clock), clock) as (_, sink):
        assert sink.state == "down: http://no-such-host.invalid/metrics: the host name cannot be resolved"


async def test_scrapes_keep_their_rhythm_and_do_not_bunch_up_after_a_stall(server: Server) -> None:
    clock = ManualClock()
    async with running(scrape(server.url(), clock, interval=10.0), clock) as (run, sink):
        sink.hold()
        server.handler = text(f"{OK} 2\n")
        await run.idle()
        await clock.advance(10)
        await eventually(lambda: sink.waiting)
        await clock.advance(34)  # the sink was full for more than three intervals
        assert len(server.requests) == 2
        sink.release()
        await run.idle()
        assert len(server.requests) == 2
        await run.after(5.9)
        assert len(server.requests) == 2
        await run.after(0.1)
        assert len(server.requests) == 3


async def test_cancelling_closes_every_connection(server: Server) -> None:
    clock = ManualClock()
    async with running(scrape(server.url(), clock), clock) as (run, _):
        transport = server.requests[0].transport
        assert transport is not None
    assert run.task.cancelled()
    await eventually(transport.is_closing)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "ftp://x/"}, "no HTTP URL"),
        ({"url": "http://"}, "no HTTP URL"),
        ({"preset": "promethus"}, "there is no preset `promethus`; known: auto, istio"),
        ({"interval": "10ms"}, "interval"),
        ({"metrics": {"requests": "a_total"}}, "`requests` and `errors` need each other"),
        ({"metrics": {"latency": {"metric": "a", "where": {"x": "("}}}}, "no regular expression"),
        ({"preset": "envoy", "metrics": {"latency": "a"}}, "exclude each other"),
        ({"bearer": {"env": "A"}, "basic": {"username": "u", "password": {"env": "A"}}}, "exclude each other"),
        ({"headers": {"bad name": "x"}}, "no header name"),
        ({"headers": {"X": "a\r\nb"}}, "line break"),
        ({"max_byte": 1}, "max_byte"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("(", r"\(")):
        ScrapeConfig.model_validate({"url": "http://x/metrics", **settings})


# -- real expositions ------------------------------------------------------------------------------------

PROGRAM = """
import sys
from prometheus_client import Counter, Histogram, make_wsgi_app
from wsgiref.simple_server import WSGIRequestHandler, make_server

class Quiet(WSGIRequestHandler):
    def log_message(self, *args): pass

served = Counter("http_requests", "Requests.", ["code", "version"])
took = Histogram("http_request_duration_seconds", "Durations.", ["version"], buckets=(0.1, 1.0))
metrics = make_wsgi_app()

def app(environ, start):
    if environ["PATH_INFO"] == "/metrics":
        return metrics(environ, start)
    code = environ["PATH_INFO"][1:]
    served.labels(code, "v1").inc()
    took.labels("v1").observe(0.5)
    start("204 No Content", [])
    return [b""]

server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""


async def test_a_service_instrumented_with_prometheus_client_is_understood() -> None:
    """In plain text, and in OpenMetrics where the server insists on it."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        base = f"http://127.0.0.1:{port}"
        clock = ManualClock()
        openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with aiohttp.ClientSession() as client:
            for headers in ({}, openmetrics):
                async with running(scrape(f"{base}/metrics", clock, headers=headers), clock) as (run, sink):
                    for code in ("200", "404", "500"):
                        await (await client.get(f"{base}/{code}")).read()
                    await run.after(10)
                assert [(event.version, event.total, event.errors) for event in sink.of(Requests)] == [("v1", 3.0, 1.0)]
                assert [event.buckets for event in sink.of(Latency)] == [{"0.1": 0.0, "1": 3.0, "+Inf": 3.0}]
                assert {event.name for event in sink.of(Gauge)} >= {"memory_bytes", "cpu_cores", "open_fds"}
                assert (sink.drops, sink.invalid()) == ({}, [])
    finally:
        process.kill()
        await process.wait()


@pytest.mark.needs("prometheus")
async def test_prometheus_own_metrics_are_understood(tmp_path: Path, unused_tcp_port: int) -> None:
    (tmp_path / "p.yml").write_text("scrape_configs: []\n")
    base = f"http://127.0.0.1:{unused_tcp_port}"
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={tmp_path}/p.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{unused_tcp_port}",
        stderr=subprocess.DEVNULL,
    )
    own = {
        "requests": "prometheus_http_requests_total",
        "errors": {"metric": "prometheus_http_requests_total", "where": {"code": "5.."}},
        "latency": "prometheus_http_request_duration_seconds",
    }
    try:
        clock = ManualClock()
        async with running(scrape(f"{base}/metrics", clock, metrics=own), clock) as (run, sink):
            for _ in range(100):
                if sink.state == "up":
                    break
                await asyncio.sleep(0.1)
                await run.after(10)
            sink.events.clear()
            async with aiohttp.ClientSession() as client:
                for _ in range(3):
                    await (await client.get(f"{base}/api/v1/query?query=1")).read()
                    await (await client.get(f"{base}/api/v1/query?query=")).read()
            await run.after(10)
        assert sum(event.total for event in sink.of(Requests)) == 7.0  # six queries, and the scrape before
        assert {event.buckets["+Inf"] for event in sink.of(Latency)} == {7.0}
        assert (sink.drops, sink.invalid()) == ({}, [])
    finally:
        process.terminate()
        await process.wait()
