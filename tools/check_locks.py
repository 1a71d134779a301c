"""Checks, without network, that requirements/*.lock are in step with pyproject.toml, and with each other.

A lock is in step where each requirement is pinned to a version it allows, nothing is pinned for a requirement that
is gone, every pin has its hashes, and no pin names a place to download from.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ;[^\\]*)? \\$")
_DIRECT = re.compile(r"^\s+#.*\brollbackd \(pyproject\.toml")


@dataclass(frozen=True)
class Pin:
    """One locked package; `direct` where pyproject.toml itself asks for it."""

    version: Version
    hashes: int
    direct: bool


def read_lock(text: str) -> dict[str, Pin]:
    """The pins of a lock file. Raises ValueError for a line that is neither pin, hash nor comment."""
    pins: dict[str, Pin] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        if "://" in line:
            raise ValueError(f"line {number} names a place to download from")
        if found := _PIN.match(line):
            name = canonicalize_name(found["name"])
            pins[name] = Pin(Version(found["version"]), 0, False)
        elif line.startswith("    --hash=sha256:"):
            pins[name] = Pin(pins[name].version, pins[name].hashes + 1, pins[name].direct)
        elif _DIRECT.match(line):
            pins[name] = Pin(pins[name].version, pins[name].hashes, True)
        elif line.strip() and not line.lstrip().startswith("#"):
            raise ValueError(f"line {number} is not a pin with hashes: {line}")
    return pins


def wanted(pyproject: str) -> dict[str, list[Requirement]]:
    """What each lock must hold, by its name: `core`, `build` and `dev` (which holds the other two and all extras)."""
    data = tomllib.loads(pyproject)
    core = [Requirement(text) for text in data["project"]["dependencies"]]
    extras = [Requirement(t) for extra in data["project"].get("optional-dependencies", {}).values() for t in extra]
    groups = data["dependency-groups"]
    build = [Requirement(text) for text in groups["build"]]
    dev = [Requirement(text) for text in groups["dev"] if isinstance(text, str)]
    return {"core": core, "build": build, "dev": core + extras + build + dev}


def faults(pyproject: str, locks: dict[str, str]) -> Iterator[str]:
    """One sentence for each way in which the locks differ from what they are made from."""
    pins: dict[str, dict[str, Pin]] = {}
    for lock, requirements in wanted(pyproject).items():
        try:
            pins[lock] = read_lock(locks[lock])
        except ValueError as error:
            yield f"{lock}.lock: {error}"
            continue
        yield from (f"{lock}.lock: {fault}" for fault in _out_of_step(pins[lock], requirements))
    for lock in ("core", "build"):
        for name, pin in pins.get(lock, {}).items():
            tested = pins.get("dev", {}).get(name)
            if "dev" in pins and (tested is None or tested.version != pin.version):
                version = "is missing" if tested is None else f"is {tested.version}"
                yield f"dev.lock: {name} {version}, but {lock}.lock has {pin.version}"


def _out_of_step(pins: dict[str, Pin], requirements: list[Requirement]) -> Iterator[str]:
    for requirement in requirements:
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None:
            yield f"{requirement.name} is not pinned"
        elif not requirement.specifier.contains(pin.version, prereleases=True):
            yield f"{requirement.name} is pinned to {pin.version}, which {requirement} does not allow"
    asked_for = {canonicalize_name(requirement.name) for requirement in requirements}
    for name, pin in pins.items():
        if pin.hashes == 0:
            yield f"{name} has no hash"
        if pin.direct and name not in asked_for:
            yield f"{name} is pinned for a requirement that is gone"


def main() -> int:
    """Print every fault; 1 where there is one."""
    root = Path(__file__).resolve().parent.parent
    locks = {path.stem: path.read_text(encoding="utf-8") for path in (root / "requirements").glob("*.lock")}
    found = list(faults((root / "pyproject.toml").read_text(encoding="utf-8"), locks))
    print("\n".join([*found, "Run `make lock`."]) if found else "locks are in step with pyproject.toml")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
