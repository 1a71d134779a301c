"""Blue/green and workloads that are released together, on a real Kubernetes, under the shipped RBAC alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from rollbackd.errors import Conflict
from rollbackd.targets.base import Target
from tests.support.kube_real import NODE
from tests.support.kube_shop import Shop, settled
from tests.support.kube_store import Object
from tests.support.waiting import eventually, eventually_async
from tests.support.watching import seen, watching
from tests.system.kubernetes.conftest import Targets
from tests.unit.targets.kube_shop import ORDER

pytestmark = [
    pytest.mark.built("kubernetes"),
    pytest.mark.needs("etcd", "openssl"),
    pytest.mark.timeout(180),
]


async def deploy(shop: Shop, name: str, version: str, labels: Mapping[str, str]) -> None:
    """A Deployment, or its next release."""
    folder = f"/apis/apps/v1/namespaces/{shop.namespace}/deployments"
    spec: Object = {
        "nodeName": NODE,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "app", "image": f"registry.test/shop/checkout:{version}"}],
    }
    template = {"metadata": {"labels": {"name": name, **labels}}, "spec": spec}
    try:
        await shop.admin("PATCH", f"{folder}/{name}", {"spec": {"template": template}}, patch="strategic-merge")
    except AssertionError:
        whole = {"replicas": 2, "selector": {"matchLabels": {"name": name}}, "template": template}
        await shop.admin("POST", folder, {"metadata": {"name": name, "labels": dict(labels)}, "spec": whole})


async def available(shop: Shop, name: str) -> None:
    path = f"/apis/apps/v1/namespaces/{shop.namespace}/deployments/{name}"

    async def there() -> bool:
        found = (await shop.admin("GET", path))["status"]
        return bool(found.get("availableReplicas") == found.get("updatedReplicas") == found.get("replicas") == 2)

    await eventually_async(there, within=60)


async def test_a_service_is_switched_back_and_its_traffic_with_it(shop: Shop, targets: Targets) -> None:
    for colour, version in (("blue", "v1"), ("green", "v2")):
        await deploy(shop, f"checkout-{colour}", version, {"app": "checkout", "colour": colour})
        await available(shop, f"checkout-{colour}")
    service = f"/api/v1/namespaces/{shop.namespace}/services"
    spec = {"selector": {"app": "checkout", "colour": "blue"}, "ports": [{"port": 80}]}
    await shop.admin("POST", service, {"metadata": {"name": "checkout"}, "spec": spec})
    target = targets("service")
    async with watching(target) as changes:
        await settled(target, "v1")
        await eventually_async(lambda: _live(target, "v1"))
        await shop.admin("PATCH", f"{service}/checkout", {"spec": {"selector": {"colour": "green"}}})
        await eventually(lambda: seen(changes) == [("v2", "v1", "started"), ("v2", "v1", "finished")], within=30)
    await settled(target, "v2")
    assert (await target.readiness("v1")).problems == ()

    await target.revert(ORDER)
    await settled(target, "v1")
    assert (await shop.admin("GET", f"{service}/checkout"))["spec"]["selector"] == {"app": "checkout", "colour": "blue"}
    await target.revert(ORDER)

    await shop.admin("PATCH", f"{service}/checkout", {"spec": {"selector": {"colour": "green"}}})
    with pytest.raises(Conflict):
        await target.revert(ORDER)


async def _live(target: Target, version: str) -> bool:
    release = await target.current()
    return release is not None and release.version == version


async def test_workloads_with_a_label_are_seen_and_reverted_together(shop: Shop, targets: Targets) -> None:
    labels = {"app.kubernetes.io/part-of": "checkout"}
    names = ("checkout-web", "checkout-worker")
    for name in names:
        await deploy(shop, name, "v1", labels)
        await available(shop, name)
    target = targets("selector", selector="app.kubernetes.io/part-of=checkout")
    await settled(target, "v1")
    await eventually_async(lambda: _live(target, "v1"))
    for name in names:
        await deploy(shop, name, "v2", labels)
    for name in names:
        await available(shop, name)
    assert await _live(target, "v2")
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    await settled(target, "v1")
