"""Dispatch, exit codes and what is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rollbackd import __version__
from rollbackd.cli import main as cli
from tests.unit.cli.conftest import Daemon, Terminal


def test_help_lists_every_command(terminal: Terminal) -> None:
    assert terminal.run("--help") == 0
    for name, summary, _module in cli.COMMANDS:
        assert name in terminal.out
        assert summary.split()[0] in terminal.out


def test_the_version_is_told(terminal: Terminal) -> None:
    assert terminal.run("--version") == 0
    assert terminal.out == f"rollbackd {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("stattus",), ("status", "--colour"), ("history", "--limit", "0")])
def test_wrong_usage_is_exit_code_2(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    assert terminal.run(*arguments) == 2
    assert "rollbackd" in terminal.err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom rollbackd.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'rich', 'aiohttp', 'pydantic', 'msgspec', 'yaml', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_reader_that_leaves_early_is_no_error(daemon: Daemon) -> None:
    """As in `rollbackd status | head -1`, with the other end closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        ran = subprocess.run(
            [sys.executable, "-m", "rollbackd", "status"], stdout=nobody, stderr=subprocess.PIPE, check=False
        )
    assert (ran.returncode, ran.stderr) == (141, b"")
