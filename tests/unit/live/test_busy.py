"""A pipeline that is given more than it should get: nothing else waits for it, and no place is taken from others."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rollbackd import registry
from rollbackd.errors import Temporary
from rollbackd.intake.base import Accepted, Reading
from rollbackd.ledger.base import InboxItem
from rollbackd.live import pipeline
from rollbackd.live.backend import LiveBackend
from rollbackd.live.fleet import Fleet
from rollbackd.live.pushed import Pushed
from rollbackd.model import Alert, DeploymentEvent, Probe
from tests.unit.live.house import House
from tests.unit.live.test_rollbacks import Memory, rollbacks_of


def told(name: str, seq: int) -> InboxItem:
    """A deployment of a service, as it comes in a delivery."""
    event = DeploymentEvent(t=1.0, service=name, version="v1", phase="finished")
    return InboxItem(seq=seq, event=event, key=str(seq), received_at=0.0)


async def test_names_that_nobody_configured_get_no_task_each(tmp_path: Path) -> None:
    """They are judged all the same, and what they leave behind ends when it is idle."""
    async with House(tmp_path, configured=lambda name: name == "shop") as house:
        before = len(asyncio.all_tasks())
        house.pipeline.submit_accepted(told("shop", 1))
        for seq in range(2, 100):
            house.pipeline.submit_accepted(told(f"stranger-{seq}", seq))
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == before + 2
        await house.pipeline.drain(5)
        assert house.engine.peek("stranger-99").current == "v1"
        house.pipeline.sweep()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == before + 1
        assert not house.tasks.failed.done()
        house.pipeline.submit_accepted(told("stranger-100", 100))
        await house.pipeline.drain(5)
        assert house.engine.peek("stranger-100").current == "v1"


async def test_a_lane_ends_once_its_service_is_no_longer_configured(tmp_path: Path) -> None:
    configured = {"shop"}
    async with House(tmp_path, configured=lambda name: name in configured) as house:
        before = len(asyncio.all_tasks())
        await house.pipeline.submit(house.deployed("v1"))
        await house.pipeline.drain(5)
        configured.clear()
        house.pipeline.sweep()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == before


async def test_a_configured_service_finds_a_place_where_strangers_no_longer_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused is counted, said once, and neither recorded as fed nor waited for."""
    monkeypatch.setattr(pipeline, "MAX_STRANGERS", 3)
    async with House(tmp_path, configured=lambda name: name == "shop") as house:
        with capture_logs() as logs:
            for seq in range(1, 7):
                house.pipeline.submit_accepted(told(f"stranger-{seq}", seq))
            await house.pipeline.drain(5)
        assert [one["first"] for one in logs if one["event"] == "services_refused"] == ["stranger-4"]
        assert house.sample("rollbackd_events_refused_total") == 3
        house.pipeline.submit_accepted(told("shop", 7))
        await house.pipeline.drain(5)
        assert house.engine.peek("shop").current == "v1"
        await house.pipeline.commit()
        snapshot = await house.ledger.load_snapshot()
        assert snapshot is not None
        assert snapshot.inbox_seq == 7


async def test_a_flood_of_events_keeps_nothing_else_waiting(tmp_path: Path) -> None:
    """Ten thousand alerts in one delivery: others get their turn at least every so many of them."""
    async with House(tmp_path) as house:
        for seq in range(1, 10_001):
            event = Alert(t=float(seq), service="shop", name=f"a{seq % 50}", status="firing", severity="page")
            house.pipeline.submit_accepted(InboxItem(seq=seq, event=event, key=str(seq), received_at=0.0))
        turns, longest = 0, 0.0
        while house.sample("rollbackd_queued_events"):
            began = time.thread_time()
            await asyncio.sleep(0)
            turns, longest = turns + 1, max(longest, time.thread_time() - began)
        assert turns >= 10_000 / pipeline.YIELD_EVERY
        assert longest < 0.25


async def test_a_source_waiting_for_room_is_not_forgotten_by_the_sweep(tmp_path: Path) -> None:
    """A service that has just left the configuration may still hand in what it had begun to."""
    configured = {"shop"}
    async with House(tmp_path, configured=lambda name: name in configured) as house:
        probes = [Probe(t=float(t), service="shop", up=True, duration=0.1) for t in range(pipeline.QUEUE_EVENTS + 5)]
        handed = [asyncio.create_task(house.pipeline.submit(one)) for one in probes]
        await asyncio.sleep(0)
        configured.clear()
        while not all(one.done() for one in handed):
            house.pipeline.sweep()
            await asyncio.sleep(0)
        await house.pipeline.drain(5)
        assert house.registry.get_sample_value("rollbackd_events_total", {"type": "probe"}) == len(probes)


async def test_a_delivery_is_asked_to_come_again_while_too_many_events_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before it is kept, so that its sender knows, and taken once there is room."""
    monkeypatch.setattr(pipeline, "PUSHED_EVENTS", 3)
    async with House(tmp_path) as house:
        backend = backend_of(house, tmp_path)
        events = [DeploymentEvent(t=1.0, service="shop", version=f"v{n}", phase="started") for n in range(4)]
        first, second = ([Accepted(event=one, key=f"{half}-{one.version}") for one in events] for half in "ab")
        await backend.deliver("deployments", Reading(accepted=tuple(first)), 1.0, "ci")
        with pytest.raises(Temporary, match="too many pushed events") as refusal:
            await backend.deliver("deployments", Reading(accepted=tuple(second)), 1.0, "ci")
        assert refusal.value.retry_after
        assert len(await house.ledger.inbox_after(0)) == 4
        await house.pipeline.drain(5)
        told = await backend.deliver("deployments", Reading(accepted=tuple(second)), 1.0, "ci")
        assert told.accepted == 4


def backend_of(house: House, home: Path) -> LiveBackend:
    """The daemon of this house, as the web application sees it, without any service."""
    fleet = Fleet(registry, house.engine, house.pipeline, house.clock, house.tasks, house.metrics, home)
    return LiveBackend(
        house.engine,
        house.ledger,
        house.pipeline,
        fleet,
        rollbacks_of(house, Memory()),
        Pushed(lambda _service: False, house.clock),
        house.clock,
        stamp=lambda: house.stamp,
        mode_for=house._mode,
        config_problem=lambda: None,
        more_problems=lambda: (),
    )
