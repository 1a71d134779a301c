"""Each road by which trouble reaches the daemon: it is caught, reverted and proven; what is good is left alone."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from rollbackd.rollback.states import legal_journal
from tests.support.inside import Inside, Shop
from tests.support.waiting import eventually, eventually_async

ROADS = {"errors": "error_ratio", "probe": "availability", "logs": "log_signature", "alert": "alert"}


async def revert_of_v2(daemon: Inside, shop: Shop) -> None:
    """Deploy v2, which is bad, and see v1 back in its place."""
    await daemon.until_known()
    shop.deploy("v2")
    await daemon.until_watching("v2")
    await eventually(lambda: shop.in_place == "v1")


def committed(file: Path) -> str:
    """The commit of a new work tree that holds this file."""
    git = ["git", "-C", str(file.parent), "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", file.name], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("fault", ROADS)
async def test_a_bad_release_is_caught_reverted_and_proven(tmp_path: Path, fault: str) -> None:
    """The service fails in one way alone; the decision names the rule of that road."""
    async with Shop(tmp_path, faults={"v2": fault}) as shop, Inside(tmp_path, shop.block()) as daemon:
        await daemon.until_known()
        shop.deploy("v2")
        await daemon.until_watching("v2")
        if fault == "alert":
            await daemon.alert("firing")
            await eventually(lambda: shop.in_place == "v1")
            await daemon.alert("resolved")
        rollback = await daemon.ended()
        assert (rollback.state, rollback.version, rollback.to) == ("verified", "v2", "v1"), rollback.steps
        assert legal_journal(rollback.steps)
        (told,) = await daemon.decisions()
        assert (told.decision.action, told.decision.to, told.decision.rule) == ("rollback", "v1", ROADS[fault])
        assert rollback.decision_id == told.id
        assert shop.in_place == "v1"
        assert shop.restarts == ["v1"]
        undone = next(one for one in await daemon.deployments() if one.version == "v2")
        assert (undone.state, undone.standing, undone.rollback_id) == ("condemned", "bad", rollback.id)
        assert undone.decision_ids == (told.id,)
        assert (await daemon.shop()).verdict == "healthy"


async def test_a_good_release_bakes_and_becomes_the_last_known_good_one(tmp_path: Path) -> None:
    """And the next bad one is taken back to it, not to the release before."""
    async with Shop(tmp_path, faults={"v3": "errors"}) as shop, Inside(tmp_path, shop.block(bake="15s")) as daemon:
        await daemon.until_known()
        shop.deploy("v2")
        await daemon.until_watching("v2")

        async def good() -> bool:
            return (await daemon.shop()).last_known_good == "v2"

        await eventually_async(good)
        assert (await daemon.shop()).watch is None
        assert await daemon.decisions() == []
        shop.deploy("v3")
        assert (await daemon.ended()).to == "v2"
        assert shop.in_place == "v2"


async def test_trouble_in_the_moments_before_a_deployment_is_seen_is_no_baseline(tmp_path: Path) -> None:
    """A target that is looked at rarely sees a deployment late; what failed meanwhile was the new release already."""
    async with Shop(tmp_path) as shop:
        target = f'{{release_dir: {{path: {shop.folder}, restart: "sh {shop.restart}", poll: 10s}}}}'
        async with Inside(tmp_path, shop.block(target=target)) as daemon:
            await daemon.until_known(looks=20)
            shop.deploy("v2")
            assert (await daemon.ended()).state == "verified"
            (told,) = await daemon.decisions()
            found = next(one for one in told.decision.evidence if one.rule == "error_ratio")
            assert found.baseline == 0.0, found


async def test_a_decision_is_kept_with_the_configuration_and_the_commit_it_was_made_under(tmp_path: Path) -> None:
    async with Shop(tmp_path) as shop:
        inside = Inside(tmp_path, shop.block())
        head = committed(inside.config)
        async with inside as daemon:
            await revert_of_v2(daemon, shop)
            (told,) = await daemon.decisions()
            assert told.config.sha256 == hashlib.sha256(inside.config.read_bytes()).hexdigest()
            assert told.config.commit == head
            assert (await daemon.status()).config == told.config


async def test_shadow_mode_decides_and_touches_nothing(tmp_path: Path) -> None:
    async with Shop(tmp_path) as shop, Inside(tmp_path, shop.block(mode="shadow")) as daemon:
        await daemon.until_known()
        shop.deploy("v2")

        async def decided() -> bool:
            return bool(await daemon.decisions())

        await eventually_async(decided)
        (told,) = await daemon.decisions()
        assert (told.mode, told.decision.action, told.decision.to) == ("shadow", "rollback", "v1")

        async def looked_up() -> bool:
            return (await daemon.shop()).decision_id == told.id

        await eventually_async(looked_up)
        status, answer = await daemon.post("/api/v1/services/shop/rollback", {})
        assert (status, answer["error"]) == (409, "refused")
        assert "shadow mode" in answer["message"]
        assert await daemon.rollbacks() == []
        assert (shop.in_place, shop.restarts) == ("v2", [])


async def test_deployments_told_over_http_are_watched_as_well(tmp_path: Path) -> None:
    """A service without a target: trouble is told, and nobody is left in doubt why nothing was done."""
    async with Shop(tmp_path) as shop, Inside(tmp_path, shop.block(target=None)) as daemon:

        async def polled() -> bool:
            return min(one.events for one in (await daemon.shop()).sources) > 12

        await eventually_async(polled)
        for version in ("v1", "v2"):
            shop.deploy(version)
            status, _ = await daemon.post("/api/v1/deployments", {"service": "shop", "version": version})
            assert status == 200
            await daemon.until_watching(version)

        async def decided() -> bool:
            return bool(await daemon.decisions())

        await eventually_async(decided)
        (told,) = await daemon.decisions()
        assert (told.decision.action, told.decision.version) == ("escalate", "v2")
        assert [one.reason for one in told.decision.guards if one.verdict != "pass"] == [
            "a revert would not work now: no target is configured"
        ]
        assert await daemon.rollbacks() == []
