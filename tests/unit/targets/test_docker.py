"""Target `docker`, on a real engine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rollbackd.docker.engine import EngineFault
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.docker import ADAPTER
from rollbackd.targets.docker_shape import decoded, shape_of
from rollbackd.targets.kept_releases import LARGEST_BYTES, KeptReleases, Seen
from tests.support.containers import Shop
from tests.support.waiting import eventually, eventually_async
from tests.support.watching import watching
from tests.unit.targets.cutting import Cut, CutOff
from tests.unit.targets.making import Make, making

pytestmark = [pytest.mark.needs("dockerd", "docker", "busybox"), pytest.mark.timeout(120)]

ORDER = RevertOrder(to="v1", expect="v2", key="rollback-checkout-v2-1")


@pytest.fixture
async def make(tmp_path: Path, shop: Shop) -> AsyncIterator[Make]:
    usual: dict[str, object] = {
        "container": shop.name,
        "host": shop.engine.host,
        "stable_for": 0.1,
        "healthy_within": 5.0,
    }
    async with making(ADAPTER, usual, tmp_path / "state") as made:
        yield made


def seen(called: str, how: dict[str, object]) -> Seen:
    """A release as it is kept."""
    return Seen(
        image=f"sha256:{called}", digest=None, reference=called, called=called,
        commit=None, fingerprint="", created_at=None, how=how,
    )  # fmt: skip


async def version(target: Target) -> str | None:
    release = await target.current()
    return release.version if release is not None else None


def free_port() -> int:
    """A port nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def deployed(shop: Shop, target: Target, *options: str, bad: tuple[str, ...] = ()) -> None:
    """v1 with these options was in place and was seen, and now v2 is."""
    shop.deploy("v1", *options)
    assert await version(target) == "v1"
    shop.deploy("v2", *(bad or options))
    assert await version(target) == "v2"


# -- releases


async def test_a_release_is_called_by_its_tag_and_known_by_its_digest(make: Make, shop: Shop) -> None:
    shop.deploy("v1")
    release = await make().current()
    assert release is not None
    assert (release.version, release.digest) == ("v1", shop.inspect()["Image"])


async def test_nothing_is_deployed_where_there_is_no_container(make: Make) -> None:
    assert await make().current() is None
    (problem,) = (await make().readiness("v1")).problems
    assert "nothing is deployed" in problem or "never seen" in problem


async def test_the_beginning_of_an_id_is_no_name(make: Make, shop: Shop) -> None:
    """Between `docker rm db` and `docker run --name db`, an engine takes `db` for that."""
    assert await make(container=shop.deploy("v1")[:4]).current() is None


async def test_where_compose_took_a_volume_over_it_is_the_same_release(make: Make, shop: Shop) -> None:
    target = make()
    shop.deploy("v1", "--mount", "type=volume,target=/data")
    assert await version(target) == "v1"
    volume = shop.inspect()["Mounts"][0]["Name"]
    shop.adopt_volume(volume)
    shop.deploy("v1", "--mount", f"type=volume,source={volume},target=/data")
    assert await version(target) == "v1"


async def test_a_moved_tag_is_another_release(make: Make, shop: Shop) -> None:
    target = make()
    names = []
    for content in ("one", "two"):
        shop.image(f"{shop.name}:stable", f"LABEL content={content}")
        shop.deploy(f"{shop.name}:stable")
        names.append(await version(target))
    assert names[0] == "stable"
    assert names[1] == f"stable@{shop.inspect()['Image'].removeprefix('sha256:')[:12]}"
    await target.revert(RevertOrder(to="stable", expect=str(names[1]), key="k"))
    assert await version(target) == "stable"


async def test_latest_says_nothing(make: Make, shop: Shop) -> None:
    shop.image(f"{shop.name}:latest")
    shop.deploy(f"{shop.name}:latest")
    assert await version(make()) == shop.inspect()["Image"]


async def test_another_configuration_is_another_release(make: Make, shop: Shop) -> None:
    target = make()
    shop.deploy("v1", "--env", "POOL=10")
    assert await version(target) == "v1"
    shop.deploy("v1", "--env", "POOL=1")
    other = await version(target)
    assert other is not None
    assert other.startswith("v1+")
    shop.deploy("v1", "--env", "POOL=10")
    assert await version(target) == "v1"
    await target.revert(RevertOrder(to=other, expect="v1", key="k"))
    assert "POOL=1" in shop.inspect()["Config"]["Env"]


async def test_what_is_kept_is_for_the_daemon_alone(make: Make, shop: Shop, tmp_path: Path) -> None:
    await deployed(shop, make(), "--env", "PASSWORD=sesame")
    await make().revert(ORDER)
    files = [*(tmp_path / "state").iterdir()]
    assert {file.name for file in files} == {
        "plan.json",
        "releases.json",
        "releases.lock",
        "reverts.jsonl",
        "reverts.lock",
    }
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_two_that_look_at_the_same_time_forget_nothing(tmp_path: Path) -> None:
    """As after a reload, while the target of the configuration before still looks."""

    def look(who: str) -> None:
        for number in range(30):
            KeptReleases(tmp_path, keep=100).note(seen(f"{who}{number}", how={}))

    await asyncio.gather(*(asyncio.to_thread(look, who) for who in "ab"))
    assert len(KeptReleases(tmp_path, keep=100).all()) == 60


async def test_releases_too_large_to_keep_are_forgotten_from_the_oldest(tmp_path: Path) -> None:
    kept = KeptReleases(tmp_path, keep=100)
    for number in range(5):
        kept.note(seen(f"v{number}", how={"config": "x" * (LARGEST_BYTES // 4)}))
    assert [one.version for one in kept.all()] == ["v4", "v3", "v2"]
    kept.note(seen("v5", how={"config": "x" * LARGEST_BYTES}))
    assert (kept.all(), kept.problem()) == ([], None)


async def test_releases_are_kept_in_bounds(make: Make, shop: Shop) -> None:
    target = make(keep=2)
    for number in range(4):
        shop.deploy("v1", "--env", f"NUMBER={number}")
        await target.current()
    assert len(await target.history()) == 2


# -- reverting


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
    network, port = shop.network(), free_port()
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


@pytest.mark.parametrize(
    ("overlap", "options", "command", "says"),
    [
        (True, (), ("/bin/sh", "-c", "test -e /marks/broken || sleep 1000; exit 3"), "exit code 3"),
        (False, (), ("/bin/sh", "-c", "test -e /marks/broken || sleep 1000; exit 3"), "exit code 3"),
        (False, (), ("/marks/program",), "cannot be started"),
        (
            True,
            ("--restart", "always"),
            ("/bin/sh", "-c", "test -e /marks/broken || sleep 1000; exit 4"),
            "started again",
        ),
        (
            True,
            ("--health-cmd", "test ! -e /marks/broken", "--health-interval", "50ms", "--health-retries", "2"),
            ("/bin/sh", "-c", "sleep 1000"),
            "health check",
        ),
    ],
)
async def test_where_the_old_one_does_not_come_up_the_situation_before_is_restored(
    make: Make, shop: Shop, tmp_path: Path, overlap: bool, options: tuple[str, ...], command: tuple[str, ...], says: str
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    program = marks / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    target = make(overlap=overlap, healthy_within=1.5)
    shop.deploy("v1", "--volume", f"{marks}:/marks", *options, command=command)
    assert await version(target) == "v1"
    bad = shop.deploy("v2")
    assert await version(target) == "v2"
    (marks / "broken").touch()
    program.unlink()
    with pytest.raises(Permanent) as caught:
        await target.revert(ORDER)
    assert says in str(caught.value)
    assert "v2 is in place as before" in str(caught.value)
    assert shop.running == {shop.name: f"{shop.repository}:v2"}
    assert list(shop.containers) == [shop.name]
    assert shop.inspect()["Id"] == bad
    with pytest.raises(Permanent):
        await target.revert(ORDER)
    assert shop.inspect()["Id"] == bad
    assert not await target.settled("v1")


async def test_one_that_removes_itself_is_made_again(make: Make, shop: Shop, tmp_path: Path) -> None:
    target = make(overlap=False)
    shop.deploy("v1", "--volume", f"{tmp_path}:/marks", command=("/bin/sh", "-c", "test -e /marks/b || sleep 1000"))
    assert await version(target) == "v1"
    shop.deploy("v2", "--rm")
    assert await version(target) == "v2"
    (tmp_path / "b").touch()
    with pytest.raises(Permanent, match="v2 is in place as before"):
        await target.revert(ORDER)
    assert shop.running == {shop.name: f"{shop.repository}:v2"}


async def test_what_was_replaced_already_is_made_again_where_the_rest_fails(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The bad one is removed, the daemon dies, and what is to take its name ends meanwhile."""
    shop.deploy("v1", "--volume", f"{tmp_path}:/marks", command=("/bin/sh", "-c", "test -e /marks/b || sleep 1000"))
    assert await version(make()) == "v1"
    for at in (None, 2):  # the restoring goes well, or dies once the bad one is made and does not run yet
        (tmp_path / "b").unlink(missing_ok=True)
        shop.deploy("v2", "--env", "POOL=1")
        bad = str(await version(make()))
        order = RevertOrder(to="v1", expect=bad, key=f"key-{at}")
        with monkeypatch.context() as patch:
            CutOff(patch, 4, heard=True)
            with pytest.raises(Cut):
                await make().revert(order)
        (draft,) = shop.containers
        (tmp_path / "b").touch()
        shop.engine.docker("kill", draft)
        if at is not None:
            with monkeypatch.context() as patch:
                CutOff(patch, 1 + at, heard=False, error=Cut())
                with pytest.raises(Cut):
                    await make().revert(order)
        for _ in range(2):
            with pytest.raises(Permanent, match=f"{bad} is in place as before".replace("+", r"\+")):
                await make().revert(order)
            assert shop.running == {shop.name: f"{shop.repository}:v2"}
            assert list(shop.containers) == [shop.name]
            assert "POOL=1" in shop.inspect()["Config"]["Env"]


async def test_what_cannot_be_made_again_is_told(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await deployed(shop, make())
    with monkeypatch.context() as patch:
        CutOff(patch, 4, heard=True)
        with pytest.raises(Cut):
            await make().revert(ORDER)
    shop.engine.remove(*shop.containers)
    kept = KeptReleases(tmp_path / "state", keep=10)
    (tmp_path / "state" / "releases.json").unlink()
    kept.note(seen("v1", how={"config": {"Cmd": ["true"]}, "host": {}, "networks": {}}))
    with pytest.raises(Permanent, match="how v2 was made is not kept any more"):
        await make().revert(ORDER)


async def test_what_the_engine_says_is_told_without_the_environment(make: Make, shop: Shop, tmp_path: Path) -> None:
    """An engine that cannot start a program repeats the whole of what it was to start."""
    program = tmp_path / "sesame-7f3a9c"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    shop.deploy("v1", "--env", f"TOKEN={program.name}", "--volume", f"{tmp_path}:/m", command=(f"/m/{program.name}",))
    assert await version(make()) == "v1"
    shop.deploy("v2")
    program.unlink()
    with pytest.raises(Permanent, match=r"cannot be started: .*/m/\*\*\*") as caught:
        await make().revert(ORDER)
    assert program.name not in str(caught.value)


async def test_what_an_order_before_stopped_runs_again_where_the_next_one_fails(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop.deploy("v1", "--volume", f"{tmp_path}:/marks", command=("/bin/sh", "-c", "test -e /marks/b || sleep 1000"))
    assert await version(make()) == "v1"
    shop.deploy("v2")
    with monkeypatch.context() as patch:
        CutOff(patch, 2, heard=True)
        with pytest.raises(Cut):
            await make(overlap=False).revert(ORDER)
    assert shop.running == {}
    (tmp_path / "b").touch()
    with pytest.raises(Permanent, match="v2 is in place as before"):
        await make(overlap=False).revert(RevertOrder(to="v1", expect="v2", key="another"))
    assert shop.running == {shop.name: f"{shop.repository}:v2"}


# -- refusing


async def test_not_ready_without_the_image(make: Make, shop: Shop) -> None:
    target = make()
    shop.image(f"{shop.name}:v0", "LABEL release=v0")
    shop.deploy(f"{shop.name}:v0")
    assert await version(target) == "v0"
    shop.deploy("v2")
    assert (await target.readiness("v0")).ready
    assert "v0" in {release.version for release in await target.history()}
    shop.engine.docker("rmi", f"{shop.name}:v0")
    (problem,) = (await target.readiness("v0")).problems
    assert "image" in problem
    before = shop.inspect()
    with pytest.raises(Permanent, match="image"):
        await target.revert(RevertOrder(to="v0", expect="v2", key="k"))
    assert shop.inspect() == before
    assert "v0" not in {release.version for release in await target.history()}


async def test_not_ready_for_what_the_configuration_needs(make: Make, shop: Shop) -> None:
    target = make()
    network, volume = shop.network(), shop.volume()
    await deployed(shop, target, "--network", network, "--volume", f"{volume}:/data", bad=("--env", "A=1"))
    assert (await target.readiness("v1")).ready
    shop.close()
    shop.deploy("v2", "--env", "A=1")
    problems = (await target.readiness("v1")).problems
    assert len(problems) == 2
    assert any(network in problem for problem in problems)
    assert any(volume in problem for problem in problems)


async def test_not_ready_while_another_has_the_port(make: Make, shop: Shop) -> None:
    target = make()
    network, port = shop.network(), free_port()
    await deployed(shop, target, "--network", network, "--publish", f"127.0.0.1:{port}:80", bad=("--env", "A=1"))
    shop.deploy("v3", "--network", network, "--publish", f"127.0.0.1:{port}:80", name=f"{shop.name}-other")
    (problem,) = (await target.readiness("v1")).problems
    assert f"{shop.name}-other" in problem


async def test_not_ready_while_another_lives_in_its_network(make: Make, shop: Shop) -> None:
    target = make()
    await deployed(shop, target)
    shop.deploy("v3", "--network", f"container:{shop.name}", name=f"{shop.name}-sidecar")
    (problem,) = (await target.readiness("v1")).problems
    assert "sidecar" in problem


async def test_not_ready_without_the_container_in_whose_network_it_lived(make: Make, shop: Shop) -> None:
    target = make()
    shop.deploy("v3", name=f"{shop.name}-vpn")
    await deployed(shop, target, "--network", f"container:{shop.name}-vpn", bad=("--env", "A=1"))
    assert (await target.readiness("v1")).ready
    shop.deploy("v3", name=f"{shop.name}-vpn")
    (problem,) = (await target.readiness("v1")).problems
    assert "which is gone" in problem


async def test_an_engine_that_is_not_there_is_temporary(make: Make, tmp_path: Path) -> None:
    target = make(host=f"unix://{tmp_path}/nobody.sock")
    for call in (
        target.current(),
        target.history(),
        target.readiness("v1"),
        target.revert(ORDER),
        target.settled("v1"),
    ):
        with pytest.raises(Temporary, match="is Docker running"):
            await call


HOSTILE = {"Id": "1", "Name": "/x", "Image": "i", "Created": "", "State": {}, "Config": {}, "HostConfig": {"Links": 5}}


@pytest.mark.parametrize("raw", [b'{"Id": "\xff"}', b"[" * 100_000, b'{"Id": 1}', b"", msgspec.json.encode(HOSTILE)])
def test_what_no_engine_answers_is_told_in_our_own_errors(raw: bytes) -> None:
    with pytest.raises(Permanent, match="what is listening there"):
        shape_of(*decoded(raw))


# -- being cut off


CALLS = [("POST", "create"), ("POST", "start"), ("POST", "stop"), ("DELETE", ""), ("POST", "rename")]
"""The calls of a revert that have an effect. With `overlap: false` the second is the stop, and the third the start."""


@pytest.mark.parametrize(("overlap", "ats"), [(True, range(len(CALLS) + 1)), (False, [2])])
async def test_a_revert_that_dies_between_any_two_calls_is_finished_by_the_same_key(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, overlap: bool, ats: Sequence[int]
) -> None:
    first = shop.deploy("v1")
    assert await version(make()) == "v1"
    for at in ats:
        shop.deploy("v2")
        assert await version(make()) == "v2"
        order = RevertOrder(to="v1", expect="v2", key=f"key-{at}")
        with monkeypatch.context() as patch:
            CutOff(patch, max(at, 1), heard=at > 0)
            with pytest.raises(Cut):
                await make(overlap=overlap).revert(order)
        again = make(overlap=overlap)
        await again.revert(order)
        assert shop.running == {shop.name: f"{shop.repository}:v1"}
        assert list(shop.containers) == [shop.name]
        made = shop.inspect()["Id"]
        assert made != first
        await again.revert(order)
        assert shop.inspect()["Id"] == made
    await eventually_async(lambda: again.settled("v1"))


async def test_a_revert_makes_no_other_calls(make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or there would be more places to die at than are tried above."""
    await deployed(shop, make())
    with monkeypatch.context() as patch:
        cut = CutOff(patch, 0, heard=False)
        await make().revert(ORDER)
    assert [(method, "" if method == "DELETE" else path.rpartition("/")[2]) for method, path in cut.made] == CALLS


@pytest.mark.parametrize(("status", "ats"), [(500, (1, 2, 5)), (0, (2,))])
async def test_a_fault_in_the_middle_is_finished_or_restored(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, status: int, ats: Sequence[int]
) -> None:
    """Whatever the engine answers: either it is to be tried again, or all is as before. A start is tried thrice."""
    shop.deploy("v1")
    assert await version(make()) == "v1"
    for at in ats:
        shop.deploy("v2")
        assert await version(make()) == "v2"
        order = RevertOrder(to="v1", expect="v2", key=f"key-{at}")
        with monkeypatch.context() as patch:
            CutOff(patch, at, heard=False, error=EngineFault("injected", status))
            with suppress(Temporary):
                await make().revert(order)
        await make().revert(order)
        assert shop.running == {shop.name: f"{shop.repository}:v1"}
        assert list(shop.containers) == [shop.name]


async def test_a_failed_revert_that_dies_while_restoring_is_restored_by_the_same_key(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop.deploy("v1", "--volume", f"{tmp_path}:/marks", command=("/bin/sh", "-c", "test -e /marks/b || sleep 1000"))
    assert await version(make()) == "v1"
    (tmp_path / "b").touch()
    for at in (3, 4):  # it was started, it was removed
        bad = shop.deploy("v2")
        assert await version(make()) == "v2"
        order = RevertOrder(to="v1", expect="v2", key=f"key-{at}")
        with monkeypatch.context() as patch:
            CutOff(patch, at, heard=True)
            with pytest.raises((Cut, Permanent)):
                await make(overlap=False).revert(order)
        with pytest.raises(Permanent, match="v2 is in place as before"):
            await make(overlap=False).revert(order)
        assert shop.running == {shop.name: f"{shop.repository}:v2"}
        assert list(shop.containers) == [shop.name]
        assert shop.inspect()["Id"] == bad


async def test_a_deployment_after_it_died_is_not_undone_and_nothing_is_left_over(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at, later in ((2, "v3"), (2, "v2")):
        target = make()
        await deployed(shop, target)
        order = RevertOrder(to="v1", expect="v2", key=f"key-{later}")
        with monkeypatch.context() as patch:
            CutOff(patch, at, heard=True)
            with pytest.raises(Cut):
                await target.revert(order)
        theirs = shop.deploy(later)
        with pytest.raises(Conflict):
            await make().revert(order)
        assert list(shop.containers) == [shop.name]
        assert shop.inspect()["Id"] == theirs


async def test_what_a_dead_order_left_is_known_and_goes_with_the_next(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(shop, make())
    with monkeypatch.context() as patch:
        CutOff(patch, 2, heard=True)
        with pytest.raises(Cut):
            await make().revert(ORDER)
    (problem,) = (await make().readiness("v1")).problems
    assert "left behind" in problem
    assert not await make().settled("v2")
    await make().revert(RevertOrder(to="v1", expect="v2", key="another"))
    assert list(shop.containers) == [shop.name]


async def test_what_alone_still_runs_is_left_alone_by_another_order(
    make: Make, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad one is removed, and what is to take its name does not have it yet."""
    await deployed(shop, make())
    with monkeypatch.context() as patch:
        CutOff(patch, 4, heard=True)
        with pytest.raises(Cut):
            await make().revert(ORDER)
    before = shop.running
    assert len(before) == 1
    with pytest.raises(Conflict):
        await make().revert(RevertOrder(to="v1", expect="v2", key="another"))
    assert shop.running == before
    await make().revert(ORDER)
    assert shop.running == {shop.name: f"{shop.repository}:v1"}


# -- seeing deployments


async def test_deployments_are_seen_as_they_happen(make: Make, shop: Shop) -> None:
    shop.deploy("v1")
    target = make(poll=60.0)

    async with watching(target) as found:
        await asyncio.sleep(0.5)
        began = shop.inspect()["Created"]
        shop.deploy("v2", "--health-cmd", "test -e /tmp/well", "--health-interval", "100ms")
        await eventually(lambda: [change.phase for change in found] == ["started"])
        assert began
        shop.engine.docker("exec", shop.name, "touch", "/tmp/well")
        await eventually(lambda: [change.phase for change in found] == ["started", "finished"])
        assert {(change.version, change.previous) for change in found} == {("v2", "v1")}
        await target.revert(ORDER)
        await eventually(lambda: [change.version for change in found] == ["v2", "v2", "v1", "v1"])
