"""What a revert commit says, and what the branch of a pull request is called. No I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from rollbackd.targets.base import RevertOrder
from rollbackd.targets.git_history import Stay

MOST_NAMED = 20
"""How many of the commits that are undone the message names."""

LONGEST_REASON = 500
"""So much of a reason stands in the message, in characters."""

_INERT = str.maketrans({"[": "(", "]": ")", "#": "No. ", "@": " at ", "*": None})

_PLAIN_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.|lock$)){0,150}[A-Za-z0-9]")


def one_line(text: str) -> str:
    """Text fit for a trailer: it neither ends its line nor begins another."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def quoted(reason: str) -> str:
    """A reason fit for the message: one line, and nothing in it that a server or pipeline would act upon.

    It may quote what services log, such as a `[skip ci]`, a `fixes #7` or somebody's @name.
    """
    plain = one_line(reason).translate(_INERT)
    return plain if len(plain) <= LONGEST_REASON else f"{plain[:LONGEST_REASON]}..."


def branch_of(key: str) -> str:
    """The branch for the pull request of this order: the same key always gives the same one, and no two share one."""
    if _PLAIN_KEY.fullmatch(key):
        return f"rollbackd/{key}"
    digest = hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()[:16]
    return f"rollbackd/{re.sub(r'[^A-Za-z0-9]+', '-', key)[:100].strip('-') or 'key'}-{digest}"


def message(service: str, order: RevertOrder, good: Stay, path: str, undone: Sequence[str], link: str | None) -> str:
    """The commit's message: what and why for people, trailers for programs (git-interpret-trailers(1)).

    Commits are named by their hash and not by what they say: a `[skip ci]` in one of their subjects would keep the
    pipeline from deploying this very commit.
    """
    service, to, bad = one_line(service), one_line(order.to), one_line(order.expect)
    what = "The repository" if path == "." else f"`{path}`"
    lines = [
        f"Revert {service} to {to}",
        "",
        f"rollbackd judged release {bad} of {service} to be bad.",
        *([f"Because: {quoted(order.reason)}"] if order.reason.strip() else []),
        f"{what} is again exactly what it was at commit {good.last} (release {to}).",
    ]
    if undone:
        more = [f"and {len(undone) - MOST_NAMED} or more before"] if len(undone) > MOST_NAMED else []
        lines += [
            "",
            "This undoes:",
            *(f"  {commit}" for commit in undone[:MOST_NAMED]),
            *(f"  {line}" for line in more),
        ]
    if link is not None:
        lines += ["", f"Why: {link}"]
    lines += [
        "",
        f"Rollbackd-Service: {service}",
        f"Rollbackd-From: {bad}",
        f"Rollbackd-To: {to}",
        f"Rollbackd-Commit: {good.commit}",
        f"Rollbackd-Key: {one_line(order.key)}",
    ]
    return "\n".join(lines)
