"""What operators ask of the running daemon: pause, resume, roll back, and what is refused and written down."""

from __future__ import annotations

import asyncio
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rollbackd.ledger.base import AuditEntry
from rollbackd.model import Action
from tests.support.inside import Inside, Shop
from tests.support.waiting import eventually_async


async def decided(daemon: Inside, *actions: Action) -> None:
    """Return once these decisions were made, oldest first."""

    async def done() -> bool:
        return [one.decision.action for one in reversed(await daemon.decisions())] == list(actions)

    await eventually_async(done)


async def trail(daemon: Inside) -> list[tuple[str, str, str]]:
    """(actor, action, subject), oldest first."""
    entries = msgspec.json.decode(await daemon.get("/api/v1/audit"), type=list[AuditEntry])
    return [(one.actor, one.action, one.subject) for one in reversed(entries)]


async def test_a_pause_holds_and_the_end_of_it_acts_only_while_still_degraded(tmp_path: Path) -> None:
    """The first service is still failing when the pause ends, the second has recovered by itself meanwhile."""
    async with (
        Shop(tmp_path, "shop") as shop,
        Shop(tmp_path, "blog") as blog,
        Inside(tmp_path, shop.block(bake="300s"), blog.block(bake="300s")) as daemon,
    ):
        await daemon.until_known("shop")
        await daemon.until_known("blog")
        status, _ = await daemon.post("/api/v1/pause", {"reason": "moving house"})
        assert status == 200
        for one in (shop, blog):
            one.deploy("v2")
        await decided(daemon, "hold")

        async def both() -> bool:
            return bool(await daemon.decisions("blog"))

        await eventually_async(both)
        (held,) = await daemon.decisions()
        assert [one.guard for one in held.decision.guards if one.verdict == "hold"] == ["paused"]
        assert "paused by anonymous: moving house" in held.decision.reason
        blog.faults = {}
        await daemon.until_seen_again("blog")
        assert (shop.in_place, blog.in_place) == ("v2", "v2")
        status, _ = await daemon.post("/api/v1/resume", {})
        assert status == 200
        rollback = await daemon.ended()
        assert (rollback.state, rollback.to) == ("verified", "v1")
        await decided(daemon, "hold", "rollback")
        assert blog.in_place == "v2"
        assert await daemon.rollbacks("blog") == []
        assert await trail(daemon) == [("anonymous", "pause", "*"), ("anonymous", "resume", "*")]


async def test_an_operators_rollback_is_done_proven_and_written_down(tmp_path: Path) -> None:
    async with Shop(tmp_path, faults={}) as shop, Inside(tmp_path, shop.block()) as daemon:
        await daemon.until_known()
        shop.deploy("v2")
        await daemon.until_watching("v2")
        status, planned = await daemon.post("/api/v1/services/shop/rollback", {"reason": "ugly colours"})
        assert (status, planned["to"], planned["requested_by"]) == (202, "v1", "operator:anonymous")
        rollback = await daemon.ended()
        assert (rollback.id, rollback.state, rollback.reason) == (planned["id"], "verified", "ugly colours")
        assert (shop.in_place, shop.restarts) == ("v1", ["v1"])
        assert await trail(daemon) == [("anonymous", "rollback", "shop")]


async def test_an_operator_may_go_to_a_release_the_daemon_never_saw(tmp_path: Path) -> None:
    """It was there before the daemon was; that the service is well there is proof enough."""
    async with Shop(tmp_path, faults={}) as shop:
        shop.deploy("v3")
        async with Inside(tmp_path, shop.block()) as daemon:
            await daemon.until_known()
            status, answer = await daemon.post("/api/v1/services/shop/rollback", {})
            assert status == 409
            assert "which runs already, is known to be good: name one" in answer["message"]
            status, _ = await daemon.post("/api/v1/services/shop/rollback", {"to": "v2"})
            assert status == 202
            rollback = await daemon.ended()
            assert rollback.state == "verified", rollback.steps
            assert "nothing is worse than before the rollback" in rollback.steps[-1].detail


REFUSALS: dict[str, tuple[str, Any, int, str]] = {
    "unknown service": ("shap", {}, 404, "there is no service `shap`; configured: shop, blog"),
    "no target": ("blog", {}, 409, "blog has no target"),
    "already in place": ("shop", {"to": "v2"}, 409, "shop runs v2 already"),
    "not ready": ("shop", {"to": "v9"}, 409, "shop cannot go back to v9 now: release v9 is not in"),
}


async def test_what_cannot_be_done_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with Shop(tmp_path, faults={}) as shop, Inside(tmp_path, shop.block(), "  blog: {}") as daemon:
        await daemon.until_known()
        shop.deploy("v2")
        await daemon.until_watching("v2")
        for name, (service, wish, expected, reason) in REFUSALS.items():
            status, answer = await daemon.post(f"/api/v1/services/{service}/rollback", wish)
            assert (status, reason in answer["message"]) == (expected, True), (name, status, answer)
        assert await daemon.rollbacks() == []
        assert shop.in_place == "v2"


async def test_a_rollback_that_runs_already_is_not_begun_twice(tmp_path: Path) -> None:
    """Two wishes at the very same moment, and one later: a single rollback."""
    async with Shop(tmp_path, faults={}) as shop, Inside(tmp_path, shop.block()) as daemon:
        await daemon.until_known()
        shop.deploy("v2")
        await daemon.until_watching("v2")
        path, gate = "/api/v1/services/shop/rollback", shop.hold_restarts()
        answers = await asyncio.gather(*(daemon.post(path, {}) for _ in range(4)))
        assert sorted(status for status, _ in answers) == [202, 409, 409, 409]
        status, answer = await daemon.post(path, {})
        assert (status, "is running already" in answer["message"]) == (409, True)
        gate.touch()
        assert (await daemon.ended()).state == "verified"
        assert shop.restarts == ["v1"]


async def test_an_operator_may_ask_again_after_a_rollback_that_was_escalated(tmp_path: Path) -> None:
    """The platform refused for good; a human cures that and asks once more."""
    async with Shop(tmp_path) as shop:
        revert, broken, gate = shop.folder / "revert", shop.folder / "broken", shop.folder / "gate"
        revert.write_text(
            f"#!/bin/sh\ntest -e {broken} && exit 69\nwhile ! test -e {gate}; do sleep 0.02; done\n"
            f"ln -sfn releases/$ROLLBACKD_TO {shop.link}\n"
        )
        revert.chmod(0o755)
        broken.touch()
        commands = f'current: "basename $(readlink {shop.link})", history: "ls {shop.folder}/releases"'
        target = f"{{command: {{{commands}, revert: {revert}, poll: 1s}}}}"
        async with Inside(tmp_path, shop.block(target=target)) as daemon:
            await daemon.until_known()
            shop.deploy("v2")
            first = await daemon.ended()
            assert first.state == "escalated", first.steps
            broken.unlink()
            wish = daemon.post("/api/v1/services/shop/rollback", {"reason": "repaired"})
            impatient = daemon.post("/api/v1/services/shop/rollback", {"reason": "repaired"})
            (status, planned), (again, _) = sorted(await asyncio.gather(wish, impatient), key=itemgetter(0))
            assert (status, again) == (202, 409), planned
            gate.touch()
            second = await daemon.ended(count=2)
            assert (second.id, second.state) == (planned["id"], "verified"), second.steps
            assert second.id != first.id
            assert shop.in_place == "v1"


@pytest.mark.parametrize("moment", ["before the decision", "before the revert"])
async def test_a_humans_change_is_not_overwritten(tmp_path: Path, moment: str) -> None:
    """v3 is put in place just when v2 is condemned: it stays, and people are told, or it was found in time."""
    failing = {"v2": "errors", "v3": "errors"}
    async with Shop(tmp_path, faults={}) as shop:
        target = f'{{release_dir: {{path: {shop.folder}, restart: "sh {shop.restart}", poll: 60s}}}}'
        async with Inside(tmp_path, shop.block(target=target)) as daemon:
            await daemon.until_known()
            if moment == "before the revert":
                await daemon.post("/api/v1/pause", {"reason": "so that it is decided only then"})
                shop.faults = failing
            shop.deploy("v2")
            status, _ = await daemon.post("/api/v1/deployments", {"service": "shop", "version": "v2"})
            assert status == 200
            await daemon.until_watching("v2")
            if moment == "before the revert":
                await decided(daemon, "hold")
                shop.deploy("v3")
                await daemon.post("/api/v1/resume", {})
            else:
                shop.deploy("v3")
                shop.faults = failing
            await eventually_async(lambda: known(daemon, "v3"))
            shop.faults = {}  # else v3 would be taken back in its turn, and rightly so
            await daemon.until_watching("v3")
            await daemon.until_seen_again()
            assert shop.in_place == "v3"
            assert shop.restarts == []


async def known(daemon: Inside, version: str) -> bool:
    """Whether the daemon knows that this version is in place: it watches it, or told somebody of it."""
    watch = (await daemon.shop()).watch
    return (watch is not None and watch.version == version) or await told_of(daemon, version)


async def told_of(daemon: Inside, version: str) -> bool:
    """Whether somebody was told that this version is in place now, in a decision or in a rollback's journal."""
    reasons = [one.decision.reason for one in await daemon.decisions() if one.decision.action == "escalate"]
    reasons += [step.detail for one in await daemon.rollbacks() for step in one.steps if step.state == "escalated"]
    return any(version in reason for reason in reasons)


async def test_a_missing_release_folder_is_told_and_nothing_is_changed(tmp_path: Path) -> None:
    async with Shop(tmp_path) as shop, Inside(tmp_path, shop.block()) as daemon:
        await daemon.until_known()
        (shop.folder / "releases" / "v1" / "app").unlink()
        (shop.folder / "releases" / "v1").rmdir()
        shop.deploy("v2")
        await eventually_async(lambda: told_of(daemon, "release v1 is not in"))
        assert (shop.in_place, shop.restarts) == ("v2", [])
        assert any("release v1 is not in" in one for one in (await daemon.shop()).problems)
        assert await daemon.metric('rollbackd_target_ready{service="shop"}') == 0


async def test_an_unreadable_link_is_a_problem_and_no_deployment(tmp_path: Path) -> None:
    """Nothing is decided of what cannot be read; once it can be read again, the watch goes on."""
    async with Shop(tmp_path, faults={}) as shop, Inside(tmp_path, shop.block()) as daemon:
        await daemon.until_known()
        shop.deploy("v2")
        await daemon.until_watching("v2")
        before = (await daemon.shop()).watch
        shop.link.unlink()
        shop.link.symlink_to("current")  # a loop, which no rights can read

        async def troubled() -> bool:
            return bool((await daemon.shop()).problems)

        await eventually_async(troubled)
        assert "current" in (await daemon.shop()).problems[0]
        shop.link.unlink()
        shop.link.symlink_to("releases/v2")

        async def well() -> bool:
            return not (await daemon.shop()).problems

        await eventually_async(well)
        after = (await daemon.shop()).watch
        assert before is not None
        assert after is not None
        assert after.deployed_at == before.deployed_at
        assert await daemon.decisions() == []
