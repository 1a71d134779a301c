"""The operator's own scripts: what they are asked, what is understood of their answers, and what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.model import Release
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.command import ADAPTER, CommandConfig
from tests.unit.targets.making import Make, making

ORDER = RevertOrder(to="v1", expect="v2", key="k1")
SCRIPTS = {
    "current": "cat in-place",
    "history": "printf 'v3\\nv2\\nv1\\n'",
    "revert": 'echo "$ROLLBACKD_KEY $ROLLBACKD_CURRENT" >> reverts; echo "$ROLLBACKD_TO" > in-place',
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    root = tmp_path / "world"
    root.mkdir()
    (root / "in-place").write_text("v2\n")
    return root


@pytest.fixture
async def make(world: Path, tmp_path: Path) -> AsyncIterator[Make]:
    async with making(ADAPTER, {**SCRIPTS, "directory": str(world)}, tmp_path / "state") as one:
        yield one


def reverts(world: Path) -> list[str]:
    return (world / "reverts").read_text().splitlines() if (world / "reverts").exists() else []


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (r"v2\n", Release(version="v2")),
        (r"  v2  \r\n\n", Release(version="v2")),
        ("v2", Release(version="v2")),
        ("", None),
        (r"\n\n", None),
        (r'{"version": "v2", "commit": "4f0c1d2"}\n', Release(version="v2", commit="4f0c1d2")),
        (r"verze 2 \303\241\n", Release(version="verze 2 á")),
    ],
)
async def test_current_prints_one_release_or_nothing(make: Make, printed: str, expected: Release | None) -> None:
    assert await make(current=f"printf '{printed}'").current() == expected


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (r"v2\nv3\n", "2 releases"),
        (r'{"version": 2}', "line 1"),
        (r'{"digest": "x"}', "line 1"),
        (r"{\n", "line 1"),
        (r"\033[31mv2", "line 1"),
        (r"v\377", "line 1"),
    ],
)
async def test_what_is_no_release_is_not_guessed_at(make: Make, printed: str, said: str) -> None:
    with pytest.raises(Permanent, match=said):
        await make(current=f"printf '{printed}'").current()


async def test_a_page_instead_of_a_version_is_too_long(make: Make) -> None:
    with pytest.raises(Permanent, match="too long"):
        await make(current="head -c 10000 /dev/zero | tr '\\0' x").current()


async def test_a_line_nested_too_deeply_is_no_release(make: Make) -> None:
    with pytest.raises(Permanent, match="history: line 1 of its output is nested too deeply"):
        await make(history="printf '{\"x\":'; head -c 5000 /dev/zero | tr '\\0' '['; echo").history()


async def test_history_keeps_the_scripts_order_and_names_each_once(make: Make) -> None:
    target = make(history=r"""printf 'v3\n{"version":"v2","created_at":5}\nv3\n\nv1\n'""")
    found = await target.history()
    assert [release.version for release in found] == ["v3", "v2", "v1"]
    assert found[1].created_at == 5


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("exit 1", Temporary),
        ("exit 75", Temporary),
        ("exit 65", Permanent),
        ("no-such-program", Permanent),
        ("kill -TERM $$", Temporary),
    ],
)
async def test_exit_codes_say_whether_to_try_again(make: Make, body: str, kind: type[RollbackdError]) -> None:
    target = make(current=body)
    with pytest.raises(kind, match=r"^current: "):
        await target.current()


async def test_revert_knows_what_it_is_for(make: Make, world: Path) -> None:
    revert = (
        'echo "$ROLLBACKD_SERVICE $ROLLBACKD_FROM $ROLLBACKD_TO $ROLLBACKD_KEY $ROLLBACKD_CURRENT" > told;'
        'echo "$ROLLBACKD_TO" > in-place'
    )
    await make(revert=revert).revert(ORDER)
    assert (world / "told").read_text() == "checkout v2 v1 k1 v2\n"


async def test_a_script_that_failed_before_the_switch_is_run_again(make: Make, world: Path) -> None:
    with pytest.raises(Temporary, match="registry is down"):
        await make(revert="echo registry is down; exit 1").revert(ORDER)
    await make().revert(ORDER)
    assert reverts(world) == ["k1 v2"]


async def test_a_script_that_failed_after_the_switch_is_run_again(make: Make, world: Path) -> None:
    """It alone knows what is left; $ROLLBACKD_CURRENT tells it how far it came."""
    with pytest.raises(Temporary):
        await make(revert='echo "$ROLLBACKD_TO" > in-place; exit 1').revert(ORDER)
    assert not await make().settled("v1")
    await make().revert(ORDER)
    assert reverts(world) == ["k1 v1"]
    assert await make().settled("v1")


async def test_a_script_that_died_while_nothing_was_in_place_is_run_again(make: Make, world: Path) -> None:
    with pytest.raises(Temporary):
        await make(revert=": > in-place; exit 1").revert(ORDER)
    await make().revert(ORDER)
    assert reverts(world) == ["k1 "]


async def test_a_revert_that_never_began_finds_nothing_in_place_and_stops(make: Make, world: Path) -> None:
    (world / "in-place").write_text("")
    with pytest.raises(Conflict):
        await make().revert(ORDER)
    assert reverts(world) == []


async def test_what_is_in_place_already_is_not_switched_to(make: Make, world: Path) -> None:
    """Some platforms undo an undo: asking twice would bring the bad release back."""
    (world / "in-place").write_text("v1\n")
    await make().revert(ORDER)
    assert reverts(world) == []


async def test_a_question_that_hangs_is_ended(make: Make) -> None:
    with pytest.raises(Temporary, match=r"0\.2 s"):
        await make(current="sleep 30", timeout="200ms").current()


async def test_a_script_that_hangs_is_ended(make: Make) -> None:
    with pytest.raises(Temporary, match=r"0\.2 s"):
        await make(revert="sleep 30", revert_timeout="200ms").revert(ORDER)


async def test_readiness_asks_the_operators_script(make: Make, world: Path) -> None:
    target = make(readiness='test -e open && exit 0; echo "freeze until Monday"; exit 1')
    (problem,) = (await target.readiness("v1")).problems
    assert problem == "readiness: freeze until Monday"
    (world / "open").touch()
    assert (await target.readiness("v1")).ready


async def test_readiness_without_words_tells_the_exit_code(make: Make) -> None:
    (problem,) = (await make(readiness="exit 3").readiness("v1")).problems
    assert "exit code 3" in problem


async def test_a_readiness_script_that_cannot_tell_is_temporary(make: Make) -> None:
    with pytest.raises(Temporary):
        await make(readiness="exit 75").readiness("v1")


async def test_each_missing_program_is_told(make: Make) -> None:
    target = make(history=["no-such-one"], revert="no-such-other", settled=["no-such-third"])
    told = "\n".join((await target.readiness("v1")).problems)
    assert [name in told for name in ("no-such-one", "no-such-other", "no-such-third")] == [True] * 3


async def test_settled_asks_the_operators_script(make: Make, world: Path) -> None:
    target = make(settled='test -e running && test "$ROLLBACKD_TO" = v2')
    assert not await target.settled("v2")
    (world / "running").touch()
    assert await target.settled("v2")
    assert not await target.settled("v1"), "whatever the script says, it is not in place"


@pytest.mark.parametrize(
    "settings",
    [
        {"current": ""},
        {"revert": None},
        {"timeout": "0s"},
        {"poll": "10ms"},
        {"env": {"A": {"env": "B", "file": "/c"}}},
        {"histroy": "true"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CommandConfig.model_validate({**SCRIPTS, **settings})
