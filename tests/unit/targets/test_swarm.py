"""Target `swarm`, on a real Swarm of one node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.swarm import ADAPTER
from tests.support.containers import Breakable
from tests.support.docker import DockerEngine
from tests.support.swarm import Service
from tests.support.waiting import eventually, eventually_async
from tests.support.watching import watching
from tests.unit.targets.cutting import CutOff, dies
from tests.unit.targets.making import ORDER, Make, making, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]


@pytest.fixture
def service(manager: DockerEngine) -> Iterator[Service]:
    one = Service(manager)
    yield one
    one.close()


@pytest.fixture
def program(tmp_path: Path) -> Breakable:
    return Breakable(tmp_path / "marks")


@pytest.fixture
async def make(tmp_path: Path, service: Service) -> AsyncIterator[Make]:
    usual: dict[str, object] = {"service": service.name, "host": service.engine.host}
    async with making(ADAPTER, usual, tmp_path / "state") as made:
        yield made


async def deployed(service: Service, target: Target, *options: str) -> None:
    """v1 was in place and was seen, and now v2 is."""
    service.create("v1", *options)
    assert await version(target) == "v1"
    service.deploy("v2")
    assert await version(target) == "v2"


async def test_a_revert_puts_the_earlier_specification_back(make: Make, service: Service) -> None:
    """All of it but the number of tasks: scaling is no deployment, and stays."""
    target = make()
    service.create("v1", "--env", "POOL=10", "--label", "team=shop", "--container-label", "tier=1")
    before = service.inspect()["Spec"]
    assert await version(target) == "v1"
    service.deploy("v2", "--env-add", "POOL=1", "--label-rm", "team", "--limit-memory", "64m")
    assert await version(target) == "v2"
    service.update("--replicas", "2")
    assert await version(target) == "v2"
    assert (await target.readiness("v1")).problems == ()
    assert not await target.settled("v1")
    await target.revert(ORDER)
    await eventually_async(lambda: target.settled("v1"))
    after = service.inspect()["Spec"]
    assert after["Labels"].pop("io.rollbackd.key") == ORDER.key
    assert after == before | {"Mode": {"Replicated": {"Replicas": 2}}}
    assert service.running == [f"{service.repository}:v1"] * 2
    assert await version(target) == "v1"
    await target.revert(ORDER)


async def test_an_update_by_somebody_else_in_between_is_not_overwritten(
    make: Make, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make()
    await deployed(service, target)
    with monkeypatch.context() as patch:
        CutOff(patch, 1, heard=False, instead=lambda: service.update(version="v3"))
        with pytest.raises(Temporary, match="out of sequence"):
            await target.revert(ORDER)
    with pytest.raises(Conflict):
        await target.revert(ORDER)
    service.wait()
    assert service.running == [f"{service.repository}:v3"]


@pytest.mark.parametrize("heard", [True, False])
async def test_a_revert_that_dies_is_finished_by_the_same_key(
    make: Make, service: Service, monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    await deployed(service, make())
    await dies(monkeypatch, make(), ORDER, 1, heard=heard)
    if not heard:
        assert not await make().settled("v1")
    again = make()
    await again.revert(ORDER)
    await eventually_async(lambda: again.settled("v1"))
    index = service.inspect()["Version"]
    await again.revert(ORDER)
    assert service.inspect()["Version"] == index


async def test_a_deployment_after_it_died_is_not_undone(
    make: Make, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one of the very release that was to be undone."""
    target = make()
    await deployed(service, target)
    await dies(monkeypatch, target, ORDER, 1, heard=False)
    for later in ("v3", "v2"):
        service.deploy(later)
    with pytest.raises(Conflict):
        await target.revert(ORDER)


async def test_an_update_that_swarm_paused_is_reverted(make: Make, service: Service) -> None:
    target = make()
    service.create("v1")
    assert await version(target) == "v1"
    service.update("--args", "false", "--update-monitor", "5s", version="v2")
    service.wait("paused")
    bad = await version(target)
    assert bad == "v2"
    assert not await target.settled("v2")
    await target.revert(ORDER)
    await eventually_async(lambda: target.settled("v1"))


async def test_what_swarm_rolled_back_by_itself_is_in_place_already(
    make: Make, service: Service, program: Breakable, tmp_path: Path
) -> None:
    """It takes v2 back once that was seen, which fails only then."""
    target = make()
    service.create("v1", *program.options, "--update-failure-action", "rollback")

    async with watching(target) as found:
        await eventually((tmp_path / "state/releases.json").exists)  # v1 was seen
        service.update("--args", program.until_broken, "--update-monitor", "30s", version="v2")
        await eventually(lambda: [change.phase for change in found] == ["started"])
        program.shatter()
        await eventually(lambda: [change.phase for change in found] == ["started", "failed"])
    assert [(change.version, change.previous) for change in found] == [("v2", "v1")] * 2
    await target.revert(ORDER)
    await eventually_async(lambda: target.settled("v1"))
    assert service.running == [f"{service.repository}:v1"]


@pytest.mark.parametrize(("action", "says"), [("pause", "stopped half-way"), ("rollback", "put v2 back by itself")])
async def test_a_release_that_does_not_come_back_is_told(
    make: Make, service: Service, program: Breakable, action: str, says: str
) -> None:
    target = make()
    options = ("--update-monitor", "5s", "--update-failure-action", action)
    service.create("v1", *program.options, *options, command=program.command())
    assert await version(target) == "v1"
    service.update("--args", "sleep 1000", "--update-monitor", "100ms", version="v2")
    service.wait()
    assert await version(target) == "v2"
    program.shatter()
    await target.revert(ORDER)

    async def told() -> bool:
        try:
            assert not await target.settled("v1")
        except Permanent as error:
            return says in str(error)
        return False

    await eventually_async(told)


async def test_deployments_are_seen_as_they_happen(make: Make, service: Service, tmp_path: Path) -> None:
    service.create("v1")
    target = make(poll=60.0)

    async with watching(target) as found:
        await eventually((tmp_path / "state/releases.json").exists)  # v1 was seen
        service.deploy("v2")
        await eventually(lambda: [change.phase for change in found] == ["started", "finished"])
        service.update("--replicas", "2")
        service.wait()
    assert [(change.version, change.previous) for change in found] == [("v2", "v1")] * 2


async def test_not_ready_where_the_tag_has_moved(make: Make, service: Service) -> None:
    target = make()
    service.engine.docker("tag", f"{service.repository}:v1", f"{service.repository}:moving")
    service.create("moving")
    assert await version(target) == "moving"
    service.deploy("v2")
    assert (await target.readiness("moving")).ready
    service.engine.docker("tag", f"{service.repository}:v3", f"{service.repository}:moving")
    (problem,) = (await target.readiness("moving")).problems
    assert "another image" in problem
    with pytest.raises(Permanent, match="another image"):
        await target.revert(RevertOrder(to="moving", expect="v2", key="k"))
    service.engine.docker("rmi", f"{service.repository}:moving")
    (problem,) = (await target.readiness("moving")).problems
    assert "gone" in problem


async def test_not_ready_without_a_config_it_needs(make: Make, service: Service) -> None:
    target = make()
    name = f"{service.name}-config"
    service.engine.docker("config", "create", name, "-", stdin=b"pool: 10")
    service.create("v1", "--config", f"source={name},target=/pool")
    assert await version(target) == "v1"
    service.deploy("v2", "--config-rm", name)
    assert (await target.readiness("v1")).ready
    service.engine.docker("config", "rm", name)
    (problem,) = (await target.readiness("v1")).problems
    assert "config" in problem


async def test_an_engine_that_is_no_manager_is_told(make: Make, service: Service) -> None:
    service.create("v1")
    target = make(host="unix:///var/run/docker.sock")
    with pytest.raises(Temporary, match=r"not a swarm manager|is Docker running"):
        await target.current()
