"""kill -9 of the whole daemon at every journal step: after the next start the rollback ends once, and right."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from rollbackd.rollback.states import legal_journal
from tests.support.live import LiveDaemon, Site
from tests.support.waiting import eventually_async

STATES = ("preflight", "reverting", "reverted", "verifying", "verified")
POINTS = ["after planned", *(f"{when} {state}" for state in STATES for when in ("before", "after"))]


async def verified_once(daemon: LiveDaemon, site: Site) -> None:
    """The rollback of v2 to v1 ended once, and right."""

    async def done() -> bool:
        found = await daemon.rollbacks()
        return bool(found) and found[0].state in ("verified", "escalated")

    await eventually_async(done)
    (rollback,) = await daemon.rollbacks()
    assert rollback.state == "verified", rollback.steps
    assert legal_journal(rollback.steps)
    assert (rollback.version, rollback.to) == ("v2", "v1")
    assert site.in_place == "v1"
    assert site.restarts == ["v1"], "the restart command ran once, on the release put back"


@pytest.mark.parametrize("point", POINTS)
async def test_a_rollback_survives_kill_at_every_journal_step(tmp_path: Path, point: str) -> None:
    """The daemon is killed where the parameter says, and started again."""
    site = Site(tmp_path)
    async with LiveDaemon(site, point) as daemon:
        await daemon.ready()
        await daemon.until_watching("v1")
        site.deploy("v2")
        await daemon.until_watching("v2")
        with suppress(aiohttp.ClientError):  # it may die before it answers
            code, answer = await daemon.post("/api/v1/services/shop/rollback", {"reason": "test"})
            assert code < 300, answer
        assert await daemon.died() == -signal.SIGKILL
    async with LiveDaemon(site) as again:
        await again.ready()
        await verified_once(again, site)


@pytest.mark.parametrize("point", ["before decision", "after decision", "before planned", "after planned"])
async def test_a_decision_survives_kill_around_its_being_written_down(tmp_path: Path, point: str) -> None:
    """Whether the decision reached the disk or not: it is made, or made again, and carried out once."""
    site = Site(tmp_path)
    async with LiveDaemon(site, point) as daemon:
        await daemon.ready()
        await daemon.until_watching("v1")
        site.deploy("v2")
        await daemon.until_watching("v2")
        await daemon.alert("firing")
        assert await daemon.died() == -signal.SIGKILL
    async with LiveDaemon(site) as again:
        await again.ready()

        async def reverted() -> bool:
            return site.in_place == "v1"

        await eventually_async(reverted)
        await again.alert("resolved")
        await verified_once(again, site)
        assert [one.decision.action for one in await again.decisions()] == ["rollback"]


async def test_a_watch_goes_on_after_kill_in_the_middle_of_its_bake(tmp_path: Path) -> None:
    """The same deployment is watched on, not a new one, and what is known to be good stays known."""
    site = Site(tmp_path)
    async with LiveDaemon(site) as daemon:
        await daemon.ready()
        await daemon.until_watching("v1")
        site.deploy("v2")
        await daemon.until_watching("v2")
        before = (await daemon.shop()).watch
        daemon.process.kill()
        await daemon.died()
    async with LiveDaemon(site) as again:
        await again.ready()
        await again.until_watching("v2")
        after = (await again.shop()).watch
    assert before is not None
    assert after is not None
    assert (after.deployed_at, after.previous) == (before.deployed_at, "v1")
