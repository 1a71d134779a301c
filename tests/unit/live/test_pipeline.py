"""The road from events to the ledger: what it does when a rule breaks, the disk is full or the clock was set back."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rollbackd.detect.availability import Availability
from rollbackd.errors import Temporary
from rollbackd.intake.base import Accepted
from rollbackd.ledger.base import ConfigStamp
from rollbackd.model import Alert, AnyEvent, Probe, Requests
from rollbackd.recording import Recorder, read
from tests.support.clock import ManualClock
from tests.support.waiting import eventually
from tests.unit.live.house import House


async def test_an_event_that_breaks_a_rule_stops_no_other_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is shown at the service, and a pushed event does not come back with it after a restart."""

    def broken(_self: Availability, event: AnyEvent, _scene: object) -> None:
        if isinstance(event, Probe) and event.service == "shop":
            raise ZeroDivisionError

    monkeypatch.setattr(Availability, "observe", broken)
    async with House(tmp_path) as house:
        await house.pipeline.submit(house.deployed("v1"))
        await house.pipeline.submit(house.deployed("v1", service="blog"))
        probes = [Probe(t=house.clock.now() + 1, service=name, up=True, duration=0.1) for name in ("shop", "blog")]
        for item in await house.ledger.accept([Accepted(event=one, key=one.service) for one in probes], 0.0):
            house.pipeline.submit_accepted(item)
        await house.pipeline.drain(5)
        await house.pipeline.commit()
        assert house.pipeline.faults("shop") == ("an event could not be judged (ZeroDivisionError), the log says more",)
        assert house.pipeline.faults("blog") == ()
        assert not house.tasks.failed.done()
    async with House(tmp_path) as again:
        assert await again.pipeline.restore() == []
        assert again.engine.open_watches == 2


async def test_a_decision_is_kept_under_the_configuration_it_was_made_under(tmp_path: Path) -> None:
    """Also where the disk was full until after a reload."""
    async with House(tmp_path) as house:
        await house.pipeline.submit(house.deployed("v1"))
        await house.pipeline.drain(5)
        await house.clock.advance(10)
        await house.pipeline.submit(house.deployed("v2", "v1"))
        await house.pipeline.drain(5)
        house.ledger.full = True
        began = house.clock.now() + 1
        await house.pipeline.submit(Alert(t=began, service="shop", name="Bad", status="firing", severity="critical"))
        await house.pipeline.submit(Probe(t=began + 200, service="shop", up=True, duration=0.1))
        await eventually(lambda: house.pipeline.problem is not None)
        assert house.acted == []
        house.stamp, house.mode, house.ledger.full = ConfigStamp(sha256="second"), "shadow", False
        for _ in range(40):
            await house.clock.advance(1)
        await eventually(lambda: house.acted)
        (decision,) = house.acted
        assert (decision.config.sha256, decision.mode, decision.decision.action) == ("first", "act", "rollback")
        assert await house.ledger.decisions() == [decision]
        assert house.pipeline.problem is None


async def test_what_several_services_led_to_at_once_is_written_together(tmp_path: Path) -> None:
    """The first takes what it finds; the others, which waited for their turn, need no write of their own."""
    async with House(tmp_path) as house:
        for service in ("shop", "blog", "mail", "wiki"):
            house.pipeline.submit_now(house.deployed("v1", service=service))
        await house.pipeline.drain(5)
        assert len(await house.ledger.deployments()) == 4
        assert house.ledger.writes < 4


async def test_a_doubt_about_the_ledger_lasts_until_a_write_succeeds(tmp_path: Path) -> None:
    """Without any event that would have to be written."""
    async with House(tmp_path) as house:
        house.ledger.full = True
        house.pipeline.doubt(Temporary("the disk is full"))
        house.pipeline.doubt(Temporary("the disk is full"))
        assert house.pipeline.problem == "the disk is full"
        assert house.sample("rollbackd_ledger_up") == 0
        await house.clock.advance(5)
        assert house.pipeline.problem == "the disk is full"
        house.ledger.full = False
        for _ in range(40):
            await house.clock.advance(1)
        await eventually(lambda: house.pipeline.problem is None)
        assert house.sample("rollbackd_ledger_up") == 1


async def test_a_recording_that_cannot_be_written_is_said_once_and_counted(tmp_path: Path) -> None:
    recording = tmp_path / "folder" / "events.jsonl"
    recording.parent.write_text("a file where the folder should be")
    recorder = Recorder(recording)
    async with House(tmp_path, recorder=recorder) as house:
        with capture_logs() as logs:
            for number in range(3):
                await house.pipeline.submit(Probe(t=float(number), service="shop", up=True, duration=0.1))
            await house.pipeline.drain(5)
            recording.parent.unlink()
            await house.pipeline.submit(Probe(t=3.0, service="shop", up=True, duration=0.1))
            await house.pipeline.drain(5)
        recorder.close()
        assert [one["event"] for one in logs if "recording" in one["event"]] == ["recording_fails", "recording_resumed"]
        assert house.sample("rollbackd_recording_lost_total") == 3


async def test_an_event_that_cannot_be_recorded_is_counted_and_judged_all_the_same(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "events.jsonl")
    async with House(tmp_path, recorder=recorder) as house:
        await house.pipeline.submit(house.deployed("v1"))
        await house.pipeline.submit(Alert(t=1.0, service="shop", name="Bad", status="firing", severity="x" * 501))
        await house.pipeline.drain(5)
        assert not house.tasks.failed.done()
        assert house.sample("rollbackd_recording_lost_total") == 1
        assert house.registry.get_sample_value("rollbackd_events_total", {"type": "alert"}) == 1
    recorder.close()
    assert len(list(read(tmp_path / "events.jsonl"))) == 1


async def test_an_engine_ahead_of_the_clock_begins_anew_with_what_is_known_to_be_good(tmp_path: Path) -> None:
    """Its time never runs back, so it would stand still until the clock has caught up."""
    async with House(tmp_path) as house:
        await house.pipeline.submit(house.deployed("v1"))
        await house.pipeline.drain(5)
        await house.pipeline.commit()
    earlier = ManualClock(house.clock.now() - 3600)
    async with House(tmp_path, clock=earlier) as again:
        with capture_logs() as logs:
            await again.pipeline.restore()
        assert "the clock was set back by 3600 s" in logs[0]["error"]
        assert again.engine.open_watches == 0
        assert again.engine.peek("shop").current == "v1"
        await again.pipeline.submit(again.deployed("v2", "v1"))
        await again.pipeline.drain(5)
        assert again.engine.open_watches == 1


async def test_without_a_snapshot_services_come_back_in_the_order_of_their_deployments(tmp_path: Path) -> None:
    """The order of a set differs from process to process, and with it the order in which services are asked around."""
    names = [f"service-{number}" for number in range(20)]
    async with House(tmp_path) as house:
        for name in names:
            await house.pipeline.submit(house.deployed("v1", service=name))
            await house.clock.advance(1)
        await house.pipeline.drain(5)
    async with House(tmp_path, clock=ManualClock(house.clock.now() - 3600)) as again:
        await again.pipeline.restore()
        assert list(again.engine._state.services) == names[::-1]


async def test_a_source_is_told_up_to_when_requests_are_known_or_wait_to_be(tmp_path: Path) -> None:
    """Over a restart, too: what came before is in the snapshot, and is not to be read again."""
    async with House(tmp_path) as house:
        at = house.clock.now()
        assert house.pipeline.counted_until("shop") is None
        await house.pipeline.submit(Probe(t=at + 9, service="shop", up=True, duration=0.1))
        await house.pipeline.submit(Requests(t=at - 60, service="shop", total=9, errors=0))
        await house.pipeline.submit(Requests(t=at - 30, service="shop", total=9, errors=0))
        assert house.pipeline.counted_until("shop") == at - 30
        assert house.engine.counted_until("shop") is None, "it is in the queue yet"
        await house.pipeline.drain(5)
        assert house.engine.counted_until("shop") == at - 30
        await house.pipeline.commit()
    async with House(tmp_path) as again:
        await again.pipeline.restore()
        assert again.pipeline.counted_until("shop") == at - 30
        assert again.pipeline.counted_until("blog") is None
