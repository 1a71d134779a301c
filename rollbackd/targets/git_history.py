"""What a branch says was deployed: the commits that touched a service's files, as releases. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

SEPARATOR = "\x1f"
LOG_FORMAT = "%x00%H%x1f%P%x1f%ct%x1f%(trailers:key=Rollbackd-Commit,valueonly,unfold,separator=%x2C)"
"""For `git log --format`. A commit begins with NUL, the one sign that no message can hold; `--raw` adds lines below."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""The full name of a commit or another object."""

_RAW = re.compile(r":[0-7]+ ([0-7]+) [0-9a-f]+ ([0-9a-f]+) ")
_NOTHING = "000000"
_LINK = "160000"


@dataclass(frozen=True)
class Touch:
    """A commit of the branch that touched the files in question.

    `restores` is the commit whose state it says it restores (a revert of ours), else empty. `blob` is the file it left
    behind, where the log was asked for one; None where it left none.
    """

    commit: str
    parents: tuple[str, ...]
    at: float
    restores: str = ""
    blob: str | None = None


@dataclass(frozen=True)
class Stay:
    """A time for which the branch said the same release.

    It began with `commit` at `at` (Unix seconds); at `last`, a commit of the branch, it was still so. `version` is None
    where nothing was deployed, or nothing that has a name.
    """

    version: str | None
    commit: str
    last: str
    at: float


def touches(output: str) -> Iterator[Touch]:
    """The commits of a `git log --format=LOG_FORMAT`, with or without `--raw`. What is no such line is left out."""
    for text in output.split("\0")[1:]:
        line, _, rest = text.partition("\n")
        fields = line.split(SEPARATOR, 3)
        if len(fields) < 4 or not COMMIT.fullmatch(fields[0]) or not fields[2].isdecimal():
            continue
        raw = _RAW.search(rest)
        yield Touch(
            commit=fields[0],
            parents=tuple(parent for parent in fields[1].split() if COMMIT.fullmatch(parent)),
            at=float(fields[2]),
            restores=fields[3].strip() if COMMIT.fullmatch(fields[3].strip()) else "",
            blob=raw[2] if raw is not None and raw[1] not in (_NOTHING, _LINK) else None,
        )


def stays(head: str, found: Iterable[Touch], names: Mapping[str, str | None]) -> list[Stay]:
    """What was deployed, newest first, given the name of what each commit left behind.

    Where neighbours have the same name, they are one: the values beside the version changed, the release did not.
    """
    listed: list[Stay] = []
    last = head
    for touch in found:
        stay = Stay(version=names.get(touch.commit), commit=touch.commit, last=last, at=touch.at)
        if listed and listed[-1].version == stay.version:
            listed[-1] = replace(listed[-1], commit=stay.commit, at=stay.at)
        else:
            listed.append(stay)
        if not touch.parents:
            break
        last = touch.parents[0]
    return listed


def newest(listed: Iterable[Stay], version: str) -> Stay | None:
    """The latest time at which this release was deployed."""
    return next((stay for stay in listed if stay.version == version), None)
