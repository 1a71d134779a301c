"""Decisions become rollbacks once, wait for a ledger that is out of order, and respect what holds by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from rollbackd.decide.policy import Policy
from rollbackd.ledger.base import ConfigStamp, Rollback, RollbackPlan, Snapshot, StoredDecision
from rollbackd.live.place import Place
from rollbackd.live.rollbacks import EngineVerifier, Rollbacks
from rollbackd.model import Decision, Release, decision_id
from rollbackd.rollback.executor import Executor, Limits
from rollbackd.targets.base import Readiness, RevertOrder, TargetChange
from tests.support.waiting import eventually, eventually_async
from tests.unit.live.house import House


class Memory:
    """A target that is nothing but a name in memory; `gate` holds its reverts up."""

    def __init__(self) -> None:
        self.version, self.reverts, self.gate = "v2", list[str](), asyncio.Event()
        self.gate.set()

    async def current(self) -> Release:
        return Release(version=self.version)

    async def history(self) -> list[Release]:
        return [Release(version="v2"), Release(version="v1")]

    async def readiness(self, to: str) -> Readiness:
        return Readiness()

    async def revert(self, order: RevertOrder) -> None:
        self.reverts.append(order.key)
        await self.gate.wait()
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
