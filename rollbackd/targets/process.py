"""Running the operator's own commands: bounded in time and output, each in a process group of its own."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import structlog
from pydantic import AfterValidator, Field

from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.fields import Duration, Secret
from rollbackd.targets.output import OUTPUT_LIMIT, Output, Pipe, presentable

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets")

_GRACE = 2.0
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")
_SHELL_SIGNS = re.compile(r"[$`*?\[\]{}()<>|&;!#~=\n]")
_SHELL_WORD = re.compile(
    r"[.:!]|alias|break|case|cd|command|continue|eval|exec|exit|export|for|getopts|hash|if|read|readonly|return|set|shift"
    r"|times|trap|type|ulimit|umask|unalias|unset|until|wait|while"
)
"""What a shell knows without a program (POSIX.1-2017, volume XCU, 2.4 and 2.14), but for what exists as one too."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_PROGRAM = (126, 127)
_TRY_LATER = 75
_SYSEXITS = range(64, 79)


def _runnable(value: str) -> str:
    if "\0" in value:
        raise ValueError("a command holds no NUL")
    return value


def _variables(value: dict[str, str | Secret]) -> dict[str, str | Secret]:
    for name, content in value.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"`{name}` is no name of an environment variable (letters, digits, _)")
        if isinstance(content, str):
            _runnable(content)
    return value


_Word = Annotated[str, Field(min_length=1), AfterValidator(_runnable)]
CommandLine: TypeAlias = _Word | Annotated[tuple[_Word, ...], Field(min_length=1)]
"""A string is a line for /bin/sh; a list is a program and its arguments, run as they stand."""

Timeout: TypeAlias = Annotated[Duration, Field(gt=0)]
"""How long a command may take, in seconds once read."""

Environment: TypeAlias = Annotated[dict[str, str | Secret], AfterValidator(_variables)]
"""Variables for a command; a value may be a secret."""


class NotRunnable(Permanent):
    """The command's program is not there or may not be run."""


class TooSlow(Temporary):
    """The command did not end in time and was ended, with everything in its process group."""


@dataclass(frozen=True)
class Finished:
    """A command that ended by itself: its exit code (negative: the signal that ended it) and what it printed.

    `tail` is the end of everything it printed, fit for a message: on one line, without the secrets it was given.
    """

    code: int
    output: str
    overflowed: bool
    tail: str


class Commands:
    """Runs one target's commands, each with the same environment in the same folder.

    `keep` is how many bytes of what one prints are kept; `fit` makes what a message tells of it fit for that.
    """

    def __init__(
        self,
        environment: Mapping[str, str | Secret],
        directory: Path | None = None,
        keep: int = OUTPUT_LIMIT,
        fit: Callable[[str], str] | None = None,
    ) -> None:
        self._environment = environment
        self._directory = directory
        self._keep = keep
        self._fit = fit

    async def run(
        self, label: str, command: CommandLine, within: float, variables: Mapping[str, str] | None = None
    ) -> Finished:
        """Run to the end, at most `within` seconds. `label` is the command's name in messages.

        Raises TooSlow, NotRunnable, Temporary where the system has no room for a process, ConfigError for a secret that
        cannot be read. Cancelling ends the command and its process group first.
        """
        secrets = [value.reveal() for value in self._environment.values() if isinstance(value, Secret)]
        environment = {**self._variables(), **(variables or {})}
        collected = Output(self._keep)
        pipes = [Pipe(collected, keep=True), Pipe(collected, keep=False)]
        try:
            try:
                for pipe in pipes:
                    await pipe.open()
            except OSError as error:
                raise Temporary(f"{label}: cannot open a pipe now: {error.strerror}") from None
            process = await _whole(asyncio.create_task(self._start(label, command, environment, pipes)))
            try:
                code = await self._ended(label, process, within)
            finally:
                await asyncio.gather(*(pipe.drained() for pipe in pipes))
        finally:
            for pipe in pipes:
                pipe.close()
        return Finished(
            code=code,
            output=collected.kept.decode("utf-8", errors="replace"),
            overflowed=collected.overflowed,
            tail=presentable(bytes(collected.tail), secrets, self._fit),
        )

    def problem(self, label: str, command: CommandLine) -> str | None:
        """Why the command would not even start, as a sentence, as far as that can be told without starting it."""
        try:
            environment = self._variables()
        except RollbackdError as error:
            return f"{label}: {error}"
        if self._directory is not None and not self._directory.is_dir():
            return f"{label}: there is no folder {self._directory}"
        if isinstance(command, str):
            try:
                program = (shlex.split(command) or [""])[0]
            except ValueError as error:
                return f"{label}: {str(error).lower()}"
            if not program or _SHELL_WORD.fullmatch(program) or _SHELL_SIGNS.search(program):
                return None
        else:
            program = command[0]
        at = (self._directory or Path()) / program if "/" in program else program
        if shutil.which(at, path=environment["PATH"]) is None:
            return f"{label}: there is no program {program} that the daemon's user may run"
        return None

    def _variables(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        own = {
            name: value.reveal() if isinstance(value, Secret) else value for name, value in self._environment.items()
        }
        return {"PATH": os.defpath, **inherited, **own}

    async def _start(
        self, label: str, command: CommandLine, environment: Mapping[str, str], pipes: list[Pipe]
    ) -> asyncio.subprocess.Process:
        arguments = ("/bin/sh", "-c", command) if isinstance(command, str) else command
        try:
            return await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=pipes[0].writer,
                stderr=pipes[1].writer,
                env=environment,
                cwd=self._directory,
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise NotRunnable(f"{label}: cannot run {arguments[0]}: {error.strerror}") from None
        except ValueError as error:
            raise NotRunnable(f"{label}: cannot run {arguments[0]}: {error}") from None
        except OSError as error:
            raise Temporary(f"{label}: cannot start {arguments[0]} now: {error.strerror}") from None
        finally:
            for pipe in pipes:
                pipe.close_writer()

    @staticmethod
    async def _ended(label: str, process: asyncio.subprocess.Process, within: float) -> int:
        try:
            async with asyncio.timeout(within):
                return await process.wait()
        except TimeoutError:
            await _end_group(process)
            raise TooSlow(f"{label}: did not end within {within:g} s and was stopped") from None
        except asyncio.CancelledError:
            await _end_group(process)
            raise


def check(label: str, finished: Finished, *, sysexits: bool = False) -> None:
    """Raise what the exit code says: nothing for 0, NotRunnable for 126 and 127, otherwise Temporary.

    With `sysexits`, the codes 64 to 78 of BSD's sysexits.h but 75 (EX_TEMPFAIL) are Permanent.
    """
    code = finished.code
    if code == 0:
        return
    how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    message = f"{label}: {how}" + (f": {finished.tail}" if finished.tail else "")
    if code in _NO_PROGRAM:
        raise NotRunnable(message)
    if sysexits and code in _SYSEXITS and code != _TRY_LATER:
        raise Permanent(message)
    raise Temporary(message)


def answer(label: str, finished: Finished) -> bool:
    """The exit code as yes (0) or no. Raises NotRunnable for 126 and 127, Temporary for 75 and for a signal."""
    if finished.code == 0:
        return True
    if finished.code < 0 or finished.code in (*_NO_PROGRAM, _TRY_LATER):
        check(label, finished)
    return False


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def _whole(starting: asyncio.Task[asyncio.subprocess.Process]) -> asyncio.subprocess.Process:
    """The process that is being started. Cancelling ends it with its group: asyncio alone would end its leader only.

    However often it is cancelled: until it has started, which takes a few turns of the loop, nobody else knows of it.
    """
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        while not starting.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({starting})
        if not starting.cancelled() and starting.exception() is None:
            await _end_group(starting.result())
        raise


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End the command and all that stayed in its process group: politely, after a while by force."""
    try:
        _signal_group(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await process.wait()
    finally:  # even where this is cancelled too
        _signal_group(process, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            await process.wait()
            return
    log.error("command_does_not_end", pid=process.pid)


def _signal_group(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):
        try:
            os.killpg(process.pid, number)
        except PermissionError:
            log.warning("command_runs_as_somebody_else", pid=process.pid)
