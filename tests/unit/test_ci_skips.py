"""In CI a skipped test is a failed one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

SKIPPING = """
import pytest

@pytest.mark.needs("no-such-program")
def test_that_lacks_its_program():
    pass

def test_that_skips_itself():
    pytest.skip("not today")

@pytest.mark.xfail(reason="known")
def test_that_is_known_to_fail():
    assert False
"""


def run(folder: Path, ci: str, *, quiet: bool = True) -> str:
    command = [sys.executable, "-m", "pytest", *(["-q"] if quiet else []), "-p", "no:cacheprovider", str(folder)]
    paths = {"PYTHONPATH": str(CONFTEST.parents[1])}
    environment = {**os.environ, **paths, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=50)
    return ran.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs\n    built\n")
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    return tmp_path


def test_a_missing_program_skips_on_a_desk_and_fails_in_ci(folder: Path) -> None:
    assert "2 skipped, 1 xfailed" in run(folder, ci="")
    in_ci = run(folder, ci="true")
    assert "1 failed, 1 xfailed, 1 error" in in_ci
    assert "not installed: no-such-program" in in_ci
    assert "not today" in in_ci


def test_what_is_not_built_is_left_out_and_that_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLBACKD_BUILT", str(folder / "nowhere"))
    (folder / "test_skipping.py").write_text("import pytest\n\n@pytest.mark.built('kubernetes')\ndef test_it(): pass\n")
    (folder / "test_other.py").write_text("def test_other(): pass\n")
    said = run(folder, ci="true", quiet=False)
    assert "1 passed, 1 deselected" in said
    assert "kubernetes: not built" in said


def test_a_module_that_skips_itself_fails_in_ci(folder: Path) -> None:
    (folder / "test_absent.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    assert "ERROR test_absent.py - skipped, which CI does not allow" in run(folder, ci="true")
