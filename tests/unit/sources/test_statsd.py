"""The statsd source, with a real client library and raw packets of others."""

from __future__ import annotations

import contextlib
import socket
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import statsd  # type: ignore[import-untyped]  # it comes without types
from pydantic import ValidationError

from rollbackd.model import AnyEvent, Gauge, Latency, Requests
from rollbackd.sources import statsd as source_module
from rollbackd.sources.base import Commons, SourceContext
from rollbackd.sources.statsd import ADAPTER, StatsdConfig
from tests.support.clock import ManualClock
from tests.support.servers import Run, running
from tests.support.sink import RecordingSink

INTERVAL = 10.0
OWN = {"requests": "requests", "errors": {"metric": "requests", "where": {"status": "5.."}}, "latency": "took"}


class Here:
    """A source that listens on a free port of loopback."""

    def __init__(self, port: int) -> None:
        self.clock, self.port, self.commons = ManualClock(), port, Commons()

    @contextlib.asynccontextmanager
    async def source(self, service: str = "shop", **settings: object) -> AsyncIterator[tuple[Run, RecordingSink]]:
        config = StatsdConfig.model_validate({"listen": f"udp://127.0.0.1:{self.port}", "metrics": OWN, **settings})
        built = ADAPTER.build(config, SourceContext(service, self.clock, commons=self.commons))
        async with running(built, self.clock) as (run, sink):
            yield run, sink

    def send(self, *packets: str | bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for packet in packets:
                data = packet.encode() if isinstance(packet, str) else packet
                sender.sendto(data, ("127.0.0.1", self.port))


@pytest.fixture
def here(unused_udp_port: int) -> Here:
    return Here(unused_udp_port)


def totals(sink: RecordingSink) -> list[tuple[str | None, float, float]]:
    return [(event.version, event.total, event.errors) for event in sink.of(Requests)]


async def test_what_a_real_client_sends_is_added_up(here: Here) -> None:
    gauges = {"gauges": {"queue": "jobs"}}
    names = {"requests": "requests", "errors": "failures", "latency": "took", **gauges}
    async with here.source(metrics=names) as (run, sink):
        client = statsd.StatsClient("127.0.0.1", here.port, prefix="shop")
        for number in range(20):
            client.incr("requests")
            client.timing("took", 10 + number)
        client.incr("failures", 3)
        client.gauge("jobs", 5)
        client.gauge("jobs", 2, delta=True)
        client.set("users", "me")
        with client.pipeline() as pipe:
            pipe.incr("requests", 5)
            pipe.timing("took", 1500)
        client.close()
        await run.after(INTERVAL)
        [counted], [timed], [level] = sink.of(Requests), sink.of(Latency), sink.of(Gauge)
        assert (counted.total, counted.errors, counted.t) == (25, 3, here.clock.now())
        assert (timed.buckets["0.01"], timed.buckets["0.03"], timed.buckets["+Inf"]) == (1, 20, 21)
        assert (level.name, level.value) == ("queue", 7)
        await run.after(INTERVAL)
        assert len(sink.events) == 3, "silence is no data"
    assert (sink.history, sink.drops, sink.invalid()) == (["up"], {"set": 1}, [])


async def test_a_real_client_over_a_unix_socket(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "statsd.sock"
    async with here.source(listen=f"unix://{path}") as (run, sink):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"shop.requests:1|c\n", str(path))
        await run.after(INTERVAL)
        assert totals(sink) == [(None, 1, 0)]


async def test_sample_rates_of_a_real_client_are_honoured(here: Here) -> None:
    async with here.source() as (run, sink):
        client = statsd.StatsClient("127.0.0.1", here.port, prefix="shop")
        for _ in range(2000):
            client.incr("requests", rate=0.1)
        client.close()
        await run.after(INTERVAL)
    [(_, total, _)] = totals(sink)
    assert 1500 < total < 2500


async def test_dogstatsd_packets_are_split_by_version(here: Here) -> None:
    async with here.source() as (run, sink):
        here.send(
            "requests:1|c|#service:shop,version:v1,status:200\nrequests:2:3|c|#service:shop,version:v2,status:500|c:abc",
            "took:12:13|d|@0.5|#service:shop,version:v2\r\n_sc|up|0|#service:shop\n_e{1,1}:a|b\n",
        )
        await run.after(INTERVAL)
        assert totals(sink) == [("v1", 1, 0), ("v2", 5, 5)]
        assert [(event.version, event.buckets["+Inf"]) for event in sink.of(Latency)] == [("v2", 4)]


async def test_services_share_a_port_and_the_last_one_closes_it(here: Here) -> None:
    async with here.source("shop") as (run, shop), here.source("cart", interval=5.0) as (_, cart):
        here.send("shop.requests:1|c", "requests:2|c|#service:cart", "other.requests:9|c", b"\xff\xfe")
        await run.after(INTERVAL)
        await run.idle()
        assert (totals(shop), totals(cart)) == ([(None, 1, 0)], [(None, 2, 0)])
        assert shop.drops == cart.drops == {"other_sender": 1, "malformed": 1}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", here.port))


async def test_a_port_that_is_taken_is_a_gap(here: Here) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", here.port))
        async with here.source() as (run, sink):
            assert sink.state == f"down: cannot listen on udp://127.0.0.1:{here.port}: Address already in use"
            other.close()
            await run.after(INTERVAL)
            assert sink.state == "up"


async def test_counts_of_an_interval_with_losses_are_not_used(here: Here) -> None:
    """Too few of them would look like lost traffic."""
    async with here.source() as (run, sink):
        here.send(*(["shop.requests:1|c|#pad:" + "x" * 8000] * 20_000))
        await here.clock.advance(0)
        for _ in range(200):
            await here.clock.advance(0)
        await run.after(INTERVAL)
        assert sink.of(Requests) == []
        assert sink.state.startswith("down: the kernel dropped ")
        assert sink.drops["receive_buffer_full"] > 0
        here.send("shop.requests:1|c")
        await run.after(INTERVAL)
        assert (totals(sink), sink.state) == ([(None, 1, 0)], "up")


async def test_memory_is_flat_while_tags_change(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "REMEMBERED", 500)
    async with here.source() as (run, sink):
        sizes = []
        tracemalloc.start()
        try:
            for turn in range(6):
                for batch in range(10):
                    here.send(
                        *(f"shop.requests:1|c|#request:{turn}-{batch}-{number}" for number in range(200)),
                    )
                    await run.after(INTERVAL / 10)
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        await run.after(INTERVAL)
    assert sum(total for _, total, _ in totals(sink)) == 12_000
    assert sizes[-1] < sizes[1] + 300_000


async def test_counts_wait_while_the_queue_is_full(here: Here) -> None:
    async with here.source() as (run, sink):
        sink.hold()
        here.send("shop.requests:1|c")
        await here.clock.advance(INTERVAL)
        here.send("shop.requests:2|c")
        await here.clock.advance(INTERVAL)
        sink.release()
        await run.idle()
        await run.after(INTERVAL)
    assert totals(sink) == [(None, 1, 0), (None, 2, 0)]


def kinds(events: list[AnyEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_without_settings_a_gunicorn_is_understood(here: Here) -> None:
    async with here.source(metrics=None) as (run, sink):
        here.send(
            "shop.gunicorn.request.duration:12.1|ms",
            "shop.gunicorn.requests:1|c|@1.0",
            "shop.gunicorn.request.status.500:1|c|@1.0",
            "shop.gunicorn.workers:4|g",
        )
        await run.after(INTERVAL)
        assert totals(sink) == [(None, 1, 1)]
        assert kinds(sink.events) == ["Requests", "Latency"]
        here.send("shop.gunicorn.workers:4|g")
        await run.after(INTERVAL)
        assert totals(sink)[1:] == [(None, 0, 0)], "it speaks, and has served nobody"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"listen": "tcp://127.0.0.1:1"}, "StatsD comes in datagrams"),
        ({"preset": "nobody"}, "no preset `nobody`"),
        ({"preset": "kong", "metrics": {"latency": "x"}}, "exclude each other"),
        ({"metrics": {"requests": "x"}}, "`requests` and `errors` need each other"),
        ({"metrics": {"requests": "x", "errors": {"metric": "x", "where": {"a": "["}}}}, "no regular expression"),
        ({"max_loss": 2}, "max_loss"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StatsdConfig.model_validate(settings)
