"""Pods of a StatefulSet that are not ready, and would keep it from going back; test_workloads.py has the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tests.support.kube_server import status
from tests.unit.targets.kube_shop import ORDER
from tests.unit.targets.kube_stateful_set import StatefulSet, opened


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[StatefulSet]:
    async with opened(tmp_path) as one:
        one.deploy("v1")
        one.deploy("v2")
        yield one


# -- when the old revision is put back


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        ({}, []),
        ({"updateStrategy": {"rollingUpdate": {"partition": 2}}}, ["checkout-0", "checkout-1"]),
        (
            {"updateStrategy": {"rollingUpdate": {"partition": 1}}, "ordinals": {"start": 1}},
            ["checkout-0", "checkout-1"],
        ),
    ],
)
async def test_pods_below_the_partition_stay(shop: StatefulSet, spec: dict[str, object], left: list[str]) -> None:
    """They are not meant to be replaced, so that nothing waits for them. A partition counts from the first ordinal."""
    shop.deploy("v2", **spec)
    for ordinal in range(3):
        shop.pod(ordinal, "v2", unready=1.0)
    await shop.make().revert(ORDER)
    assert shop.pods == left


# -- while it goes back


@pytest.mark.parametrize(
    ("unready", "waiting", "deletes"),
    [
        (29.0, "", []),
        (30.0, "", ["checkout-0"]),
        (1.0, "ContainerCreating", []),
        (1.0, "CrashLoopBackOff", ["checkout-0"]),
        (1.0, "ImagePullBackOff", ["checkout-0"]),
    ],
)
async def test_a_pod_that_is_unready_for_a_moment_is_left_alone(
    shop: StatefulSet, unready: float, waiting: str, deletes: list[str]
) -> None:
    shop.deploy("v1")
    shop.pod(0, "v2", unready=unready, waiting=waiting)
    shop.pod(1, "v2")
    shop.pod(2, "v1")
    assert not await shop.make().settled("v1")
    assert shop.deletes == deletes


async def test_one_pod_at_most_is_deleted_a_look(shop: StatefulSet) -> None:
    shop.deploy("v1")
    for ordinal in range(3):
        shop.pod(ordinal, "v2", unready=60.0)
    target = shop.make()
    for looks in range(1, 4):
        assert not await target.settled("v1")
        assert len(shop.deletes) == looks


@pytest.mark.parametrize("of", ["v1", "v2"])
async def test_none_is_deleted_while_another_is_on_its_way(shop: StatefulSet, of: str) -> None:
    shop.deploy("v1")
    shop.pod(0, "v2", unready=60.0)
    target = shop.make()
    shop.pod(2, of, deletionTimestamp="2026-01-01T00:00:00Z")
    assert not await target.settled("v1")
    shop.pod(2, "v1", unready=1.0)
    assert not await target.settled("v1")
    assert shop.deletes == []
    shop.pod(2, "v1")
    assert not await target.settled("v1")
    assert shop.deletes == ["checkout-0"]


async def test_where_no_pod_waits_for_another_none_is_deleted(shop: StatefulSet) -> None:
    shop.deploy("v1", podManagementPolicy="Parallel")
    shop.pod(0, "v2", unready=60.0)
    assert not await shop.make().settled("v1")
    assert shop.deletes == []


async def test_a_pod_of_a_release_that_somebody_deploys_meanwhile_is_left_alone(shop: StatefulSet) -> None:
    """After the look at what is in place, and before the one at its pods."""
    shop.deploy("v1")

    async def deploys(request: web.Request) -> None:
        if request.path.endswith("/pods") and "checkout-0" not in shop.pods:
            shop.deploy("v3")
            shop.pod(0, "v3", unready=0.0, waiting="ImagePullBackOff")

    shop.server.misbehave = deploys
    assert not await shop.make().settled("v1")
    assert (shop.pods, shop.deletes) == (["checkout-0"], [])


@pytest.mark.parametrize("code", [400, 403, 422])
async def test_a_pod_that_may_not_be_deleted_is_told_once_and_the_revert_goes_on(shop: StatefulSet, code: int) -> None:
    """As where an admission webhook refuses it."""
    shop.deploy("v1")
    shop.pod(0, "v2", unready=60.0)
    shop.pod(1, "v2", unready=60.0)

    async def refuses(request: web.Request) -> web.StreamResponse | None:
        return status(code, "Invalid", "no") if (request.method, request.path[-1]) == ("DELETE", "0") else None

    shop.server.misbehave = refuses
    target = shop.make()
    with capture_logs() as logs:
        for _ in range(3):
            assert not await target.settled("v1")
    assert shop.deletes == ["checkout-0", "checkout-1"]
    (told,) = [line for line in logs if line["event"] == "stuck_pod_stays"]
    assert (told["pod"], f"({code})" in told["error"]) == ("checkout-0", True)
