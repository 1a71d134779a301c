"""Target `docker`: what a revert puts back, and in which order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import Shop
from tests.support.live import ReservedPort
from tests.support.waiting import eventually
from tests.unit.targets.docker.deploying import deployed
from tests.unit.targets.making import ORDER, Make, version

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]


async def test_the_whole_configuration_comes_back(make: Make, shop: Shop, tmp_path: Path) -> None:
    first, second, volume = shop.network("--subnet", "10.213.77.0/24"), shop.network(), shop.volume()
    options = (
        *("--network", first, "--network-alias", "shop-api", "--ip", "10.213.77.10"),
        *("--env", "MODE=calm", "--label", "team=shop", "--restart", "unless-stopped", "--user", "0:0"),
        *("--volume", f"{volume}:/data", "--mount", f"type=bind,source={tmp_path},target=/host,readonly"),
        *("--tmpfs", "/scratch", "--publish", "127.0.0.1::80", "--cap-drop", "NET_RAW", "--cap-add", "SYS_TIME"),
        *("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--ulimit", "nofile=100:200"),
        *("--log-opt", "max-size=1m", "--sysctl", "net.ipv4.ip_forward=0", "--device", "/dev/null:/dev/zilch"),
        *("--health-cmd", "true", "--health-interval", "200ms", "--hostname", "shop", "--add-host", "db:10.0.0.9"),
        *("--read-only", "--init", "--shm-size", "16m", "--workdir", "/tmp", "--stop-timeout", "3"),
        *("--entrypoint", "/bin/sh"),
        *("--dns", "10.0.0.53", "--security-opt", "no-new-privileges"),
    )  # fmt: skip
    target = make()
    shop.deploy("v1", *options, command=("-c", "sleep 1000"))
    shop.engine.docker("network", "connect", "--alias", "behind", second, shop.name)
    before = shop.inspect()
    assert await version(target) == "v1"
    shop.deploy("v2")
    assert await version(target) == "v2"
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    after = shop.inspect()
    ours = {name for name in after["Config"]["Labels"] if name.startswith("io.rollbackd.")}
    assert ours == {"io.rollbackd.key", "io.rollbackd.name", "io.rollbackd.target"}
    for name in ours:
        del after["Config"]["Labels"][name]
    assert after["Config"] == before["Config"]
    assert after["HostConfig"] == before["HostConfig"]
    assert _asked(after) == _asked(before)
    assert await version(target) == "v1"
    assert await target.settled("v1")
    assert list(shop.containers) == [shop.name]


def _asked(shown: Any) -> dict[str, object]:
    return {
        name: (one["IPAMConfig"] or None, sorted(set(one["Aliases"]) - {shown["Id"][:12]}))
        for name, one in shown["NetworkSettings"]["Networks"].items()
    }


async def test_the_old_one_runs_before_the_bad_one_goes(make: Make, shop: Shop) -> None:
    target = make()
    check = ("--health-cmd", "test -e /tmp/well", "--health-interval", "100ms", "--health-retries", "1000")
    await deployed(shop, target, *check)
    reverting = asyncio.create_task(target.revert(ORDER))
    await eventually(lambda: len(shop.running) == 2)
    draft = next(name for name in shop.running if name != shop.name)
    assert shop.running[shop.name].endswith(":v2")
    assert not await target.settled("v1")
    shop.engine.docker("exec", draft, "touch", "/tmp/well")
    await reverting
    assert shop.running == {shop.name: f"{shop.repository}:v1"}


@pytest.mark.parametrize(("mode", "overlap", "together"), [("rw", None, 1), ("ro", None, 2), ("rw", True, 2)])
async def test_two_that_write_to_one_folder_do_not_run_at_the_same_time(
    make: Make, shop: Shop, tmp_path: Path, mode: str, overlap: bool | None, together: int
) -> None:
    target = make(overlap=overlap)
    well = ("--health-cmd", "test -e /tmp/well", "--health-interval", "100ms", "--health-retries", "1000")
    await deployed(shop, target, "--volume", f"{tmp_path}:/data:{mode}", *well)
    reverting = asyncio.create_task(target.revert(ORDER))
    await eventually(lambda: len(shop.containers) == 2 and f"{shop.repository}:v1" in shop.running.values())
    assert len(shop.running) == together
    draft = next(name for name in shop.running if name != shop.name)
    shop.engine.docker("exec", draft, "touch", "/tmp/well")
    await reverting
    assert shop.running == {shop.name: f"{shop.repository}:v1"}


async def test_where_both_want_one_port_the_bad_one_stops_first(make: Make, shop: Shop) -> None:
    network, reserved = shop.network(), ReservedPort()
    port = reserved.number
    target = make()
    await deployed(shop, target, "--network", network, "--publish", f"127.0.0.1:{port}:80")
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    assert shop.inspect()["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"] == str(port)
    assert list(shop.containers) == [shop.name]


@pytest.mark.parametrize("option", ["--volume=/data", "--mount=type=volume,target=/data"])
async def test_data_without_a_name_stays(make: Make, shop: Shop, option: str) -> None:
    target = make()
    await deployed(shop, target, option)
    shop.engine.docker("exec", shop.name, "touch", "/data/order-1")
    await target.revert(ORDER)
    assert shop.engine.docker("exec", shop.name, "sh", "-c", "echo /data/*") == "/data/order-1"
    shop.adopt_volume(shop.inspect()["Mounts"][0]["Name"])
    assert await version(target) == "v1"
