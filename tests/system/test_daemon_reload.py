"""A changed configuration file: what is good takes effect and disturbs nothing else, what is bad is refused loudly."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from pathlib import Path
from typing import Any

from aiohttp import web
from structlog.testing import capture_logs

from rollbackd import registry
from rollbackd.adapter import Adapter, AdapterKind
from rollbackd.targets.base import Target
from tests.support.inside import Inside, Shop
from tests.support.servers import Server
from tests.support.waiting import eventually, eventually_async


def hang_up() -> None:
    """Ask for a reload, as `systemctl reload` does."""
    os.kill(os.getpid(), signal.SIGHUP)


async def in_force(daemon: Inside) -> None:
    """Return once the file as it is now is the configuration in force."""
    wanted = hashlib.sha256(daemon.config.read_bytes()).hexdigest()

    async def done() -> bool:
        return (await daemon.status()).config.sha256 == wanted

    await eventually_async(done)


async def problem(daemon: Inside, part: str) -> None:
    """Return once the file is refused with these words."""

    async def done() -> bool:
        return part in ((await daemon.status()).config_problem or "")

    await eventually_async(done)


async def test_a_bad_file_is_refused_and_the_old_one_stays_in_force(tmp_path: Path) -> None:
    """Said by the status, the metric and a message; all three say so, too, once the file is as it was."""
    told: list[str] = []

    async def hear(request: web.Request) -> web.StreamResponse:
        told.append((await request.json())["topic"])
        return web.Response()

    async with Shop(tmp_path, faults={}) as shop, Server(hear) as ear:
        extra = f"notify: [webhook: {{url: {ear.url('/')}, topics: [config]}}]"
        async with Inside(tmp_path, shop.block(), extra=extra) as daemon:
            good = daemon.config.read_bytes()
            before = (await daemon.status()).config
            daemon.write(shop.block(), extra=extra + "\nliste: 127.0.0.1:1\nmode: sleep")
            hang_up()
            await problem(daemon, "did you mean `listen`")
            await problem(daemon, "mode")
            assert (await daemon.status()).config == before
            assert await daemon.metric("rollbackd_config_ok") == 0
            await eventually(lambda: told == ["config"])
            daemon.config.write_bytes(good)

            async def well() -> bool:
                return (await daemon.status()).config_problem is None

            await eventually_async(well)
            assert await daemon.metric("rollbackd_config_ok") == 1
            await daemon.until_known()


async def test_what_needs_a_restart_is_refused_with_a_sentence(tmp_path: Path) -> None:
    async with Shop(tmp_path, faults={}) as shop, Inside(tmp_path, shop.block()) as daemon:
        daemon.write(shop.block(), extra=f"record: {tmp_path}/events.jsonl\nlog: {{level: error}}")
        hang_up()
        await problem(daemon, "record, log changed, which takes effect at a restart only: restart the daemon")
        daemon.write(shop.block(), extra="mode: shadow")
        await in_force(daemon)
        assert (await daemon.shop()).mode == "shadow"
        assert (await daemon.status()).config_problem is None


async def test_a_recording_of_the_command_line_stands_in_the_way_of_no_reload(tmp_path: Path) -> None:
    async with (
        Shop(tmp_path, faults={}) as shop,
        Inside(tmp_path, shop.block(), record=tmp_path / "events.jsonl") as daemon,
    ):
        daemon.write(shop.block(bake="90s"))
        hang_up()
        await in_force(daemon)


async def test_services_come_and_go_and_the_others_are_not_disturbed(tmp_path: Path) -> None:
    """The file's change is noticed by itself. The watch, the sources and the tally of `shop` go on."""
    async with (
        Shop(tmp_path, faults={}) as shop,
        Shop(tmp_path, "blog") as blog,
        Shop(tmp_path, "old") as old,
        Inside(tmp_path, shop.block(), old.block()) as daemon,
    ):
        await daemon.until_known()
        await daemon.until_known("old")
        shop.deploy("v2")
        await daemon.until_watching("v2")
        before = await daemon.shop()
        daemon.write(shop.block(bake="600s"), blog.block())
        await in_force(daemon)
        after = await daemon.shop()
        assert before.watch is not None
        assert after.watch is not None
        assert after.watch.deployed_at == before.watch.deployed_at
        assert after.watch.ends_at > before.watch.ends_at + 500, "the new policy holds for the open watch"
        for one, other in zip(before.sources, after.sources, strict=True):
            assert (other.since, other.events >= one.events) == (one.since, True), "not started anew"
        assert [one.name for one in (await daemon.status()).services] == ["shop", "blog"]
        status, _ = await daemon.ask("GET", "/api/v1/services/old")
        assert status == 404
        assert await daemon.metric('rollbackd_target_ready{service="old"}') is None
        assert await daemon.metric('rollbackd_source_up{service="old",source="probe"}') is None
        await daemon.until_known("blog")
        blog.deploy("v2")
        assert (await daemon.ended("blog")).state == "verified"


async def test_a_service_whose_parts_changed_is_watched_on_with_the_new_ones(tmp_path: Path) -> None:
    async with Shop(tmp_path) as shop, Inside(tmp_path, shop.block(logs=None)) as daemon:
        await daemon.until_known()
        daemon.write(shop.block(probe=None))
        await in_force(daemon)
        await daemon.until_known()
        assert [one.kind for one in (await daemon.shop()).sources] == ["scrape", "log_file"]
        assert await daemon.metric('rollbackd_source_up{service="shop",source="scrape"}') == 1
        assert await daemon.metric('rollbackd_source_up{service="shop",source="probe"}') is None
        shop.deploy("v2")
        assert (await daemon.ended()).state == "verified"


async def test_a_service_being_rolled_back_keeps_its_parts_until_that_has_ended(tmp_path: Path) -> None:
    """Then what was refused meanwhile takes effect by itself."""
    async with Shop(tmp_path) as shop, Inside(tmp_path, shop.block()) as daemon:
        gate = shop.hold_restarts()
        await daemon.until_known()
        shop.deploy("v2")
        await eventually(lambda: shop.in_place == "v1")
        daemon.write(shop.block(probe=None))
        hang_up()
        await problem(daemon, "a rollback of shop is running: its settings cannot change until it ends")
        await eventually(lambda: daemon.daemon._reloader.idle)
        with capture_logs() as logs:
            daemon.write(shop.block(mode="shadow"))
            hang_up()
            await eventually(lambda: "config_refused" in [one["event"] for one in logs])
        await problem(daemon, "a rollback of shop is running")
        daemon.write(shop.block(probe=None))
        gate.touch()
        assert (await daemon.ended()).state == "verified"
        await in_force(daemon)
        assert [one.kind for one in (await daemon.shop()).sources] == ["scrape", "log_file"]


async def test_tokens_and_notifiers_change_with_the_file(tmp_path: Path) -> None:
    heard: dict[str, list[str]] = {"one": [], "two": []}

    async def hear(request: web.Request) -> web.StreamResponse:
        heard[request.path.strip("/")].append((await request.json())["title"])
        return web.Response()

    def extra(name: str) -> str:
        token = tmp_path / name
        token.write_text(f"token-{name}-0123456789-0123456789")
        return (
            f"notify: [webhook: {{url: {ear.url('/' + name)}, topics: [watch]}}]\n"
            f"auth: {{tokens: [{{name: {name}, token: {{file: {token}}}, scopes: [operate]}}]}}"
        )

    async with (
        Shop(tmp_path, faults={}) as shop,
        Server(hear) as ear,
        Inside(tmp_path, shop.block(), extra=extra("one")) as daemon,
    ):

        async def may(name: str) -> bool:
            bearer = {"Authorization": f"Bearer token-{name}-0123456789-0123456789"}
            return (await daemon.ask("POST", "/api/v1/resume", {}, bearer))[0] == 200

        assert await may("one")
        assert not await may("two")
        await daemon.until_known()
        await eventually(lambda: heard["one"])
        daemon.write(shop.block(), extra=extra("two"))
        hang_up()
        await in_force(daemon)
        assert not await may("one")
        assert await may("two")
        told = len(heard["one"])
        shop.deploy("v2")
        await eventually(lambda: any("v2" in title for title in heard["two"]))
        assert len(heard["one"]) == told


class Lingering:
    """The registry, whose targets do not end until `gate` is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.ending = 0

    def names(self, kind: AdapterKind) -> list[str]:
        return registry.names(kind)

    def load(self, kind: AdapterKind, name: str) -> registry.AnyAdapter:
        adapter = registry.load(kind, name)
        if kind != "target":
            return adapter

        def build(settings: Any, context: Any) -> Target:
            target: Target = adapter.build(settings, context)
            close = target.close

            async def late() -> None:
                self.ending += 1
                await self.gate.wait()
                await close()

            target.close = late  # type: ignore[method-assign]  # one of this very object
            return target

        return Adapter(adapter.config, build)


async def test_a_new_configuration_is_in_force_before_the_former_one_has_ended(tmp_path: Path) -> None:
    """Its mode and its tokens hold from the moment on that its target is there."""
    catalog = Lingering()
    token = tmp_path / "token"
    token.write_text("token-0123456789-0123456789-0123456789")
    first = f"auth: {{anonymous: [read], tokens: [{{name: one, token: {{file: {token}}}, scopes: [operate]}}]}}"
    bearer = {"Authorization": f"Bearer {token.read_text()}"}
    async with (
        Shop(tmp_path, faults={}) as shop,
        Inside(tmp_path, shop.block(), extra=first, catalog=catalog) as daemon,
    ):
        await daemon.until_known()
        target = f'{{release_dir: {{path: {shop.folder}, restart: "sh {shop.restart}", poll: 2s}}}}'
        daemon.write(shop.block(target=target, mode="shadow"), extra="auth: {anonymous: [read]}")
        hang_up()
        try:
            await eventually(lambda: catalog.ending)
            await in_force(daemon)
            assert (await daemon.shop()).mode == "shadow"
            assert (await daemon.ask("POST", "/api/v1/pause", {"reason": "x"}, bearer))[0] == 401
        finally:
            catalog.gate.set()


async def test_a_file_cut_short_of_all_its_services_is_refused(tmp_path: Path) -> None:
    """As one that is written while it is read: the service goes on being watched."""
    async with Shop(tmp_path, faults={}) as shop, Inside(tmp_path, shop.block()) as daemon:
        daemon.write()
        hang_up()
        await problem(daemon, "no service is left in it, shop would go unwatched")
        assert (await daemon.shop()).name == "shop"
