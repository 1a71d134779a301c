"""Configurations that take the place of one another: all of a new one at once, and nothing left over of what failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd import registry
from rollbackd.adapter import Adapter, AdapterKind
from rollbackd.config.loading import load
from rollbackd.config.schema import Config
from rollbackd.errors import Permanent
from rollbackd.fields import Model
from rollbackd.live.fleet import Fleet
from rollbackd.targets.base import TargetContext
from tests.support.clock import settle
from tests.unit.live.house import House
from tests.unit.live.test_rollbacks import Memory


class Name(Model):
    """A target of these tests."""

    name: str = ""


class Closing(Memory):
    """Says when it was closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True


class WithMemory:
    """The registry, and targets in memory, of which one called `broken` cannot be built."""

    def __init__(self) -> None:
        self.built: list[Closing] = []

    def names(self, kind: AdapterKind) -> list[str]:
        return [*registry.names(kind), *(["memory"] if kind == "target" else [])]

    def load(self, kind: AdapterKind, name: str) -> registry.AnyAdapter:
        if (kind, name) != ("target", "memory"):
            return registry.load(kind, name)

        def build(settings: Name, context: TargetContext) -> Closing:
            if settings.name == "broken":
                raise Permanent("it cannot be built")
            self.built.append(Closing())
            return self.built[-1]

        return Adapter(Name, build)


def config(home: Path, catalog: WithMemory, text: str) -> Config:
    """A configuration as it is written."""
    file = home / "rollbackd.yaml"
    file.write_text(f"data_dir: {home}/data\n{text}")
    return load(file, catalog).config


def fleet_of(house: House, home: Path, catalog: WithMemory) -> Fleet:
    return Fleet(catalog, house.engine, house.pipeline, house.clock, house.tasks, house.metrics, home)


async def test_the_engine_is_told_of_shadow_mode_and_of_its_end(tmp_path: Path) -> None:
    """In shadow nothing is carried out, so nothing counts for a cooldown or the fleet's budget."""
    async with House(tmp_path) as house:
        catalog = WithMemory()
        fleet = fleet_of(house, tmp_path, catalog)
        block = "services: {shop: {target: {memory: {}}, mode: %s}, blog: {target: {memory: {}}}}"
        for mode in ("shadow", "act", "shadow"):
            fleet.exchange(config(tmp_path, catalog, block % mode))
            assert house.engine._conditions["shop"].shadow == (mode == "shadow")
            assert not house.engine._conditions["blog"].shadow
        assert len(catalog.built) == 2, "a mode is no reason to build anything anew"
        await fleet.stop()


async def test_what_was_built_beside_a_part_that_cannot_be_is_closed_again(tmp_path: Path) -> None:
    async with House(tmp_path) as house:
        catalog = WithMemory()
        fleet = fleet_of(house, tmp_path, catalog)
        text = "services: {shop: {target: {memory: {}}}, blog: {target: {memory: {name: broken}}}}"
        with pytest.raises(Permanent, match="cannot be built"):
            fleet.exchange(config(tmp_path, catalog, text))
        assert fleet.names == []
        await settle()
        assert [one.closed for one in catalog.built] == [True]


async def test_the_services_are_told_as_one_object_as_long_as_they_are_the_same(tmp_path: Path) -> None:
    """Intakes remember by it whose a stream is."""
    async with House(tmp_path) as house:
        catalog = WithMemory()
        fleet = fleet_of(house, tmp_path, catalog)
        fleet.exchange(config(tmp_path, catalog, "services: {shop: {}, cart: {}}"))
        first = fleet.known()
        fleet.exchange(config(tmp_path, catalog, "services: {cart: {bake: 5m}, shop: {}}"))
        assert fleet.known() is first
        assert first == {"shop", "cart"}
        fleet.exchange(config(tmp_path, catalog, "services: {shop: {}}"))
        assert fleet.known() == {"shop"}
        await fleet.stop()
