"""What is wrong with a configuration, each fault with the line and the key where it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from rollbackd.errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead to a value, from the top of the file."""


def dotted(path: KeyPath) -> str:
    """A path as people write it: `services.checkout.sources[0].scrape`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `where` is empty where the fault is the file's, and `line` 0 where it has none."""

    file: str
    line: int
    where: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.where, self.message) if part)


class ConfigFaults(ConfigError):
    """A configuration that cannot be used; its text is every fault, one a line."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A fault before its file is known. `line` None means the line of `path`."""

    path: KeyPath
    message: str
    line: int | None = None


class Findings:
    """Faults as they are found. What lies under a value known to be wrong is not judged again."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self._wrong: set[KeyPath] = set()

    def add(self, path: KeyPath, message: str, line: int | None = None) -> None:
        """The value at `path` is wrong, and so nothing more is said about it."""
        if not self.judged(path):
            self._wrong.add(path)
            self.all.append(Finding(path=path, message=message, line=line))

    def note(self, path: KeyPath, message: str, line: int | None = None) -> None:
        """Something is wrong at `path`, but its value can still be judged."""
        self.all.append(Finding(path=path, message=message, line=line))

    def judged(self, path: KeyPath) -> bool:
        """Whether the value at `path`, or one that it is part of, is known to be wrong."""
        return any(path[:length] in self._wrong for length in range(len(path) + 1))

    def touches(self, path: KeyPath) -> bool:
        """Whether the value at `path`, one that it is part of, or a part of it is known to be wrong."""
        return self.judged(path) or any(wrong[: len(path)] == path for wrong in self._wrong)

    @property
    def wrong(self) -> frozenset[KeyPath]:
        """The paths of all values known to be wrong."""
        return frozenset(self._wrong)
