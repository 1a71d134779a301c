"""Streams that others push: heard, silent, and heard again."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from rollbackd.live.pushed import SILENT_S, Pushed
from rollbackd.model import Log, Requests
from tests.support.clock import ManualClock


def sample(service: str = "checkout") -> Requests:
    return Requests(t=1.0, service=service, total=1, errors=0)


async def test_a_stream_is_up_while_it_is_heard_and_down_after_a_silence() -> None:
    clock = ManualClock()
    pushed = Pushed(lambda name: name == "checkout", clock)
    assert pushed.views("checkout") == []
    pushed.heard("remote_write", [sample(), sample()])
    began = clock.now()
    await clock.advance(SILENT_S)
    [view] = pushed.views("checkout")
    assert (view.name, view.state, view.events, view.since, view.reason) == ("remote_write", "up", 2, began, "")
    await clock.advance(60)
    [view] = pushed.views("checkout")
    assert (view.state, view.since) == ("down", began + SILENT_S)
    assert view.reason == "nothing was pushed for 6 min"
    pushed.heard("remote_write", [sample()])
    [view] = pushed.views("checkout")
    assert (view.state, view.since, view.events) == ("up", clock.now(), 3)


async def test_a_service_that_has_nothing_to_say_is_not_down() -> None:
    clock = ManualClock()
    pushed = Pushed(lambda _name: True, clock)
    pushed.heard("loki_push", [Log(t=1.0, service="checkout", level="info", message="started")])
    await clock.advance(10 * SILENT_S)
    assert [view.state for view in pushed.views("checkout")] == ["up"]


async def test_what_nobody_configured_is_not_remembered() -> None:
    pushed = Pushed(lambda name: name == "checkout", ManualClock())
    pushed.heard("remote_write", [sample(f"stranger-{n}") for n in range(1000)])
    assert pushed.views("stranger-1") == []
    assert not pushed._heard


async def test_its_metric_says_so_too() -> None:
    clock, registry = ManualClock(), CollectorRegistry()
    gauge = Gauge("up", "Whether it is heard.", ["service", "source"], registry=registry)
    pushed = Pushed(lambda _name: True, clock)
    pushed.heard("remote_write", [sample()])
    pushed.tell(["checkout"], gauge)
    labels = {"service": "checkout", "source": "remote_write"}
    assert registry.get_sample_value("up", labels) == 1
    await clock.advance(SILENT_S + 1)
    pushed.tell(["checkout"], gauge)
    assert registry.get_sample_value("up", labels) == 0
