"""Where the programs lie that tests/built/build makes."""

from __future__ import annotations

import os
import re
from pathlib import Path

RECIPES = Path(__file__).parents[1] / "built"


def sets() -> list[str]:
    """Their names."""
    return sorted(recipe.parent.name for recipe in RECIPES.glob("*/go.mod"))


def programs(name: str) -> Path | None:
    """The folder of one set; None where not all of it is built."""
    recipe = (RECIPES / name / "go.mod").read_text()
    version = re.search(r"^// VERSION=(v\S+)$", recipe, re.MULTILINE)
    if version is None:
        raise AssertionError(f"{RECIPES / name / 'go.mod'} has no line `// VERSION=v...`")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollbackd"
    folder = Path(os.environ.get("ROLLBACKD_BUILT") or cache) / f"{name}-{version[1]}"
    tools = re.search(r"^tool (?:\(\n(.*?)^\)|(\S+)$)", recipe, re.MULTILINE | re.DOTALL)
    if tools is None:
        raise AssertionError(f"{RECIPES / name / 'go.mod'} has no `tool`")
    wanted = [package.rpartition("/")[2] for package in (tools[1] or tools[2]).split()]
    return folder if all((folder / program).exists() for program in wanted) else None
