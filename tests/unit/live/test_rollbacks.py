"""Decisions become rollbacks once, wait for a ledger that is out of order, and respect what holds by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from rollbackd.decide.policy import Policy
from rollbackd.errors import Permanent, Temporary
from rollbackd.ledger.base import ConfigStamp, Rollback, RollbackPlan, Snapshot, StoredDecision
from rollbackd.live.place import Place
from rollbackd.live.rollbacks import EngineVerifier, Rollbacks
from rollbackd.model import Decision, Release, Requests, decision_id, rollback_key
from rollbackd.rollback.executor import Executor, Limits
from rollbackd.targets.base import Readiness, RevertOrder, TargetChange
from tests.support.waiting import eventually, eventually_async
from tests.unit.live.house import House


class Memory:
    """A target that is nothing but a name in memory; `gate` holds its reverts up."""

    def __init__(self) -> None:
        self.version, self.reverts, self.gate = "v2", list[str](), asyncio.Event()
        self.broken = self.silent = False
        self.unready: dict[str, str] = {}
        self.gate.set()

    async def current(self) -> Release:
        if self.silent:
            raise Temporary("the target does not answer")
        return Release(version=self.version)

    async def history(self) -> list[Release]:
        return [Release(version="v2"), Release(version="v1")]

    async def readiness(self, to: str) -> Readiness:
        return Readiness(problems=(self.unready[to],) if to in self.unready else ())

    async def revert(self, order: RevertOrder) -> None:
        self.reverts.append(order.key)
        await self.gate.wait()
        if self.broken:
            raise Permanent("restart: exit code 1")
        self.version = order.to

    async def settled(self, to: str) -> bool:
        return self.version == to

    async def changes(self) -> AsyncIterator[TargetChange]:
        await asyncio.Event().wait()
        yield TargetChange(t=0.0, version="", previous=None, phase="started")

    async def close(self) -> None:
        return


def rollbacks_of(house: House, target: Memory) -> Rollbacks:
    """The rollbacks of a house with one service, whose target this is."""
    place = Place("shop", "memory", target, house.engine, house.pipeline, house.clock, house.metrics)
    return Rollbacks(
        house.ledger,
        Executor(house.ledger, house.clock, Limits()),
        EngineVerifier(house.engine, house.pipeline, house.clock),
        house.clock,
        house.tasks,
        house.metrics,
        policy_for=lambda _service: Policy(),
        mode_for=house._mode,
        place_for=lambda _service: place,
        on_end=lambda: None,
    )


def plan(house: House) -> RollbackPlan:
    return RollbackPlan(
        key="rollback-of-v2",
        service="shop",
        version="v2",
        to="v1",
        deployed_at=house.clock.now(),
        reason="it fails",
        requested_by="engine",
        decision_id=None,
        created_at=house.clock.now(),
    )


def decision(house: House) -> StoredDecision:
    made = Decision(
        t=house.clock.now(),
        service="shop",
        version="v2",
        action="rollback",
        to="v1",
        rule="alert",
        reason="it fails",
        deployed_at=house.clock.now() - 60,
    )
    return StoredDecision(id=decision_id(made), decision=made, config=ConfigStamp(sha256="x"), mode="act")


async def only(house: House) -> Rollback:
    (found,) = await house.ledger.rollbacks()
    return found


async def test_an_unfinished_rollback_touches_nothing_once_the_service_is_in_shadow_mode(tmp_path: Path) -> None:
    """The operator restarted the daemon to stop it from acting: people are told, and the target stays as it is."""
    async with House(tmp_path) as house:
        await house.ledger.open_rollback(plan(house))
        house.mode, target = "shadow", Memory()
        await rollbacks_of(house, target).resume()

        async def ended() -> bool:
            return (await only(house)).state == "escalated"

        await eventually_async(ended)
        assert "shop is in shadow mode by now" in (await only(house)).steps[-1].detail
        assert target.reverts == []


async def test_a_decision_that_never_became_a_rollback_is_taken_up_only_where_acting_is_allowed(tmp_path: Path) -> None:
    async with House(tmp_path) as house:
        snapshot = Snapshot(at=house.clock.now(), inbox_seq=0, format=1, state=b"")
        await house.ledger.record([decision(house)], [], snapshot)
        target = Memory()
        house.mode = "shadow"
        await rollbacks_of(house, target).resume()
        assert await house.ledger.rollbacks() == []
        house.mode = "act"
        await rollbacks_of(house, target).resume()
        await eventually(lambda: target.version == "v1")
        assert len(target.reverts) == 1


async def test_a_decision_waits_for_a_ledger_that_cannot_open_its_rollback(tmp_path: Path) -> None:
    """It says so meanwhile, and is carried out once."""
    async with House(tmp_path) as house:
        target = Memory()
        rollbacks = rollbacks_of(house, target)
        house.ledger.full = True
        waiting = asyncio.create_task(rollbacks.decided([decision(house)]))
        await eventually(lambda: rollbacks.problems)
        assert list(rollbacks.problems) == ["a rollback that was decided is not begun: the disk is full"]
        house.ledger.full = False
        for _ in range(40):
            await house.clock.advance(1)
        await waiting
        await eventually(lambda: target.version == "v1")
        assert not rollbacks.problems
        assert len(target.reverts) == 1


async def test_what_runs_when_the_daemon_stops_is_left_to_the_next_start(tmp_path: Path) -> None:
    """What is decided while it stops, too: it is journaled, and nothing of it is done."""
    async with House(tmp_path) as house:
        target = Memory()
        target.gate.clear()
        rollbacks = rollbacks_of(house, target)
        await rollbacks.open(plan(house))
        await eventually(lambda: target.reverts)
        await rollbacks.stop()
        assert (await only(house)).state == "reverting"
        await rollbacks.decided([decision(house)])
        assert [one.state for one in await house.ledger.rollbacks()].count("planned") == 1
        assert len(target.reverts) == 1
        target.gate.set()
        await rollbacks_of(house, target).resume()
        await eventually(lambda: target.version == "v1")


async def test_an_old_revert_is_not_told_as_news_where_a_third_release_is_in_place(tmp_path: Path) -> None:
    """After a restart in the middle of a verification, that would end the watch of what a human deployed since."""
    async with House(tmp_path) as house:
        for version, previous in (("v1", None), ("v2", "v1"), ("v3", "v2")):
            await house.pipeline.submit(house.deployed(version, previous))
            await house.clock.advance(10)
        await house.pipeline.drain(5)
        rollback, _ = await house.ledger.open_rollback(plan(house))
        verifier = EngineVerifier(house.engine, house.pipeline, house.clock)
        verifier.begun(rollback, house.clock.now())
        await house.pipeline.drain(5)
        peek = house.engine.peek("shop")
        assert peek.current == "v3"
        assert peek.watch is not None
        assert peek.watch.version == "v3"


async def escalated(house: House) -> Rollback:
    """The newest rollback, once it was given up."""

    async def done() -> bool:
        return (await house.ledger.rollbacks())[0].state == "escalated"

    await eventually_async(done)
    return (await house.ledger.rollbacks())[0]


async def test_an_operators_failed_attempt_does_not_stand_in_the_way_of_a_decision(tmp_path: Path) -> None:
    """The cause is cured meanwhile. Each is tried once, also where the daemon starts anew between them."""
    async with House(tmp_path) as house:
        made, target = decision(house), Memory()
        key = rollback_key("shop", "v2", made.decision.deployed_at)
        operators = msgspec.structs.replace(plan(house), key=key, requested_by="operator:alice")
        rollbacks = rollbacks_of(house, target)
        target.broken = True
        await rollbacks.open(operators)
        assert "exit code 1" in (await escalated(house)).steps[-1].detail
        target.broken = False
        await rollbacks.decided([made])
        await eventually(lambda: target.version == "v1")
        await house.ledger.record([made], [], Snapshot(at=house.clock.now(), inbox_seq=0, format=1, state=b""))
        await rollbacks.stop()
        await rollbacks_of(house, target).resume()
        assert len(await house.ledger.rollbacks()) == 2
        assert len(set(target.reverts)) == 2


async def test_a_decision_does_nothing_beside_an_operators_rollback_of_the_same_release(tmp_path: Path) -> None:
    async with House(tmp_path) as house:
        made, target = decision(house), Memory()
        key = rollback_key("shop", "v2", made.decision.deployed_at)
        target.gate.clear()
        rollbacks = rollbacks_of(house, target)
        await rollbacks.open(msgspec.structs.replace(plan(house), key=key, requested_by="operator:alice"))
        await eventually(lambda: target.reverts)
        with capture_logs() as logs:
            await rollbacks.decided([made])
        assert [one["requested_by"] for one in logs if one["event"] == "rollback_tried_before"] == ["operator:alice"]
        assert (await only(house)).plan.requested_by == "operator:alice"


@pytest.mark.parametrize("road", ["live", "after a start", "after a start, and opened already"])
async def test_what_was_decided_long_ago_is_told_and_not_carried_out(tmp_path: Path, road: str) -> None:
    """The ledger, or the daemon, was away for hours: nobody knows whether the service is still in trouble."""
    async with House(tmp_path) as house:
        made, target = decision(house), Memory()
        await house.ledger.record([made], [], Snapshot(at=house.clock.now(), inbox_seq=0, format=1, state=b""))
        if road == "after a start, and opened already":
            await house.ledger.open_rollback(plan(house))
        await house.clock.advance(3 * 3600)
        rollbacks = rollbacks_of(house, target)
        await (rollbacks.decided([made]) if road == "live" else rollbacks.resume())
        ended = await escalated(house)
        assert "this was asked for 180 min ago" in ended.steps[-1].detail
        assert target.reverts == []
        await rollbacks.resume()
        assert ended in await house.ledger.rollbacks(), "it is told once"


async def test_an_operators_rollback_to_a_stranger_is_not_well_while_the_service_fails_as_before(
    tmp_path: Path,
) -> None:
    """v3 was replaced before it was proven, so it is an ordinary deployment when it replaces v2; it is as bad as v2."""
    async with House(tmp_path) as house:

        async def traffic(seconds: int, failing: float) -> None:
            for _ in range(seconds // 10):
                await house.clock.advance(10)
                event = Requests(t=house.clock.now(), service="shop", total=10.0, errors=failing)
                await house.pipeline.submit(event)
            await house.pipeline.drain(5)

        await house.pipeline.submit(house.deployed("v1"))
        await traffic(4000, 0.0)
        await house.pipeline.submit(house.deployed("v2", "v1"))
        await traffic(10, 10.0)
        verifier = EngineVerifier(house.engine, house.pipeline, house.clock)
        rollback, _ = await house.ledger.open_rollback(msgspec.structs.replace(plan(house), to="v3"))
        verifier.begun(rollback, house.clock.now())
        seen = set()
        for _ in range(30):
            await traffic(10, 4.0)
            seen.add(verifier.verdict(rollback).verdict)
        assert "degraded" in seen
        assert "healthy" not in seen
