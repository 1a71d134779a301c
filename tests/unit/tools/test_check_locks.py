"""The check that the locks are in step with pyproject.toml."""

from __future__ import annotations

import pytest

from tools.check_locks import faults

PYPROJECT = """
[project]
dependencies = ["aiohttp>=3.10"]
[project.optional-dependencies]
docker = ["aiodocker>=0.20"]
[dependency-groups]
build = ["hatchling>=1.27"]
dev = [{ include-group = "build" }, "pytest>=8.3"]
"""


def pin(name: str, version: str, direct: bool = True) -> str:
    why = "rollbackd (pyproject.toml)" if direct else "something"
    return f"{name}=={version} \\\n    --hash=sha256:{'0' * 64}\n    # via {why}\n"


def locks(**changes: str) -> dict[str, str]:
    core, build = pin("aiohttp", "3.14.5") + pin("yarl", "1.2", direct=False), pin("hatchling", "1.33.0")
    return {
        "core": core,
        "build": build,
        "dev": core + build + pin("aiodocker", "0.24.0") + pin("pytest", "9.2.0"),
    } | changes


def test_locks_in_step_have_no_fault() -> None:
    assert list(faults(PYPROJECT, locks())) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"core": ""}, "core.lock: aiohttp is not pinned"),
        ({"core": pin("aiohttp", "3.9.0")}, "aiohttp is pinned to 3.9.0, which aiohttp>=3.10 does not allow"),
        ({"build": pin("hatchling", "1.33.0") + pin("left", "1")}, "left is pinned for a requirement that is gone"),
        ({"core": pin("aiohttp", "3.15.0")}, "dev.lock: aiohttp is 3.14.5, but core.lock has 3.15.0"),
        ({"core": pin("aiohttp", "3.14.5") + pin("new", "1", direct=False)}, "dev.lock: new is missing"),
        ({"core": "aiohttp==3.14.5 \\\n    # via rollbackd (pyproject.toml)\n"}, "aiohttp has no hash"),
        ({"build": "--index-url https://example.org/\n"}, "build.lock: line 1 names a place to download from"),
        ({"build": "hatchling>=1.33.0\n"}, "build.lock: line 1 is not a pin with hashes"),
    ],
)
def test_each_way_of_being_out_of_step_is_named(changes: dict[str, str], fault: str) -> None:
    found = list(faults(PYPROJECT, locks(**changes)))
    assert any(fault in line for line in found), found
