"""What a newcomer is told whose Python is too old, or cannot make virtual environments."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "tools/make_venv.sh"


def make_venv(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(SCRIPT), str(folder / "venv")]
    environment = {**os.environ, "PYTHON": python}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def fake_python(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_a_python_that_is_too_old_is_refused_with_the_cure(tmp_path: Path) -> None:
    ran = make_venv(tmp_path, fake_python(tmp_path, "exit 1"))
    assert ran.returncode == 1
    assert "needs Python 3.11 or newer" in ran.stderr
    assert "make PYTHON=" in ran.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_is_refused_with_the_cure(tmp_path: Path) -> None:
    real = shlex.quote(sys.executable)
    ran = make_venv(tmp_path, fake_python(tmp_path, f'case "$2" in *ensurepip*) exit 1;; esac\nexec {real} "$@"'))
    assert ran.returncode == 1
    assert "apt-get install python3-venv" in ran.stderr
    assert not (tmp_path / "venv").exists()


def test_the_first_python_that_will_do_is_taken(tmp_path: Path) -> None:
    """Tried up to where the environment is made: a stand-in says which Python was asked to."""
    old = fake_python(tmp_path, "exit 1")
    (tmp_path / "new").mkdir()
    new = fake_python(tmp_path / "new", 'case "$*" in *" venv "*) echo "asked: $*";; esac')
    ran = make_venv(tmp_path, f"{old} /no/such/python {new}")
    assert ran.returncode == 0
    assert f"asked: -m venv --clear {tmp_path / 'venv'}" in ran.stdout
