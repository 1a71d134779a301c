"""One real cluster for all tests of a worker, and in it a namespace for each test, under the shipped RBAC alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from rollbackd.aiokit import SystemClock
from rollbackd.targets.base import Target, TargetContext
from rollbackd.targets.kubernetes import ADAPTER
from tests.support.kube_real import Cluster, administering, cluster
from tests.support.kube_shop import Shop, opened


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kubernetes")) as one:
        yield one


@pytest.fixture
async def shop(real: Cluster, tmp_path: Path) -> AsyncIterator[Shop]:
    async with administering(real) as admin, opened(real, admin, tmp_path) as one:
        yield one


Targets = Callable[..., Target]


@pytest.fixture
async def targets(shop: Shop) -> AsyncIterator[Targets]:
    made: list[Target] = []

    def make(kind: str = "deployment", **settings: object) -> Target:
        config = ADAPTER.config.model_validate({kind: "checkout", "kubeconfig": str(shop.kubeconfig), **settings})
        context = TargetContext(service="checkout", clock=SystemClock(), state_dir=shop.folder / "state")
        made.append(ADAPTER.build(config, context))
        return made[-1]

    yield make
    for target in made:
        await target.close()
