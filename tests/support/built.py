"""Where what make targets build for tests lies."""

from __future__ import annotations

import os
import re
from pathlib import Path

RECIPE = Path(__file__).parents[1] / "kubernetes" / "go.mod"


def kubernetes() -> Path | None:
    """The folder of what tests/kubernetes/build built; None where it has not."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", RECIPE.read_text(), re.MULTILINE)
    if found is None:
        raise AssertionError(f"{RECIPE} requires no k8s.io/kubernetes")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("ROLLBACKD_KUBERNETES") or cache / "rollbackd" / f"kubernetes-{found[1]}")
    return folder if (folder / "kubectl").exists() else None
