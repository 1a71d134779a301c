"""Target `compose`, on a real engine: containers with the labels that Compose gives them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rollbackd.errors import Conflict, Permanent
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.compose import ADAPTER
from tests.support.containers import Shop
from tests.support.waiting import eventually
from tests.support.watching import watching
from tests.unit.targets.cutting import dies
from tests.unit.targets.making import ORDER, Make, making, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]


@pytest.fixture
async def make(tmp_path: Path, shop: Shop) -> AsyncIterator[Make]:
    usual: dict[str, object] = {
        "project": shop.name,
        "service": "api",
        "host": shop.engine.host,
        "stable_for": 0.1,
    }
    async with making(ADAPTER, usual, tmp_path / "state") as made:
        yield made


def labels(shop: Shop, number: int, content: str) -> tuple[str, ...]:
    """What `docker compose up` sets on the containers it makes."""
    compose = {
        "project": shop.name,
        "service": "api",
        "container-number": str(number),
        "oneoff": "False",
        "config-hash": content,
        "project.config_files": "/srv/compose.yaml",
        "version": "2.29.0",
    }
    return tuple(part for name, text in compose.items() for part in ("--label", f"com.docker.compose.{name}={text}"))


def up(
    shop: Shop, version: str, *options: str, replicas: int = 1, command: tuple[str, ...] = (), run: bool = True
) -> None:
    """`docker compose up -d`, as far as containers go."""
    for number in range(1, replicas + 1):
        name = f"{shop.name}-api-{number}"
        shop.deploy(version, *labels(shop, number, f"hash-{version}"), *options, command=command, name=name, run=run)


def images(shop: Shop) -> dict[str, str]:
    return {name.removeprefix(f"{shop.name}-"): image.rpartition(":")[2] for name, image in shop.running.items()}


async def deployed(shop: Shop, target: Target, *options: str, replicas: int = 1) -> None:
    up(shop, "v1", *options, replicas=replicas, run=False)
    assert await version(target) == "v1"
    up(shop, "v2", replicas=replicas)
    assert await version(target) == "v2"


async def test_compose_still_owns_what_was_put_back(make: Make, shop: Shop) -> None:
    target = make()
    await deployed(shop, target)
    await target.revert(ORDER)
    assert images(shop) == {"api-1": "v1"}
    compose = {
        name: text
        for name, text in shop.inspect(f"{shop.name}-api-1")["Config"]["Labels"].items()
        if name.startswith("com.docker.compose.")
    }
    wanted = labels(shop, 1, "hash-v1")[1::2]
    assert {f"{name}={text}" for name, text in compose.items()} == set(wanted)
    assert await target.settled("v1")


async def test_all_replicas_go_back_each_under_its_own_number(make: Make, shop: Shop) -> None:
    target = make()
    up(shop, "v1", replicas=1, run=False)
    assert await version(target) == "v1"
    up(shop, "v2", replicas=2)
    assert await version(target) == "v2"
    await target.revert(ORDER)
    assert images(shop) == {f"api-{number}": "v1" for number in (1, 2)}
    numbers = {
        name: shop.inspect(name)["Config"]["Labels"]["com.docker.compose.container-number"] for name in shop.running
    }
    assert all(name.endswith(f"-{number}") for name, number in numbers.items())
    assert len(shop.containers) == 2
    assert await target.settled("v1")


async def test_replicas_are_one_release(make: Make, shop: Shop) -> None:
    target = make()
    up(shop, "v1", replicas=2, run=False)
    assert await version(target) == "v1"
    assert [release.version for release in await target.history()] == ["v1"]


async def test_other_services_and_one_off_containers_are_left_alone(make: Make, shop: Shop) -> None:
    target = make()
    await deployed(shop, target)
    project = ("--label", f"com.docker.compose.project={shop.name}")
    once = ("--label", "com.docker.compose.service=api", "--label", "com.docker.compose.oneoff=True")
    shop.deploy("v3", *project, *once, name=f"{shop.name}-api-run-1")
    shop.deploy("v3", *project, "--label", "com.docker.compose.service=db", name=f"{shop.name}-db-1")
    assert await version(target) == "v2"
    await target.revert(ORDER)
    assert images(shop) == {"api-1": "v1", "api-run-1": "v3", "db-1": "v3"}


async def test_where_one_replica_does_not_come_up_all_are_as_before(make: Make, shop: Shop, tmp_path: Path) -> None:
    target = make(stable_for=1.0)
    first = "mkdir /marks/taken 2>/dev/null && sleep 1000; test -e /marks/broken || sleep 1000; exit 5"
    up(shop, "v1", "--volume", f"{tmp_path}:/marks", replicas=2, command=("/bin/sh", "-c", first), run=False)
    assert await version(target) == "v1"
    up(shop, "v2", replicas=2)
    assert await version(target) == "v2"
    before = {name: shop.inspect(name)["Id"] for name in shop.running}
    (tmp_path / "broken").touch()
    with pytest.raises(Permanent, match=r"exit code 5.*v2 is in place as before"):
        await target.revert(ORDER)
    assert {name: shop.inspect(name)["Id"] for name in shop.running} == before
    assert len(shop.containers) == 2


async def test_a_revert_that_dies_half_way_is_finished_by_the_same_key(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(shop, "v1", replicas=2, run=False)
    assert await version(make()) == "v1"
    for at in (5, 7):  # both run, the first bad one is removed
        up(shop, "v2", replicas=2)
        assert await version(make()) == "v2"
        order = RevertOrder(to="v1", expect="v2", key=f"key-{at}")
        await dies(monkeypatch, make(), order, at, heard=True)
        again = make()
        await again.revert(order)
        assert images(shop) == {"api-1": "v1", "api-2": "v1"}
        assert len(shop.containers) == 2
        assert await again.settled("v1")


async def test_where_somebody_deploys_meanwhile_what_was_stopped_runs_again(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(shop, make(), replicas=2)
    await dies(monkeypatch, make(), ORDER, 6, heard=True)  # both bad ones are stopped
    shop.deploy("v3", *labels(shop, 1, "hash-v3"), name=f"{shop.name}-api-1")
    with pytest.raises(Conflict):
        await make().revert(ORDER)
    assert images(shop) == {"api-1": "v3", "api-2": "v2"}
    assert len(shop.containers) == 2


async def test_a_deployment_is_finished_once_every_replica_runs_it(make: Make, shop: Shop, tmp_path: Path) -> None:
    up(shop, "v1", replicas=2)
    target = make(poll=60.0)

    async with watching(target) as found:
        await eventually((tmp_path / "state/releases.json").exists)  # v1 was seen
        shop.deploy("v2", *labels(shop, 1, "hash-v2"), name=f"{shop.name}-api-1")
        await eventually(lambda: [change.phase for change in found] == ["started"])
        shop.deploy("v2", *labels(shop, 2, "hash-v2"), name=f"{shop.name}-api-2")
        await eventually(lambda: [change.phase for change in found] == ["started", "finished"])
    assert {(change.version, change.previous) for change in found} == {("v2", "v1")}
