"""Release folders behind a symlink: what is read from them, what can be wrong, and how the link is switched."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import ValidationError

from rollbackd.aiokit import SystemClock
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.model import Release
from rollbackd.targets.base import RevertOrder, Target, TargetContext
from rollbackd.targets.disk import Disk
from rollbackd.targets.keys import SpentKeys
from rollbackd.targets.release_dir import ADAPTER, ReleaseDirConfig
from tests.support.nobody import as_nobody
from tests.unit.targets.making import Make, making

ORDER = RevertOrder(to="v1", expect="v2", key="k1")
_IN_MOVED_FROM, _IN_MOVED_TO, _IN_DELETE = 0x40, 0x80, 0x200
AGES = {"v1": 3000.0, "v2": 2000.0, "v3": 1000.0}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """`releases/v1` to `v3`, the last one newest, and `current` at v2."""
    root = tmp_path / "world"
    for version, age in AGES.items():
        folder = root / "releases" / version
        folder.mkdir(parents=True)
        (folder / "app").write_text(version)
        os.utime(folder, (1_763_000_000 - age, 1_763_000_000 - age))
    (root / "current").symlink_to("releases/v2")
    return root


@pytest.fixture
async def make(world: Path, tmp_path: Path) -> AsyncIterator[Make]:
    async with making(ADAPTER, {"path": str(world)}, tmp_path / "state") as one:
        yield one


def link_to(world: Path, text: str | bytes) -> None:
    (world / "current").unlink(missing_ok=True)
    os.symlink(os.fsencode(text), os.fsencode(world / "current"))  # noqa: PTH211  the text may be no text


def text_of(world: Path) -> str:
    return str((world / "current").readlink())


async def problems(target: Target, to: str = "v1") -> str:
    return "\n".join((await target.readiness(to)).problems)


# -- reading


async def test_a_release_is_named_by_its_folder(make: Make, world: Path) -> None:
    (world / "releases" / "v2" / "REVISION").write_text("4f0c1d2e4f0c1d2e4f0c1d2e4f0c1d2e4f0c1d2e\n")
    os.utime(world / "releases" / "v2", (1_763_000_000, 1_763_000_000))
    assert await make().current() == Release(
        version="v2", commit="4f0c1d2e4f0c1d2e4f0c1d2e4f0c1d2e4f0c1d2e", created_at=1_763_000_000
    )


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
async def test_a_revision_that_is_no_file_of_the_release_is_left_out(make: Make, world: Path, kind: str) -> None:
    """Opening a pipe waits for somebody who writes into it, and all of the target with it."""
    revision = world / "releases" / "v2" / "REVISION"
    (world / "elsewhere").write_text("4f0c1d2e\n")
    if kind == "pipe":
        os.mkfifo(revision)
    elif kind == "folder":
        revision.mkdir()
    else:
        revision.symlink_to(world / "elsewhere")
    current = await asyncio.wait_for(make().current(), 30)
    assert current is not None
    assert current.commit is None


@pytest.mark.parametrize("content", [b"", b"main\n", b"\xff\xfe", b"4f0c1d2e is the commit", b"a" * 10_000_000])
async def test_a_revision_file_that_holds_no_commit_is_left_out(make: Make, world: Path, content: bytes) -> None:
    (world / "releases" / "v2" / "REVISION").write_bytes(content)
    current = await make().current()
    assert current is not None
    assert current.commit is None


async def test_history_is_newest_first(make: Make) -> None:
    assert [release.version for release in await make().history()] == ["v3", "v2", "v1"]


async def test_history_leaves_out_what_is_no_release(make: Make, world: Path) -> None:
    releases = world / "releases"
    (releases / "notes.txt").write_text("not a folder")
    (releases / "half-uploaded").mkdir()
    (releases / ".cache").mkdir()
    (releases / ".cache" / "x").touch()
    (releases / "dangling").symlink_to("nowhere")
    os.mkdir(os.fsencode(releases) + b"/v\xff")  # noqa: PTH102  a name that is no text
    assert {release.version for release in await make().history()} == {"v1", "v2", "v3"}


async def test_a_release_may_be_a_link_to_where_it_is_kept(make: Make, world: Path) -> None:
    (world / "store").mkdir()
    (world / "releases" / "v1").rename(world / "store" / "abc")
    (world / "releases" / "v1").symlink_to("../store/abc")
    target = make()
    await target.revert(ORDER)
    current = await target.current()
    assert current is not None
    assert current.version == "v1"


async def test_nothing_deployed_yet(make: Make, world: Path) -> None:
    (world / "current").unlink()
    assert await make().current() is None
    assert "nothing is deployed" in await problems(make())


@pytest.mark.parametrize(
    "text", ["releases/v2", "./releases/v2", "releases/v2/", "releases/../releases/v2", "{}/releases/v2"]
)
async def test_the_link_may_be_written_in_many_ways(make: Make, world: Path, text: str) -> None:
    link_to(world, text.format(world))
    current = await make().current()
    assert current is not None
    assert current.version == "v2"


async def test_the_folder_may_be_reached_through_a_link(make: Make, world: Path, tmp_path: Path) -> None:
    (tmp_path / "srv").symlink_to(world)
    link_to(world, f"{world}/releases/v2")
    target = make(path=str(tmp_path / "srv"))
    await target.revert(ORDER)
    assert text_of(world) == f"{world}/releases/v1"


# -- what can be wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("releases/v9", "no folder"),
        ("releases/notes.txt", "no folder"),
        ("/tmp", "no folder in"),
        ("releases", "no folder in"),
        ("releases/..", "no folder in"),
        ("releases/v2/app", "no folder in"),
        ("current", "no folder in"),
        (b"releases/v\xff", "UTF-8"),
    ],
)
async def test_a_link_to_what_is_no_release_is_told(make: Make, world: Path, text: str | bytes, said: str) -> None:
    (world / "releases" / "notes.txt").touch()
    link_to(world, text)
    with pytest.raises(Permanent, match=said) as caught:
        await make().current()
    assert str(world / "current") in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "file"])
async def test_a_link_that_is_none_is_told_with_its_cure(make: Make, world: Path, kind: str) -> None:
    (world / "current").unlink()
    if kind == "folder":
        (world / "current").mkdir()
    else:
        (world / "current").touch()
    with pytest.raises(Permanent, match="is no symlink: move it"):
        await make().current()
    assert "is no symlink" in await problems(make())


async def test_a_folder_that_is_missing_is_told(make: Make, world: Path) -> None:
    missing = make(path=str(world / "missing"))
    for call in (missing.current, missing.history):
        with pytest.raises(Permanent, match="missing"):
            await call()
    assert "does not exist" in await problems(missing)


async def test_a_folder_that_is_a_file_is_told(make: Make, world: Path) -> None:
    with pytest.raises(Permanent):
        await make(path=str(world / "releases" / "v1" / "app")).current()


async def test_a_dangling_link_can_be_reverted(make: Make, world: Path) -> None:
    """A release whose folder somebody removed is a reason to revert, not an obstacle."""
    link_to(world, "releases/v9")
    target = make()
    assert await problems(target) == ""
    await target.revert(RevertOrder(to="v1", expect="v9", key="k"))
    assert text_of(world) == "releases/v1"


async def test_what_the_daemons_user_may_not_do_is_known_before_it_is_needed() -> None:
    with TemporaryDirectory() as name:  # not tmp_path, whose parents nobody may enter
        world, state = Path(name) / "world", Path(name) / "state"
        for version in ("v1", "v2", "v3"):
            (world / "releases" / version / "app").mkdir(parents=True)
        (world / "current").symlink_to("releases/v2")
        state.mkdir()
        state.chmod(0o777)
        (world / "releases" / "v3").chmod(0o000)
        world.chmod(0o555)
        os.chmod(name, 0o755)  # noqa: PTH101
        target = ADAPTER.build(
            ReleaseDirConfig(path=world), TargetContext(service="checkout", clock=SystemClock(), state_dir=state)
        )
        with as_nobody():
            assert "cannot write in" in await problems(target)
            assert "cannot be read: Permission denied" in await problems(target, "v3")
            assert {release.version for release in await target.history()} == {"v1", "v2"}
            with pytest.raises(Permanent, match="Permission denied"):
                await target.revert(ORDER)
            assert text_of(world) == "releases/v2"
            await target.close()
        world.chmod(0o755)
        (world / "releases" / "v3").chmod(0o755)


@pytest.mark.parametrize(
    ("to", "said"),
    [("v9", "is not in"), ("half", "is empty"), ("notes.txt", "is not a folder"), ("..", "not the name")],
)
async def test_a_release_that_cannot_run_is_not_put_in_place(make: Make, world: Path, to: str, said: str) -> None:
    (world / "releases" / "half").mkdir()
    (world / "releases" / "notes.txt").touch()
    target = make()
    assert said in await problems(target, to)
    with pytest.raises(Permanent, match=said):
        await target.revert(RevertOrder(to=to, expect="v2", key="k"))
    assert text_of(world) == "releases/v2"


async def test_all_that_is_in_the_way_is_told_at_once(make: Make) -> None:
    target = make(restart="no-such-program", settled=["neither-this"])
    told = await problems(target, "v9")
    assert [word in told for word in ("v9", "no-such-program", "neither-this")] == [True] * 3


# -- reverting


@pytest.mark.parametrize(
    ("text", "after"),
    [("releases/v2", "releases/v1"), ("{}/releases/v2", "{}/releases/v1"), ("releases/v2/", "releases/v1")],
)
async def test_the_link_keeps_its_style(make: Make, world: Path, text: str, after: str) -> None:
    """Capistrano writes absolute links; others want to move the whole folder."""
    link_to(world, text.format(world))
    await make().revert(ORDER)
    assert text_of(world) == after.format(world)


async def test_the_link_is_never_missing_while_it_is_switched(make: Make, world: Path) -> None:
    """The kernel tells of every name that leaves the folder (inotify(7)); the link's is not among them."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert libc.inotify_add_watch(watch, os.fsencode(world), _IN_DELETE | _IN_MOVED_FROM | _IN_MOVED_TO) >= 0
    await make().revert(ORDER)
    events = []
    rest = os.read(watch, 65536)
    os.close(watch)
    while rest:
        _descriptor, mask, _cookie, length = struct.unpack_from("iIII", rest)
        events.append((mask, os.fsdecode(rest[16 : 16 + length].rstrip(b"\0"))))
        rest = rest[16 + length :]
    assert [name for mask, name in events if mask & _IN_MOVED_TO] == ["current"]
    assert "current" not in [name for mask, name in events if not mask & _IN_MOVED_TO]
    assert set(os.listdir(world)) == {"current", "releases"}  # noqa: PTH208


@pytest.mark.parametrize("deployed", ["releases/v3", "releases/v2", None])
async def test_what_somebody_deploys_while_the_order_is_noted_stays(
    make: Make, world: Path, monkeypatch: pytest.MonkeyPatch, deployed: str | None
) -> None:
    begin = SpentKeys.begin

    def begin_while_somebody_deploys(keys: SpentKeys, order: RevertOrder, at: float, mark: str = "") -> None:
        begin(keys, order, at, mark)
        (world / "current").unlink() if deployed is None else link_to(world, deployed)

    monkeypatch.setattr(SpentKeys, "begin", begin_while_somebody_deploys)
    with pytest.raises(Conflict, match="somebody else is deploying"):
        await make(restart="touch restarted").revert(ORDER)
    left = {"releases"} if deployed is None else {"current", "releases"}
    assert set(os.listdir(world)) == left  # noqa: PTH208
    if deployed is not None:
        assert text_of(world) == deployed


async def test_a_revert_that_was_given_up_never_switches_the_link_later(
    make: Make, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread behind a file system that hung goes on when it answers, but nobody waits for what it does any more."""
    answer, begin = threading.Event(), SpentKeys.begin

    def begin_late(keys: SpentKeys, order: RevertOrder, at: float, mark: str = "") -> None:
        answer.wait()
        begin(keys, order, at, mark)

    monkeypatch.setattr(SpentKeys, "begin", begin_late)
    disk = Disk("checkout", within=0.2)
    monkeypatch.setattr("rollbackd.targets.release_dir.Disk", lambda _name: disk)
    target = make(restart="touch restarted")
    with pytest.raises(Temporary, match="did not answer"):
        await target.revert(ORDER)
    disk._within = 30.0
    answer.set()
    assert [release.version for release in await target.history()] == ["v3", "v2", "v1"], "the thread is done with it"
    assert text_of(world) == "releases/v2"
    await target.revert(ORDER)
    assert text_of(world) == "releases/v1"


async def test_a_draft_left_by_a_crash_is_no_obstacle(make: Make, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        pass

    def crash(_self: Path, _target: Path) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(Crash):
            await make().revert(ORDER)
    assert len(os.listdir(world)) == 3, "the draft lies beside the link"  # noqa: PTH208
    await make().revert(ORDER)
    assert text_of(world) == "releases/v1"
    assert set(os.listdir(world)) == {"current", "releases"}  # noqa: PTH208


async def test_the_restart_knows_what_it_is_for(make: Make, world: Path) -> None:
    await make(restart="echo $ROLLBACKD_SERVICE $ROLLBACKD_FROM $ROLLBACKD_TO $ROLLBACKD_KEY > told").revert(ORDER)
    assert (world / "told").read_text() == "checkout v2 v1 k1\n", "and it runs in `path`"


async def test_a_restart_that_fails_tells_why_and_is_all_that_is_repeated(make: Make, world: Path) -> None:
    (world / "fail").touch()
    target = make(restart="echo run >> runs; if [ -e fail ]; then echo port is taken >&2; exit 1; fi")
    with pytest.raises(Temporary, match="port is taken"):
        await target.revert(ORDER)
    switched = (world / "current").lstat()
    assert not await target.settled("v1")
    (world / "fail").unlink()
    await target.revert(ORDER)
    await target.revert(ORDER)
    assert (world / "current").lstat() == switched
    assert (world / "runs").read_text() == "run\n" * 2


async def test_a_restart_that_hangs_is_ended_and_can_be_tried_again(make: Make) -> None:
    with pytest.raises(Temporary, match=r"0\.2 s"):
        await make(restart="sleep 30", restart_timeout="200ms").revert(ORDER)
    await make(restart="true").revert(ORDER)


async def test_a_restart_program_that_is_missing_is_permanent(make: Make, world: Path) -> None:
    with pytest.raises(Permanent, match="no-such-program"):
        await make(restart=["no-such-program"]).revert(ORDER)
    assert text_of(world) == "releases/v1", "the link was switched; the next try has the restart left to do"


async def test_what_somebody_else_put_in_place_is_restarted_but_not_switched(make: Make, world: Path) -> None:
    """By hand, perhaps, between link and restart: the old release must not go on running."""
    link_to(world, "releases/v1")
    before = (world / "current").lstat()
    await make(restart="echo run >> runs").revert(ORDER)
    assert (world / "current").lstat() == before
    assert (world / "runs").read_text() == "run\n"


async def test_the_condemned_release_deployed_again_after_a_crash_stays(make: Make, world: Path) -> None:
    target = make(restart="false")
    with pytest.raises(Temporary):
        await target.revert(ORDER)
    link_to(world, "releases/v2")
    with pytest.raises(Conflict):
        await make(restart="true").revert(ORDER)
    assert text_of(world) == "releases/v2"


async def test_settled_asks_the_operators_command(make: Make, world: Path) -> None:
    target = make(settled='test -e running && test "$ROLLBACKD_TO" = v2')
    assert not await target.settled("v2")
    (world / "running").touch()
    assert await target.settled("v2")
    assert not await target.settled("v1")


# -- configuration


@pytest.mark.parametrize(
    "settings",
    [
        {"path": "srv/checkout"},
        {"current": "/srv/current"},
        {"current": "../current"},
        {"releases": ""},
        {"restart": ""},
        {"restart": []},
        {"restart": ["a\0b"]},
        {"poll": "0s"},
        {"restart_timeout": "0s"},
        {"env": {"NOT A NAME": "x"}},
        {"restrat": "true"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ReleaseDirConfig.model_validate({"path": "/srv/checkout", **settings})


def test_a_bare_string_is_the_path() -> None:
    assert ADAPTER.shorthand == "path"
    assert ADAPTER.config.model_validate({"path": "/srv/checkout"}).restart is None
