"""Reverts of what the real Flux deploys from a real git server: it does not undo them. Under the shipped RBAC alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rollbackd.errors import Conflict, Temporary
from rollbackd.targets.base import RevertOrder, Target
from tests.support.certificates import Authority
from tests.support.flux_real import MANIFEST, Fleet, controller, definitions, install
from tests.support.git_http import git_server
from tests.support.kube_real import Cluster
from tests.support.kube_shop import IMAGE, Shop, settled
from tests.support.kube_store import Object
from tests.support.repository import Repository
from tests.support.waiting import eventually_async
from tests.system.kubernetes.conftest import Targets

pytestmark = [
    pytest.mark.built("kubernetes", "flux"),
    pytest.mark.needs("etcd", "openssl", "git"),
    pytest.mark.timeout(180),
]
ORDER = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-1", reason="23% of requests failed")
TOKEN = "sesame-7f3a9c"


@pytest.fixture(scope="module")
def crds() -> list[Object]:
    return definitions()


@pytest.fixture(scope="module")
def flux_running(real: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with controller(real, tmp_path_factory.mktemp("flux")):
        yield real


@pytest.fixture
async def fleet(shop: Shop, tmp_path: Path, crds: list[Object], request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    """v1 was deployed by Flux. Its controllers do not start without their CRDs."""
    await install(shop.admin, crds)
    request.getfixturevalue("flux_running")
    repository = Repository(tmp_path / "deploy.git")
    authority = Authority(tmp_path)
    async with git_server(tmp_path, authority, TOKEN) as server:
        one = Fleet(shop, repository, f"{server.url}/deploy.git", authority.cert)
        first = await one.push("v1", OLD="1")
        await one.begin(**getattr(request, "param", {}))
        try:
            await one.applied(first)
            yield one
        finally:
            await one.end()


def owners(fleet: Fleet, way: str) -> dict[str, object]:
    key = "spec.template.spec.containers[name=app].image"
    git = {
        "url": fleet.url,
        "ca": str(fleet.ca),
        "token": {"file": str(fleet.shop.folder / "token")},
        "path": "apps/checkout",
        "image": {"file": MANIFEST, "key": key, "part": "tag"},
    }
    (fleet.shop.folder / "token").write_text(TOKEN)
    (fleet.shop.folder / "token").chmod(0o600)
    return {"flux": {"flux": {}}, "git": {"git": git}, "both": {"flux": {}, "git": git}}[way]  # type: ignore[return-value]  # a table of three


async def ready(target: Target) -> None:
    async def nothing_in_the_way() -> bool:
        with suppress(Temporary):
            return (await target.readiness("v1")).ready
        return False

    await eventually_async(nothing_in_the_way, within=30)


async def insisting(target: Target, order: RevertOrder = ORDER) -> None:
    """As the executor does: Temporary trouble is tried again."""

    async def done() -> bool:
        with suppress(Temporary):
            await target.revert(order)
            return True
        return False

    await eventually_async(done, within=90)


def image(deployment: Any) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.mark.parametrize("way", ["flux", "git", "both"])
async def test_flux_does_not_undo_a_revert(fleet: Fleet, targets: Targets, way: str) -> None:
    shop, target = fleet.shop, targets(owners=owners(fleet, way))
    await shop.rolled_out(target, "v1")
    shop.kubelet.broken = {f"{IMAGE}:v2"}
    await fleet.applied(await fleet.push("v2"))
    await ready(target)
    await insisting(target)
    await settled(target, "v1")
    suspended = (await fleet.get())["spec"].get("suspend", False)
    assert suspended == (way == "flux")
    if way != "flux":
        await fleet.applied_again()
        assert "Because: 23% of requests failed" in fleet.repository.git("log", "-1", "--format=%B", "main")
    before = await shop.get()
    assert image(before) == f"{IMAGE}:v1"
    await target.revert(ORDER)
    after = await shop.get()
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])

    # the next release, and nothing of the revert is left in it
    third = await fleet.push("v3")
    if way == "flux":
        await shop.admin("PATCH", fleet.kustomization, {"spec": {"suspend": False}})
    await fleet.applied(third)
    container = (await shop.get())["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"{IMAGE}:v3"
    assert not container.get("env"), "what v1 had and v3 has not"


async def test_a_release_that_a_human_let_back_in_is_not_undone_again(fleet: Fleet, targets: Targets) -> None:
    target = targets(owners=owners(fleet, "flux"))
    await fleet.shop.rolled_out(target, "v1")
    await fleet.applied(await fleet.push("v2"))
    await insisting(target)
    await settled(target, "v1")
    await fleet.shop.admin("PATCH", fleet.kustomization, {"spec": {"suspend": False}})
    await fleet.shop.rolled_out(target, "v2")
    again = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-2")
    with pytest.raises(Conflict, match="somebody resumed"):
        await insisting(target, again)
    assert image(await fleet.shop.get()) == f"{IMAGE}:v2"


@pytest.mark.parametrize("fleet", [{"wait": True, "timeout": "5m"}], indirect=True)
async def test_flux_that_waits_for_the_bad_release_to_get_healthy_is_not_waited_for(
    fleet: Fleet, targets: Targets
) -> None:
    target = targets(owners=owners(fleet, "flux"))
    await fleet.shop.rolled_out(target, "v1")
    fleet.shop.kubelet.broken = {f"{IMAGE}:v2"}
    commit = await fleet.push("v2")
    await fleet.shop.admin(
        "PATCH", fleet.source, {"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "x"}}}
    )

    async def waits() -> bool:
        found = (await fleet.get())["status"]
        return commit in str(found.get("lastAttemptedRevision")) and "Running health checks" in str(found["conditions"])

    await eventually_async(waits, within=60)
    await insisting(target)
    await settled(target, "v1")
    assert image(await fleet.shop.get()) == f"{IMAGE}:v1"


@pytest.mark.parametrize("fleet", [{"suspend": False}], indirect=True)
async def test_whoever_applies_the_kustomization_with_suspend_is_told_of(fleet: Fleet, targets: Targets) -> None:
    """As its parent would: by server-side apply, with `suspend` in the manifest."""
    target = targets(owners=owners(fleet, "flux"))
    await fleet.shop.rolled_out(target, "v1")
    await fleet.applied(await fleet.push("v2"))
    spec = {name: value for name, value in (await fleet.get())["spec"].items() if name != "force"}
    body = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": "apps"},
        "spec": {**spec, "suspend": False},
    }
    applying = f"{fleet.kustomization}?fieldManager=kustomize-controller&force=true"
    await fleet.shop.admin("PATCH", applying, body, patch="apply")
    (problem,) = (await target.readiness("v1")).problems
    assert "`suspend` in its own manifest" in problem
