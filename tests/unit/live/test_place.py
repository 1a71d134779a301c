"""What the look at a target tells the engine: releases that nobody announced, and nothing that is not so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rollbackd.live.place import Place
from rollbackd.model import DeploymentEvent, Phase
from tests.support.clock import settle
from tests.unit.live.house import House
from tests.unit.live.test_rollbacks import Memory


class Shown:
    """One service, whose target is looked at again and again."""

    def __init__(self, house: House) -> None:
        self.house, self.target = house, Memory()
        self.target.version = "v1"
        self.place = Place("shop", "memory", self.target, house.engine, house.pipeline, house.clock, house.metrics)
        house.tasks.restarted("look", self.place.look)

    async def told(self, version: str, phase: Phase) -> None:
        """A deployment, as a pipeline posts it."""
        event = DeploymentEvent(t=self.house.clock.now(), service="shop", version=version, phase=phase)
        await self.house.pipeline.submit(event)
        self.place.deployment_seen()

    async def looked(self, seconds: float) -> None:
        """Time goes by, with looks in it, all of which reach the ledger."""
        for _ in range(int(seconds / 5)):
            await self.house.clock.advance(5)
            await self.house.pipeline.drain(5)
        await settle()

    async def watches(self) -> list[tuple[str, str, bool]]:
        """(version, how its watch stands, whether it is a rollback's), oldest first."""
        found = reversed(await self.house.ledger.deployments())
        return [(one.version, one.state, one.is_rollback) for one in found]


@asynccontextmanager
async def shown(home: Path) -> AsyncIterator[Shown]:
    async with House(home) as house:
        one = Shown(house)
        await one.looked(20)
        yield one


async def test_a_deployment_on_its_way_is_no_rollback_of_itself(tmp_path: Path) -> None:
    """It was told that it began; until it has come, the target shows what it replaces. It is watched once."""
    async with shown(tmp_path) as shop:
        await shop.told("v2", "started")
        await shop.looked(120)
        assert await shop.watches() == [("v1", "superseded", False), ("v2", "opened", False)]
        shop.target.version = "v2"
        await shop.told("v2", "finished")
        await shop.looked(60)
        assert await shop.watches() == [("v1", "superseded", False), ("v2", "opened", False)]


async def test_a_deployment_that_never_comes_does_not_become_good_unseen(tmp_path: Path) -> None:
    """Its bake is an hour: in the middle of it the release in place is taken for what it is."""
    async with shown(tmp_path) as shop:
        await shop.told("v2", "started")
        await shop.looked(1700)
        assert shop.house.engine.peek("shop").current == "v2"
        await shop.looked(200)
        assert shop.house.engine.peek("shop").current == "v1"
        assert (await shop.watches())[1:] == [("v2", "superseded", False), ("v1", "opened", True)]


async def test_what_undoes_a_finished_deployment_unannounced_is_found(tmp_path: Path) -> None:
    async with shown(tmp_path) as shop:
        shop.target.version = "v2"
        await shop.told("v2", "finished")
        await shop.looked(60)
        shop.target.version = "v1"
        await shop.looked(60)
        assert (await shop.watches())[1:] == [("v2", "superseded", False), ("v1", "opened", True)]
