"""The road over Helm, with the real helm on a real API server, under the shipped RBAC alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import structlog

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.kubernetes import helm_history
from rollbackd.targets.process import Commands
from tests.support.dying import Killed
from tests.support.helm_shop import HelmShop, helm_shop
from tests.support.kube_real import Cluster
from tests.support.kube_shop import IMAGE, Shop, settled
from tests.support.waiting import eventually_async
from tests.system.kubernetes.conftest import Targets

pytestmark = [
    pytest.mark.built("kubernetes", "helm"),
    pytest.mark.needs("etcd", "openssl"),
    pytest.mark.timeout(180),
]
ORDER = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-1")
Make = Callable[..., Target]


@pytest.fixture
async def helm(real: Cluster, shop: Shop) -> AsyncIterator[HelmShop]:
    async with helm_shop(real, shop) as one:
        yield one


@pytest.fixture
def over_helm(helm: HelmShop, targets: Targets) -> Make:
    def make(**settings: object) -> Target:
        return targets(owners={"helm": {"program": str(helm.program), "timeout": "30s", **settings}})

    return make


async def _upgraded(helm: HelmShop, target: Target) -> None:
    """v1 was fine, and v2 is in place."""
    await helm.upgrade()
    await helm.shop.rolled_out(target, "v1")
    await helm.upgrade(checkout="v2")
    await helm.shop.rolled_out(target, "v2")


async def _in_place(target: Target, version: str) -> None:
    async def there() -> bool:
        with suppress(Temporary):
            release = await target.current()
            return release is not None and release.version == version
        return False

    await eventually_async(there, within=30)


async def test_a_bad_upgrade_goes_back_and_the_whole_release_with_it(helm: HelmShop, over_helm: Make) -> None:
    target = over_helm()
    await helm.upgrade()
    await helm.shop.rolled_out(target, "v1")
    helm.shop.kubelet.broken = {f"{IMAGE}:v2"}
    await helm.upgrade(checkout="v2", worker="v2", settings="second", extra="true")
    await _in_place(target, "v2")
    with structlog.testing.capture_logs() as logged:
        assert (await target.readiness("v1")).problems == ()
        await target.revert(ORDER)
    await settled(target, "v1")
    assert [state for _, state, _ in await helm.history()] == ["superseded", "superseded", "deployed"]
    assert (await helm.history())[-1][2] == "Rollback to 1"
    folder = f"/apis/apps/v1/namespaces/{helm.shop.namespace}/deployments"
    worker = await helm.shop.admin("GET", f"{folder}/worker")
    assert worker["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":v1")
    effect = (
        "helm rollback puts the whole release back: ConfigMap settings, Deployment checkout, Deployment worker, "
        "and deletes ConfigMap extra"
    )
    told = {one["event"]: one.get("effect") for one in logged}
    assert told["helm_rollback_possible"] == told["helm_rolling_back"] == effect
    assert "sesame" not in str(logged)

    await target.revert(ORDER)
    assert len(await helm.history()) == 3, "one key is one rollback"
    await helm.upgrade(checkout="v2")
    await _in_place(target, "v2")
    with pytest.raises(Conflict, match="spent"):
        await target.revert(ORDER)


async def test_an_upgrade_that_failed_goes_back(helm: HelmShop, over_helm: Make) -> None:
    target = over_helm()
    await helm.upgrade()
    await helm.shop.rolled_out(target, "v1")
    helm.shop.kubelet.broken = {f"{IMAGE}:v2"}
    await helm.upgrade("--wait", "--timeout=2s", checkout="v2", fails=True)
    assert [state for _, state, _ in await helm.history()] == ["deployed", "failed"]
    await target.revert(ORDER)
    await settled(target, "v1")
    assert (await helm.history())[-1] == (3, "deployed", "Rollback to 1")


async def test_a_release_that_failed_before_is_not_gone_back_to(helm: HelmShop, over_helm: Make) -> None:
    """Helm superseded it, its images are those of the right one, but it said something else."""
    target = over_helm()
    await helm.upgrade()
    await helm.shop.rolled_out(target, "v1")
    await helm.upgrade(variable="wrong")
    names = {release.version for release in await target.history()}
    (wrong,) = names - {"v1"}
    await helm.shop.rolled_out(target, wrong)
    await helm.upgrade(checkout="v2", variable="wrong")
    await helm.shop.rolled_out(target, "v2")
    await target.revert(ORDER)
    await settled(target, "v1")
    assert (await helm.history())[-1] == (4, "deployed", "Rollback to 1")
    await helm.upgrade(checkout="v2")
    await helm.shop.rolled_out(target, (await _newest(target)))
    await target.revert(RevertOrder(to=wrong, expect=await _newest(target), key="key-2"))
    await settled(target, wrong)
    assert (await helm.history())[-1] == (6, "deployed", "Rollback to 2")


async def _newest(target: Target) -> str:
    release = await target.current()
    assert release is not None
    return release.version


async def test_what_somebody_deployed_by_helm_is_not_overwritten(helm: HelmShop, over_helm: Make) -> None:
    target = over_helm()
    await _upgraded(helm, target)
    await helm.upgrade(checkout="v3")
    await _in_place(target, "v3")
    with pytest.raises(Conflict, match="somebody else deployed"):
        await target.revert(ORDER)
    assert len(await helm.history()) == 3


async def test_what_somebody_deploys_by_helm_once_it_began_is_not_overwritten(helm: HelmShop, over_helm: Make) -> None:
    """Even where this workload is the same in it: it may be the repair."""
    target = over_helm()
    await _upgraded(helm, target)
    helm.instead('case $1 in rollback) exit 1;; esac; exec "$HELM" "$@"')
    with pytest.raises(Temporary):
        await target.revert(ORDER)
    await helm.upgrade(checkout="v2", settings="repaired")
    helm.instead('exec "$HELM" "$@"')
    with pytest.raises(Conflict, match="somebody else used helm meanwhile: revision 3"):
        await target.revert(ORDER)
    assert len(await helm.history()) == 3


async def test_what_somebody_deploys_by_helm_at_the_same_moment_is_told(helm: HelmShop, over_helm: Make) -> None:
    """helm takes no precondition: this is what cannot be kept from happening."""
    target = over_helm()
    await _upgraded(helm, target)
    upgrade = f'"$HELM" upgrade shop tests/support/chart --set checkout=v3 --kubeconfig {helm.admin} -n "$5"'
    helm.instead(f'case $1 in rollback) {upgrade} || exit 9;; esac; exec "$HELM" "$@"')
    helm.instead(helm.program.read_text().partition("\n")[2].replace('"$5"', helm.shop.namespace))
    with pytest.raises(Conflict, match="at the same moment: revision 4 is there where the rollback made 3"):
        await target.revert(ORDER)


async def test_a_pending_upgrade_is_waited_for_and_one_that_died_is_told(
    helm: HelmShop, over_helm: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = over_helm()
    await helm.upgrade()
    await helm.shop.rolled_out(target, "v1")
    helm.shop.kubelet.broken = {f"{IMAGE}:v2"}
    upgrading = asyncio.create_task(helm.upgrade("--wait", "--timeout=60s", checkout="v2", fails=True))
    await _in_place(target, "v2")
    with pytest.raises(Temporary, match="helm is at work on shop: its revision 2 is `pending-upgrade`"):
        await target.revert(ORDER)
    with pytest.raises(Temporary, match="at work"):
        await target.readiness("v1")
    monkeypatch.setattr(helm_history, "BUSY_S", 0.0)
    with pytest.raises(Permanent, match="put it in order by `helm rollback shop REVISION`"):
        await target.revert(ORDER)
    assert "seems to have died" in (await target.readiness("v1")).problems[0]
    upgrading.cancel()
    with suppress(asyncio.CancelledError):
        await upgrading
    assert len(await helm.history()) == 2


async def test_our_own_helm_that_died_is_followed_by_another(helm: HelmShop, over_helm: Make) -> None:
    target = over_helm()
    await _upgraded(helm, target)
    helm.instead('"$HELM" "$@"; case $1 in rollback) exit 1;; esac')
    with pytest.raises(Temporary, match="exit code 1"):
        await target.revert(ORDER)
    await helm.call_it(3, "pending-rollback")
    assert await target.settled("v1") is False
    with pytest.raises(Temporary, match="helm is still rolling shop back"):
        await over_helm().revert(ORDER)
    helm.instead('exec "$HELM" "$@"')
    await target.revert(ORDER)
    await settled(target, "v1")
    assert (await helm.history())[-1] == (4, "deployed", "Rollback to 1")


async def test_helm_may_fail_three_times_and_no_more(helm: HelmShop, over_helm: Make) -> None:
    target = over_helm()
    await _upgraded(helm, target)
    helm.instead('case $1 in rollback) "$HELM" "$@"; exit 1;; esac; exec "$HELM" "$@"')
    for revision in (3, 4, 5):
        with pytest.raises(Temporary):
            await target.revert(ORDER)
        await helm.call_it(revision, "failed")
    with pytest.raises(Permanent, match="helm failed 3 times to roll shop back to 1"):
        await target.revert(ORDER)
    with pytest.raises(Permanent, match="revision 5 of Helm release shop is `failed`"):
        await settled(target, "v1")
    assert len(await helm.history()) == 5


async def test_what_somebody_changed_beside_helm_goes_back_too(helm: HelmShop, over_helm: Make) -> None:
    """A restart is kept by helm, since it knows nothing of it, and made a release of its own of v2."""
    target = over_helm()
    await _upgraded(helm, target)
    again = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}
    await helm.shop.admin("PATCH", helm.shop.path("deployment"), again)
    expect = ""

    async def restarted() -> bool:
        nonlocal expect
        with suppress(Temporary):
            expect = await _newest(target)
        return expect.startswith("v2-")

    await eventually_async(restarted, within=30)
    await target.revert(RevertOrder(to="v1", expect=expect, key="key-1"))
    await settled(target, "v1")
    assert (await helm.history())[-1] == (3, "deployed", "Rollback to 1")


async def test_what_was_put_in_place_beside_helm_is_left_alone(helm: HelmShop, over_helm: Make) -> None:
    target = over_helm()
    await _upgraded(helm, target)
    await helm.shop.deploy("v3")
    await helm.shop.rolled_out(target, "v3")
    (problem,) = (await target.readiness("v1")).problems
    assert problem.startswith("v3 was put in place beside Helm: the newest revision of shop, 2, holds other images")
    with pytest.raises(Permanent, match="beside Helm"):
        await target.revert(RevertOrder(to="v1", expect="v3", key="key-1"))


async def test_nothing_is_deleted_that_cannot_be_brought_back(helm: HelmShop, over_helm: Make) -> None:
    target = over_helm()
    await helm.upgrade()
    await helm.shop.rolled_out(target, "v1")
    await helm.upgrade(checkout="v2", claim="true")
    await helm.shop.rolled_out(target, "v2")
    (problem,) = (await target.readiness("v1")).problems
    assert "would delete PersistentVolumeClaim data" in problem
    with pytest.raises(Permanent, match="would delete"):
        await target.revert(ORDER)


async def test_lost_rights_are_told_beforehand(helm: HelmShop, over_helm: Make) -> None:
    target = over_helm()
    await _upgraded(helm, target)
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{helm.shop.namespace}/roles/rollbackd-helm"
    rules = (await helm.shop.admin("GET", role))["rules"]
    rules[0]["verbs"].remove("update")
    await helm.shop.admin("PATCH", role, {"rules": rules})

    async def told() -> bool:
        return "we may not update secrets" in str((await target.readiness("v1")).problems)

    await eventually_async(told, within=30)
    rules[0]["verbs"].remove("list")
    await helm.shop.admin("PATCH", role, {"rules": rules})

    async def refused() -> bool:
        return "is forbidden" in str((await over_helm().readiness("v1")).problems)

    await eventually_async(refused, within=30)
    with pytest.raises(Permanent, match=r"docs/targets/helm.md lists the rights"):
        await target.revert(ORDER)
    assert len(await helm.history()) == 2


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_around_the_rollback_it_rolls_back_once(
    helm: HelmShop, over_helm: Make, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Just before helm is run, and just before what it prints is read. Unit tests have every other call."""
    run = Commands.run

    async def mortal(self: Commands, label: str, *arguments: Any) -> Any:
        fatal = label == "helm rollback shop"
        if fatal and when == "before":
            raise Killed
        got = await run(self, label, *arguments)
        if fatal:
            raise Killed
        return got

    target = over_helm()
    await _upgraded(helm, target)
    monkeypatch.setattr(Commands, "run", mortal)
    with pytest.raises(Killed):
        await target.revert(ORDER)
    monkeypatch.setattr(Commands, "run", run)
    for _ in range(2):
        again = over_helm()
        await again.revert(ORDER)
        await settled(again, "v1")
    assert [description for _, _, description in await helm.history()][2:] == ["Rollback to 1"]
