"""Running the operator's commands: what they get, what is kept of them, and how they are ended."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rollbackd.errors import ConfigError, Permanent, Temporary
from rollbackd.fields import Secret
from rollbackd.targets.output import OUTPUT_LIMIT
from rollbackd.targets.process import Commands, Finished, NotRunnable, TooSlow, answer, check
from tests.support.clock import settle
from tests.support.waiting import eventually


async def ran(command: str | tuple[str, ...], within: float = 10.0, **environment: str | Secret) -> Finished:
    return await Commands(environment).run("it", command, within)


def written(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def too_slow(command: str, pid: Path) -> int:
    """Run what never ends, for as long as the machine needs to come to where it writes that process id."""
    for within in (0.5, 2.0, 8.0, 32.0):
        with pytest.raises(TooSlow):
            await ran(command, within)
        if told := written(pid):
            return int(told)
    raise AssertionError(f"{command} does not come so far")


def alive(pid: int) -> bool:
    """Whether the process is there and not merely waiting to be reaped."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_string_is_a_line_for_the_shell() -> None:
    assert (await ran("printf one; printf two | tr w W")).output == "onetWo"


async def test_a_list_is_run_as_it_stands() -> None:
    assert (await ran(("printf", "%s", "$HOME; *"))).output == "$HOME; *"


async def test_a_command_reads_nothing() -> None:
    assert (await ran("cat")).code == 0


async def test_a_command_gets_few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's own environment may hold secrets that are no business of the command."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("OWN", "shown")
    output = (await ran(("env",), ORDER="1", TOKEN=Secret(env="OWN"))).output
    assert "hunter2" not in output
    assert {"ORDER=1", "TOKEN=shown"} < set(output.splitlines())
    assert any(line.startswith("PATH=") for line in output.splitlines())


async def test_what_a_command_prints_may_be_anything() -> None:
    finished = await ran(r"printf 'a\377b\0\n\033[31mred\n' >&2; exit 3")
    assert finished.code == 3
    assert finished.tail == "a\ufffdb | [31mred"


async def test_the_end_of_a_long_output_is_told_shortly() -> None:
    finished = await ran("seq 1 100000; echo the end >&2")
    assert finished.tail.endswith("the end")
    assert len(finished.tail) <= 500


async def test_an_endless_output_is_kept_within_bounds() -> None:
    finished = await ran("yes | head -c 5000000")
    assert finished.overflowed
    assert len(finished.output) == OUTPUT_LIMIT


async def test_output_up_to_the_limit_is_whole() -> None:
    finished = await ran(f"yes | head -c {OUTPUT_LIMIT}")
    assert (len(finished.output), finished.overflowed) == (OUTPUT_LIMIT, False)


async def test_secrets_are_masked_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("first half\nsecond half\n")
    finished = await ran('echo "$KEY" | tail -1; echo "$KEY" | tr "\\n" "\\n"', KEY=Secret(file=tmp_path / "key"))
    assert "half" not in finished.tail
    assert "***" in finished.tail


async def test_a_secret_that_is_missing_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await ran(f"touch {tmp_path}/ran", TOKEN=Secret(file=tmp_path / "missing"))
    assert not (tmp_path / "ran").exists()


async def test_a_command_that_is_too_slow_is_ended_with_its_children(tmp_path: Path) -> None:
    pid = await too_slow(f"sleep 60 & echo $! > {tmp_path}/child; wait", tmp_path / "child")
    await eventually(lambda: not alive(pid))


async def test_a_command_that_ignores_being_asked_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollbackd.targets.process._GRACE", 0.2)
    pid = await too_slow(f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done", tmp_path / "pid")
    await eventually(lambda: not alive(pid))


async def test_cancelling_ends_the_command_and_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    running = asyncio.create_task(ran(f"sleep 60 & echo $! > {child}.new; mv {child}.new {child}; wait"))
    await eventually(child.exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    pid = int(child.read_text())
    await eventually(lambda: not alive(pid))


@pytest.mark.parametrize("turn", range(6))
async def test_cancelling_while_the_command_is_being_started_ends_its_children_too(tmp_path: Path, turn: int) -> None:
    """It is at work before the event loop knows it: in any turn of the loop, and longest where that is busy."""
    child = tmp_path / "child"
    running = asyncio.create_task(ran(f"sleep 60 & echo $! > {child}; wait"))
    for _ in range(turn):
        await asyncio.sleep(0)
        time.sleep(0.03)  # noqa: ASYNC251  the loop is busy
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    pid = written(child)
    await eventually(lambda: not pid or not alive(int(pid)))


async def test_cancelling_twice_while_the_command_is_being_started_ends_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child, known, original = tmp_path / "child", asyncio.Event(), asyncio.create_subprocess_exec

    async def slow(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await original(*arguments, **options)
        await known.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    running = asyncio.create_task(ran(f"sleep 60 & echo $! > {child}.new; mv {child}.new {child}; wait"))
    await eventually(child.exists)
    pid = int(child.read_text())
    try:
        for _ in range(2):
            running.cancel()
            await settle()
        known.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        await eventually(lambda: not alive(pid))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)


async def test_a_child_that_holds_the_output_does_not_hold_us(tmp_path: Path) -> None:
    """A restart that starts a daemon and forgets to redirect its output is done when the restart is done."""
    began = time.monotonic()
    finished = await ran(f"sleep 30 & echo $! > {tmp_path}/child; echo started")
    pid = int((tmp_path / "child").read_text())
    try:
        assert time.monotonic() - began < 25
        assert finished.output == "started\n"
        assert alive(pid), "what a restart started must go on"
    finally:
        os.kill(pid, 9)


async def test_commands_leave_no_descriptor_behind() -> None:
    await ran("true")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  one call, no objects
    for command in ("true", ("no-such-program",)):
        for _ in range(3):
            with suppress(NotRunnable):
                await ran(command)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)  # noqa: PTH208


@pytest.mark.parametrize("command", [("no-such-program",), ("/etc/passwd",), ("/",), "no-such-program", "/etc/passwd"])
async def test_a_program_that_is_not_there_is_permanent(command: str | tuple[str, ...]) -> None:
    with pytest.raises(NotRunnable):
        check("it", await ran(command))


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("true", False),
        ("no-such-program --now", True),
        (("true",), False),
        (("no-such-program",), True),
        (("/etc/passwd",), True),
        ("echo 'unbalanced", True),
        ("cd /srv && no-such-program", False),
        ("exit 3", False),
        ("exitnow", True),
        ("$RESTART", False),
        ("NAME=1 no-such-program", False),
    ],
)
def test_a_program_that_is_missing_is_known_before_it_is_needed(command: str | tuple[str, ...], problem: bool) -> None:
    """As far as it can be known: what a shell line does is only known by running it."""
    assert (Commands({}).problem("it", command) is not None) == problem


def test_a_secret_or_folder_that_is_missing_is_known_before_it_is_needed(tmp_path: Path) -> None:
    assert Commands({"TOKEN": Secret(file=tmp_path / "missing")}).problem("it", "true")
    assert Commands({}, tmp_path / "missing").problem("it", "true")


def test_a_program_is_looked_for_where_the_command_would_run(tmp_path: Path) -> None:
    (tmp_path / "restart").write_text("#!/bin/sh\n")
    (tmp_path / "restart").chmod(0o755)
    assert Commands({}, tmp_path).problem("it", ("./restart",)) is None
    assert Commands({"PATH": str(tmp_path)}).problem("it", "restart") is None


@pytest.mark.parametrize(
    ("code", "sysexits", "kind"),
    [
        (1, False, Temporary),
        (1, True, Temporary),
        (64, False, Temporary),
        (64, True, Permanent),
        (75, True, Temporary),
        (78, True, Permanent),
        (79, True, Temporary),
        (126, False, Permanent),
        (127, True, Permanent),
        (-9, True, Temporary),
        (-60, False, Temporary),
    ],
)
def test_an_exit_code_says_whether_trying_again_can_help(code: int, sysexits: bool, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="why"):
        check("it", Finished(code=code, output="", overflowed=False, tail="why"), sysexits=sysexits)


@pytest.mark.parametrize(("code", "expected"), [(0, True), (1, False), (3, False), (64, False)])
def test_an_exit_code_is_yes_or_no(code: int, expected: bool) -> None:
    assert answer("it", Finished(code=code, output="", overflowed=False, tail="")) is expected


@pytest.mark.parametrize(("code", "kind"), [(75, Temporary), (-15, Temporary), (127, NotRunnable)])
def test_an_exit_code_may_be_no_answer(code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        answer("it", Finished(code=code, output="", overflowed=False, tail=""))
