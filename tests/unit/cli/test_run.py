"""`rollbackd run`: what it says before anything runs. Running it is tests/system's business."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.unit.cli.conftest import Terminal


def test_without_a_configuration_it_says_what_is_missing(terminal: Terminal) -> None:
    assert terminal.run("run") == 2
    assert "-c/--config" in terminal.err


def test_every_fault_of_the_configuration_is_told_at_once(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("mode: sleep\nservices:\n  shop: {bake: 30, targett: 1}\n")
    assert terminal.run("run", "-c", str(file)) == 2
    for place in (":1: mode", ":3: services.shop.bake", ":3: services.shop.targett"):
        assert f"{file}{place}" in terminal.err
    assert terminal.out == ""


def test_a_secret_that_cannot_be_read_is_a_fault_at_the_start(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "rollbackd.yaml"
    file.write_text("notify: [webhook: {url: {env: ROLLBACKD_TEST_NOT_SET}}]\n")
    assert terminal.run("run", "-c", str(file)) == 2
    assert "ROLLBACKD_TEST_NOT_SET" in terminal.err


def test_the_daemon_does_without_what_only_the_other_commands_print_with(tmp_path: Path) -> None:
    """rich costs memory and time to start; it is still there for who wants it afterwards."""
    program = (
        "import sys; from rollbackd.cli.main import main\n"
        f"assert main(['run', '-c', {str(tmp_path / 'no.yaml')!r}]) == 2\n"
        "assert 'rollbackd.daemon' in sys.modules and 'structlog' in sys.modules\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'rich']\n"
        "import rich.console\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert ran.returncode == 0, ran.stderr
