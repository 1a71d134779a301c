"""What the look at a target tells the engine: releases that nobody announced, and nothing that is not so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.testing import capture_logs

from rollbackd.intake.base import Accepted
from rollbackd.live.announced import GRACE_S, HELD
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

    async def posted(self, version: str, phase: Phase = "finished") -> None:
        """The same through the inbox, as the API takes it."""
        event = DeploymentEvent(t=self.house.clock.now(), service="shop", version=version, phase=phase)
        accepted = Accepted(event=event, key=f"{version} {phase} {event.t}")
        (item,) = await self.house.ledger.accept([accepted], event.t)
        self.place.announced(item, event)

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


async def test_what_stands_in_the_way_is_told_before_there_is_a_second_release(tmp_path: Path) -> None:
    """The next release will be reverted to the one found at first sight: better known now than when it is bad."""
    async with shown(tmp_path) as shop:
        assert not shop.place.problems
        shop.target.unready = {"v1": "the program helm is missing"}
        await shop.looked(20)
        assert list(shop.place.problems) == ["the program helm is missing"]


class TestContradiction:
    """A deployment is announced as finished, and the target does not show it: the target wins."""

    async def test_it_is_no_deployment_and_nothing_undoes_it(self, tmp_path: Path) -> None:
        async with shown(tmp_path) as shop:
            with capture_logs() as logs:
                await shop.posted("abc123")
                await shop.looked(GRACE_S - 10)
                assert shop.place.contradiction is None, "the target may be slow to show it"
                await shop.looked(60)
            assert await shop.watches() == [("v1", "opened", False)]
            assert shop.place.contradiction is not None
            assert "abc123 was announced as deployed" in shop.place.contradiction
            assert "the target has v1 in place" in shop.place.contradiction
            (said,) = [entry for entry in logs if entry["event"] == "announcement_contradicted"]
            assert (said["version"], said["in_place"]) == ("abc123", "v1")
            shop.target.version = "v2"
            await shop.posted("v2")
            await shop.looked(20)
            assert shop.place.contradiction is None, "old news"

    async def test_a_target_that_is_slow_to_show_it_bears_it_out(self, tmp_path: Path) -> None:
        async with shown(tmp_path) as shop:
            told_at = shop.house.clock.now()
            await shop.posted("v2")
            await shop.looked(120)
            shop.target.version = "v2"
            await shop.looked(20)
            assert await shop.watches() == [("v1", "superseded", False), ("v2", "opened", False)]
            watch = shop.house.engine.peek("shop").watch
            assert watch is not None
            assert watch.deployed_at == told_at

    async def test_a_target_that_cannot_be_asked_contradicts_nothing(self, tmp_path: Path) -> None:
        async with shown(tmp_path) as shop:
            shop.target.silent = True
            await shop.posted("v2")
            await shop.looked(20)
            assert shop.house.engine.peek("shop").current == "v2"

    async def test_without_a_target_the_announcement_is_all_there_is(self, tmp_path: Path) -> None:
        async with House(tmp_path) as house:
            place = Place("shop", None, None, house.engine, house.pipeline, house.clock, house.metrics)
            event = house.deployed("v2")
            (item,) = await house.ledger.accept([Accepted(event=event, key="one")], event.t)
            place.announced(item, event)
            await house.pipeline.drain(5)
            assert house.engine.peek("shop").current == "v2"

    async def test_one_that_began_is_not_asked_after(self, tmp_path: Path) -> None:
        async with shown(tmp_path) as shop:
            await shop.posted("v2", "started")
            await shop.looked(5)
            assert shop.house.engine.peek("shop").current == "v2"

    async def test_one_that_was_replaced_before_a_look_is_passed_over(self, tmp_path: Path) -> None:
        async with shown(tmp_path) as shop:
            await shop.posted("v2")
            shop.target.version = "v3"
            await shop.posted("v3")
            await shop.looked(GRACE_S + 60)
            assert await shop.watches() == [("v1", "superseded", False), ("v3", "opened", False)]
            assert shop.place.contradiction is None

    async def test_a_held_one_outlives_a_restart(self, tmp_path: Path) -> None:
        async with shown(tmp_path) as shop:
            await shop.posted("v2")
            await shop.looked(30)
            await shop.house.pipeline.commit()
        async with House(tmp_path) as house:
            waiting = await house.pipeline.restore()
            assert [item.event.service for item in waiting] == ["shop"]

    async def test_of_many_the_oldest_are_forgotten(self, tmp_path: Path) -> None:
        async with shown(tmp_path) as shop:
            with capture_logs() as logs:
                for number in range(HELD + 1):
                    await shop.posted(f"guess-{number}")
            assert [one["version"] for one in logs if one["event"] == "announcement_overtaken"] == ["guess-0"]
            shop.target.version = f"guess-{HELD}"
            await shop.looked(20)
            assert shop.house.engine.peek("shop").current == f"guess-{HELD}"
