"""Target `docker`, on a real engine: what is a release, and how deployments are seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from rollbackd.errors import Permanent
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.docker_shape import decoded, shape_of
from rollbackd.targets.kept_releases import LARGEST_BYTES, KeptReleases
from tests.support.containers import Shop
from tests.support.waiting import eventually
from tests.support.watching import watching
from tests.unit.targets.docker.deploying import deployed, kept_as
from tests.unit.targets.making import ORDER, Make, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]

HOSTILE = {"Id": "1", "Name": "/x", "Image": "i", "Created": "", "State": {}, "Config": {}, "HostConfig": {"Links": 5}}


async def test_a_release_is_called_by_its_tag_and_known_by_its_digest(make: Make, shop: Shop) -> None:
    shop.deploy("v1", run=False)
    release = await make().current()
    assert release is not None
    assert (release.version, release.digest) == ("v1", shop.inspect()["Image"])


async def test_nothing_is_deployed_where_there_is_no_container(make: Make) -> None:
    assert await make().current() is None
    (problem,) = (await make().readiness("v1")).problems
    assert "nothing is deployed" in problem or "never seen" in problem


async def test_the_beginning_of_an_id_is_no_name(make: Make, shop: Shop) -> None:
    """Between `docker rm db` and `docker run --name db`, an engine takes `db` for that."""
    assert await make(container=shop.deploy("v1", run=False)[:4]).current() is None


async def test_where_compose_took_a_volume_over_it_is_the_same_release(make: Make, shop: Shop) -> None:
    target = make()
    shop.deploy("v1", "--mount", "type=volume,target=/data", run=False)
    assert await version(target) == "v1"
    volume = shop.inspect()["Mounts"][0]["Name"]
    shop.adopt_volume(volume)
    shop.deploy("v1", "--mount", f"type=volume,source={volume},target=/data", run=False)
    assert await version(target) == "v1"


async def test_a_moved_tag_is_another_release(make: Make, shop: Shop) -> None:
    target = make()
    names = []
    for content in ("one", "two"):
        shop.image(f"{shop.name}:stable", f"LABEL content={content}")
        shop.deploy(f"{shop.name}:stable")
        names.append(await version(target))
    assert names[0] == "stable"
    assert names[1] == f"stable@{shop.inspect()['Image'].removeprefix('sha256:')[:12]}"
    await target.revert(RevertOrder(to="stable", expect=str(names[1]), key="k"))
    assert await version(target) == "stable"


async def test_latest_says_nothing(make: Make, shop: Shop) -> None:
    shop.image(f"{shop.name}:latest")
    shop.deploy(f"{shop.name}:latest", run=False)
    assert await version(make()) == shop.inspect()["Image"]


async def test_another_configuration_is_another_release(make: Make, shop: Shop) -> None:
    target = make()
    shop.deploy("v1", "--env", "POOL=10")
    assert await version(target) == "v1"
    shop.deploy("v1", "--env", "POOL=1")
    other = await version(target)
    assert other is not None
    assert other.startswith("v1+")
    shop.deploy("v1", "--env", "POOL=10")
    assert await version(target) == "v1"
    await target.revert(RevertOrder(to=other, expect="v1", key="k"))
    assert "POOL=1" in shop.inspect()["Config"]["Env"]


async def test_what_is_kept_is_for_the_daemon_alone(make: Make, shop: Shop, tmp_path: Path) -> None:
    await deployed(shop, make(), "--env", "PASSWORD=sesame")
    await make().revert(ORDER)
    files = [*(tmp_path / "state").iterdir()]
    assert {file.name for file in files} == {
        "plan.json",
        "releases.json",
        "releases.lock",
        "reverts.jsonl",
        "reverts.lock",
    }
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_two_that_look_at_the_same_time_forget_nothing(tmp_path: Path) -> None:
    """As after a reload, while the target of the configuration before still looks."""

    def look(who: str) -> None:
        for number in range(30):
            KeptReleases(tmp_path, keep=100).note(kept_as(f"{who}{number}", how={}))

    await asyncio.gather(*(asyncio.to_thread(look, who) for who in "ab"))
    assert len(KeptReleases(tmp_path, keep=100).all()) == 60


async def test_releases_too_large_to_keep_are_forgotten_from_the_oldest(tmp_path: Path) -> None:
    kept = KeptReleases(tmp_path, keep=100)
    for number in range(5):
        kept.note(kept_as(f"v{number}", how={"config": "x" * (LARGEST_BYTES // 4)}))
    assert [one.version for one in kept.all()] == ["v4", "v3", "v2"]
    kept.note(kept_as("v5", how={"config": "x" * LARGEST_BYTES}))
    assert (kept.all(), kept.problem()) == ([], None)


async def test_releases_are_kept_in_bounds(make: Make, shop: Shop) -> None:
    target = make(keep=2)
    for number in range(4):
        shop.deploy("v1", "--env", f"NUMBER={number}", run=False)
        await target.current()
    assert len(await target.history()) == 2


@pytest.mark.parametrize("raw", [b'{"Id": "\xff"}', b"[" * 100_000, b'{"Id": 1}', b"", msgspec.json.encode(HOSTILE)])
def test_what_no_engine_answers_is_told_in_our_own_errors(raw: bytes) -> None:
    with pytest.raises(Permanent, match="what is listening there"):
        shape_of(*decoded(raw))


async def test_deployments_are_seen_as_they_happen(make: Make, shop: Shop, tmp_path: Path) -> None:
    shop.deploy("v1")
    target = make(poll=60.0)

    async with watching(target) as found:
        await eventually((tmp_path / "state/releases.json").exists)  # v1 was seen
        shop.deploy("v2", "--health-cmd", "test -e /tmp/well", "--health-interval", "100ms")
        await eventually(lambda: [change.phase for change in found] == ["started"])
        shop.engine.docker("exec", shop.name, "touch", "/tmp/well")
        await eventually(lambda: [change.phase for change in found] == ["started", "finished"])
        assert {(change.version, change.previous) for change in found} == {("v2", "v1")}
        await target.revert(ORDER)
        await eventually(lambda: [change.version for change in found] == ["v2", "v2", "v1", "v1"])
