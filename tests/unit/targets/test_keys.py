"""The journal of orders: what it remembers, and what it makes of a torn or damaged file."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.disk import Disk
from rollbackd.targets.keys import Next, SpentKeys

ORDER = RevertOrder(to="v1", expect="v2", key="k1")
AT = 1_763_898_248.25


@pytest.fixture
def keys(tmp_path: Path) -> SpentKeys:
    return SpentKeys(tmp_path / "state")


def order(number: int) -> RevertOrder:
    return RevertOrder(to="v1", expect="v2", key=f"k{number}")


def test_a_new_order_is_carried_out_where_it_finds_what_it_expects(keys: SpentKeys) -> None:
    assert keys.judge(ORDER, "v2") is Next.SWITCH
    assert keys.judge(ORDER, "v1") is Next.ADOPT
    for other in ("v3", None):
        with pytest.raises(Conflict):
            keys.judge(ORDER, other)


def test_an_order_that_began_is_gone_on_with(keys: SpentKeys) -> None:
    assert keys.mark_of(ORDER.key) is None
    keys.begin(ORDER, AT, "mark")
    assert keys.mark_of(ORDER.key) == "mark"
    assert keys.judge(ORDER, "v2", "mark") is Next.SWITCH
    assert keys.judge(ORDER, "v1", "new mark") is Next.FINISH
    assert keys.judge(ORDER, None) is Next.SWITCH
    with pytest.raises(Conflict):
        keys.judge(ORDER, "v3")


def test_the_same_release_deployed_again_is_another_deployment(keys: SpentKeys) -> None:
    """Between a crash and the second try somebody put the condemned release in place once more, knowingly."""
    keys.begin(ORDER, AT, "mark")
    with pytest.raises(Conflict):
        keys.judge(ORDER, "v2", "later mark")


def test_an_order_that_is_done_is_never_carried_out_again(keys: SpentKeys) -> None:
    keys.begin(ORDER, AT)
    keys.finish(ORDER, AT)
    assert keys.judge(ORDER, "v1") is Next.NOTHING
    for later in ("v2", "v3", None):
        with pytest.raises(Conflict):
            keys.judge(ORDER, later)


def test_a_key_names_one_order(keys: SpentKeys) -> None:
    keys.begin(ORDER, AT)
    with pytest.raises(Permanent, match="v2 -> v1"):
        keys.judge(RevertOrder(to="v0", expect="v2", key=ORDER.key), "v2")


def test_only_the_newest_order_can_be_unfinished(keys: SpentKeys) -> None:
    assert not keys.unfinished("v1")
    keys.begin(ORDER, AT)
    assert keys.unfinished("v1")
    assert not keys.unfinished("v2")
    keys.finish(ORDER, AT)
    assert not keys.unfinished("v1")


def test_what_is_remembered_outlives_the_object(keys: SpentKeys, tmp_path: Path) -> None:
    keys.begin(ORDER, AT)
    keys.finish(ORDER, AT)
    assert SpentKeys(tmp_path / "state").judge(ORDER, "v1") is Next.NOTHING


@pytest.mark.parametrize("cut", range(1, 30, 7))
def test_a_line_torn_by_a_crash_was_never_written(keys: SpentKeys, tmp_path: Path, cut: int) -> None:
    file = tmp_path / "state" / "reverts.jsonl"
    keys.begin(order(1), AT)
    keys.finish(order(1), AT)
    whole = file.read_bytes()
    keys.begin(order(2), AT)
    file.write_bytes(file.read_bytes()[:-cut])
    assert keys.judge(order(2), "v2") is Next.SWITCH
    assert keys.judge(order(1), "v1") is Next.NOTHING
    keys.begin(order(2), AT)
    assert file.read_bytes().startswith(whole)
    assert keys.judge(order(2), "v1") is Next.FINISH


def test_nothing_of_a_torn_line_is_left_behind_a_shorter_one(keys: SpentKeys, tmp_path: Path) -> None:
    file = tmp_path / "state" / "reverts.jsonl"
    keys.begin(order(1), AT)
    file.write_bytes(file.read_bytes() + b'{"key":"' + b"~" * 1000)
    keys.finish(order(1), AT)
    assert keys.judge(order(1), "v1") is Next.NOTHING
    assert b"~" not in file.read_bytes()


@pytest.mark.parametrize("damaged", [b"garbage\n", b'{"key":"\xff"}\n', b'{"key":' + b"[" * 5000 + b"\n"])
def test_a_damaged_line_is_told_with_its_place(keys: SpentKeys, tmp_path: Path, damaged: bytes) -> None:
    file = tmp_path / "state" / "reverts.jsonl"
    keys.begin(order(1), AT)
    file.write_bytes(file.read_bytes() + damaged)
    with pytest.raises(Permanent, match=r"reverts\.jsonl:2"):
        keys.judge(order(1), "v2")
    assert "reverts.jsonl:2" in (keys.problem() or "")


def test_the_file_stays_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    keys = SpentKeys(tmp_path, keep=5)
    for number in range(60):
        keys.begin(order(number), AT)
        keys.finish(order(number), AT)
    assert len((tmp_path / "reverts.jsonl").read_bytes().splitlines()) <= 20
    assert keys.judge(order(59), "v1") is Next.NOTHING
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reverts.jsonl"]


@pytest.fixture
def disk() -> Iterator[Disk]:
    one = Disk("test", within=30.0)
    yield one
    one.close()


async def test_one_revert_at_a_time(keys: SpentKeys, disk: Disk, tmp_path: Path) -> None:
    async with keys.exclusive(disk):
        with pytest.raises(Temporary):
            async with SpentKeys(tmp_path / "state").exclusive(disk):
                pass
    async with SpentKeys(tmp_path / "state").exclusive(disk):
        pass


async def test_a_lock_that_hangs_is_left_after_a_while_and_let_go_once_it_comes(
    keys: SpentKeys, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop goes on meanwhile, and a lock for which nobody waits any more is nobody's."""
    answer = threading.Event()

    def hang(lock: int, how: int) -> None:
        answer.wait()
        fcntl.flock(lock, how)

    with monkeypatch.context() as patch:
        patch.setattr("rollbackd.targets.keys.fcntl", SimpleNamespace(flock=hang, LOCK_EX=2, LOCK_NB=4))
        patch.setattr(disk, "_within", 0.2)
        with pytest.raises(Temporary, match=r"did not answer within 0\.2 s"):
            async with keys.exclusive(disk):
                pass
        patch.setattr(disk, "_within", 30.0)
        answer.set()
        await disk.run(lambda: None)
    async with keys.exclusive(disk):
        pass


def test_a_place_that_cannot_be_written_is_known_before_it_is_needed(tmp_path: Path) -> None:
    assert SpentKeys(tmp_path / "not" / "yet" / "made").problem() is None
    (tmp_path / "file").touch()
    assert SpentKeys(tmp_path / "file" / "state").problem()


def test_what_is_remembered_is_for_the_daemons_user_alone(keys: SpentKeys, tmp_path: Path) -> None:
    keys.begin(ORDER, AT)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "reverts.jsonl").stat().st_mode & 0o777 == 0o600
