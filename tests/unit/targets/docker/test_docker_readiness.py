"""Target `docker`: what stands in the way of a revert is told before one is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd.errors import Permanent, Temporary
from rollbackd.targets.base import RevertOrder
from tests.support.containers import Shop
from tests.support.live import ReservedPort
from tests.unit.targets.docker.deploying import deployed
from tests.unit.targets.making import ORDER, Make, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]


async def test_not_ready_without_the_image(make: Make, shop: Shop) -> None:
    target = make()
    shop.image(f"{shop.name}:v0", "LABEL release=v0")
    shop.deploy(f"{shop.name}:v0", run=False)
    assert await version(target) == "v0"
    shop.deploy("v2", run=False)
    assert (await target.readiness("v0")).ready
    assert "v0" in {release.version for release in await target.history()}
    shop.engine.docker("rmi", f"{shop.name}:v0")
    (problem,) = (await target.readiness("v0")).problems
    assert "image" in problem
    before = shop.inspect()
    with pytest.raises(Permanent, match="image"):
        await target.revert(RevertOrder(to="v0", expect="v2", key="k"))
    assert shop.inspect() == before
    assert "v0" not in {release.version for release in await target.history()}


async def test_not_ready_for_what_the_configuration_needs(make: Make, shop: Shop) -> None:
    target = make()
    network, volume = shop.network(), shop.volume()
    await deployed(shop, target, "--network", network, "--volume", f"{volume}:/data", bad=("--env", "A=1"), run=False)
    assert (await target.readiness("v1")).ready
    shop.close()
    shop.deploy("v2", "--env", "A=1", run=False)
    problems = (await target.readiness("v1")).problems
    assert len(problems) == 2
    assert any(network in problem for problem in problems)
    assert any(volume in problem for problem in problems)


async def test_not_ready_while_another_has_the_port(make: Make, shop: Shop) -> None:
    target = make()
    network, reserved = shop.network(), ReservedPort()
    port = reserved.number
    await deployed(
        shop, target, "--network", network, "--publish", f"127.0.0.1:{port}:80", bad=("--env", "A=1"), run=False
    )
    shop.deploy("v3", "--network", network, "--publish", f"127.0.0.1:{port}:80", name=f"{shop.name}-other")
    (problem,) = (await target.readiness("v1")).problems
    assert f"{shop.name}-other" in problem


async def test_not_ready_while_another_lives_in_its_network(make: Make, shop: Shop) -> None:
    target = make()
    await deployed(shop, target, run=False)
    shop.deploy("v3", "--network", f"container:{shop.name}", name=f"{shop.name}-sidecar", run=False)
    (problem,) = (await target.readiness("v1")).problems
    assert "sidecar" in problem


async def test_not_ready_without_the_container_in_whose_network_it_lived(make: Make, shop: Shop) -> None:
    target = make()
    shop.deploy("v3", name=f"{shop.name}-vpn", run=False)
    await deployed(shop, target, "--network", f"container:{shop.name}-vpn", bad=("--env", "A=1"), run=False)
    assert (await target.readiness("v1")).ready
    shop.deploy("v3", name=f"{shop.name}-vpn", run=False)
    (problem,) = (await target.readiness("v1")).problems
    assert "which is gone" in problem


async def test_an_engine_that_is_not_there_is_temporary(make: Make, tmp_path: Path) -> None:
    target = make(host=f"unix://{tmp_path}/nobody.sock")
    for call in (
        target.current(),
        target.history(),
        target.readiness("v1"),
        target.revert(ORDER),
        target.settled("v1"),
    ):
        with pytest.raises(Temporary, match="is Docker running"):
            await call
