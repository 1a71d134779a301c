"""Pods of a StatefulSet that are not ready, and would keep it from going back; test_workloads.py has the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
