"""What all tests share: real programs are needed or skipped, in CI needed."""

from __future__ import annotations

import os
import shutil

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.needs("prometheus")` skips where the program is missing, and fails there when CI=true."""
    for marker in item.iter_markers("needs"):
        missing = [str(program) for program in marker.args if shutil.which(str(program)) is None]
        if missing and os.environ.get("CI") == "true":
            pytest.fail(f"not installed: {', '.join(missing)}; .ci/run must install it", pytrace=False)
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")
