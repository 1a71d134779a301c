"""Which other services are asked, and what each is to the one in trouble."""

from __future__ import annotations

from rollbackd.decide.state import ServiceState
from rollbackd.decide.watch import Watch
from rollbackd.decide.witnesses import witnesses

CALLS: dict[str, tuple[str, ...]] = {"shop": ("stock", "unknown", "shop"), "web": ("shop",)}


def seen(services: dict[str, ServiceState]) -> list[tuple[str, float | None, bool, bool]]:
    found = witnesses("shop", services, lambda name: CALLS.get(name, ()))
    return [(one.name, one.deployed_at, one.is_dependency, one.is_caller) for one in found]


def test_declared_dependencies_come_first_and_callers_are_known() -> None:
    services = {name: ServiceState() for name in ("cart", "shop", "web", "stock")}
    assert seen(services) == [
        ("stock", None, True, False),
        ("cart", None, False, False),
        ("web", None, False, True),
    ]


def test_a_deployment_on_trial_is_told_and_first_sight_is_none() -> None:
    def watched(previous: str | None) -> ServiceState:
        watch = Watch("cart", "2", previous, 100.0, 100.0, False, {})
        return ServiceState(watch=watch, deployed_at=100.0)

    assert seen({"cart": watched("1")}) == [("cart", 100.0, False, False)]
    assert seen({"cart": watched(None)}) == [("cart", None, False, False)]
