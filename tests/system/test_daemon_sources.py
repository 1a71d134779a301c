"""Sources that go down, come back, crash or tell nonsense, and pushed deliveries that are no good."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd import registry
from rollbackd.adapter import Adapter, AdapterKind
from rollbackd.fields import Model
from rollbackd.sources.base import Sink, SourceContext
from rollbackd.web.views import SourceView
from tests.support.inside import Inside, Shop
from tests.support.waiting import eventually, eventually_async


async def source(daemon: Inside, kind: str, service: str = "shop") -> SourceView:
    return next(one for one in (await daemon.service(service)).sources if one.kind == kind)


async def test_a_source_that_is_down_is_no_reason_to_roll_back(tmp_path: Path) -> None:
    """The metrics' endpoint dies in the middle of a bake and comes back: the very same watch goes on and ends well."""
    up = 'rollbackd_source_up{service="shop",source="scrape"}'
    async with Shop(tmp_path, faults={}) as shop:
        bare = shop.block(bake="20s", logs=None, probe=None)
        async with Inside(tmp_path, bare) as daemon:
            await daemon.until_known()
            shop.deploy("v2")
            await daemon.until_watching("v2")
            watch = (await daemon.shop()).watch
            assert watch is not None
            await shop.server.stop()

            async def down() -> bool:
                return (await source(daemon, "scrape")).state == "down"

            await eventually_async(down)
            assert "refused" in (await source(daemon, "scrape")).reason
            assert await daemon.metric(up) == 0
            await eventually(lambda: daemon.now() > watch.ends_at + 10)
            after = (await daemon.shop()).watch
            assert after is not None, "silence is no health either: the bake does not end in it"
            assert after.deployed_at == watch.deployed_at
            await shop.server.start()

            async def good() -> bool:
                return (await daemon.shop()).last_known_good == "v2"

            await eventually_async(good)
            assert await daemon.metric(up) == 1
            assert await daemon.decisions() == []
            assert shop.in_place == "v2"


class Nothing(Model):
    """No settings."""


class Crashing:
    """A source of another package that breaks as soon as it is asked."""

    def __init__(self, settings: Nothing, context: SourceContext) -> None:
        self.runs = 0

    async def run(self, sink: Sink) -> None:
        sink.up()
        self.runs += 1
        raise ZeroDivisionError("the secret of this source is hunter2")


class Ending(Crashing):
    """One that ends by itself."""

    async def run(self, sink: Sink) -> None:
        sink.up()
        self.runs += 1


class WithForeign:
    """The registry, and sources of another package."""

    def __init__(self) -> None:
        self.built: list[Crashing] = []

    def names(self, kind: AdapterKind) -> list[str]:
        return [*registry.names(kind), *(["crashing", "ending"] if kind == "source" else [])]

    def load(self, kind: AdapterKind, name: str) -> registry.AnyAdapter:
        if kind != "source" or name not in ("crashing", "ending"):
            return registry.load(kind, name)

        def build(settings: Nothing, context: SourceContext) -> Crashing:
            self.built.append((Crashing if name == "crashing" else Ending)(settings, context))
            return self.built[-1]

        return Adapter(Nothing, build)


@pytest.mark.parametrize(("kind", "reason"), [("crashing", "ZeroDivisionError"), ("ending", "RuntimeError")])
async def test_a_source_that_crashes_is_started_again_and_stops_no_other(
    tmp_path: Path, kind: str, reason: str
) -> None:
    """It is shown as down, waits between its starts, and everything else is watched and reverted as ever."""
    catalog = WithForeign()
    async with Shop(tmp_path) as shop:
        block = shop.block(sources=f"[{{{kind}: {{}}}}]")
        async with Inside(tmp_path, block, catalog=catalog) as daemon:

            async def polled() -> bool:
                return (await source(daemon, "scrape")).events > 12

            await eventually_async(polled)
            shop.deploy("v2")
            assert (await daemon.ended()).state == "verified"
            view = await source(daemon, kind)
            assert (view.state, view.reason) == ("down", f"it crashed ({reason}), the log says more")
            crashes = await daemon.metric('rollbackd_task_crashes_total{task="source"}')
            (built,) = catalog.built
            assert built.runs == crashes
            assert 2 <= built.runs <= 10, "again and again, but after growing waits"
            assert b"hunter2" not in await daemon.get("/api/v1/status")


async def test_deliveries_that_are_no_good_are_refused_and_stop_nothing(tmp_path: Path) -> None:
    async with Shop(tmp_path, faults={}) as shop, Inside(tmp_path, shop.block()) as daemon:
        for path, limit in (("/api/v1/deployments", 256 * 1024), ("/hooks/alertmanager", 4 * 1024 * 1024)):
            status, body = await daemon.ask("POST", path, b"{this is no JSON")
            assert (status, b"not JSON" in body) == (400, True), (path, body)
            status, body = await daemon.ask("POST", path, b" " * (limit + 1))
            assert status == 413, (path, body)
        status, answer = await daemon.post("/api/v1/deployments", {"service": "shup", "version": "v2"})
        assert (status, answer["error"]) == (404, "unknown_service")
        assert "shop" in answer["message"]
        status, answer = await daemon.alert("firing", service="shup")
        assert (status, answer) == (200, {"accepted": 0, "duplicates": 0, "dropped": {"unknown_service": 1}})
        await daemon.until_known()
        assert (await daemon.status()).problems == ()


async def test_two_deployments_in_one_second_are_two(tmp_path: Path) -> None:
    """Both are watched in their order, and the same told twice is still one."""
    async with Shop(tmp_path, faults={}) as shop, Inside(tmp_path, shop.block(target=None)) as daemon:
        for version, told in (("v1", 1), ("v2", 1), ("v2", 0), ("v3", 1)):
            at = daemon.now() // 1
            body = {"service": "shop", "version": version, "at": at, "id": f"build of {version}"}
            status, answer = await daemon.post("/api/v1/deployments", body)
            assert (status, answer["accepted"]) == (200, told)
        await daemon.until_watching("v3")
        seen = [(one.version, one.state) for one in reversed(await daemon.deployments())]
        assert seen == [("v1", "superseded"), ("v2", "superseded"), ("v3", "opened")]
