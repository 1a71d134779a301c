"""What a log line says with its particulars taken out, so that the same complaint is recognised again."""

from __future__ import annotations

import operator
import re

MAX_CHARS = 300
"""Only so much of a message makes its signature."""

_QUOTED = re.compile(r"""['"/](?:(?<=')[^']*'|(?<=")[^"]*"|(?<=/)(?<!\w/)[\w.\-/%]+)""")
"""Text in quotes, and paths."""

_NUMBERED = re.compile(
    r"""
    [+\-\dA-Fa-f]
    (?: (?<!\w.)  # a word begins with it
        (?: (?<=\d)\d{0,2}(?:\.\d{1,3}){3}(?::\d+)?\b  # address
          | (?<=[0-9a-fA-F])[0-9a-fA-F]{7}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b  # identity
          | (?: (?<=0)x(?=[0-9a-fA-F]*\d)[0-9a-fA-F] | (?<=\d) | (?<=[a-fA-F])(?=[0-9a-fA-F]*\d) )[0-9a-fA-F]{5,}\b
        )
      | (?: (?<=\d)\d* | (?<=[+\-])\d+ )(?:[.,:]\d+)*
    )
    """,
    re.VERBOSE,
)
"""Addresses, identifiers, hexadecimal and other numbers. Both begin with a set of characters: places where they cannot
match are passed over quickly, and each error line comes through here."""

_STAMP = re.compile(
    r"\A\s*\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|\ ?[+-]\d\d:?\d\d)?\]?:?\s+(?=\S)"
)
"""When a line was written, at its beginning: the same for no two lines, and in the way of reading them."""


def signature(message: str) -> str:
    """The message without its time stamp, and with quoted text, paths, addresses, identifiers and numbers as `*`."""
    text = message[:MAX_CHARS]
    if (stamp := _STAMP.match(text)) is not None:
        text = text[stamp.end() :]
    return " ".join(_NUMBERED.sub("*", _QUOTED.sub("*", text)).split())


CONSTANT_AFTER = 10
"""A word that was the same in more lines than this belongs to the message; before, it may be a particular."""
ALIKE = 4
"""Of so many words one may differ between two lines of the same message."""


def merged(known: str, text: str, count: int) -> str | None:
    """The signature of both, with `*` where they differ, if `text` is likely the same message as `known`, seen `count`
    times; None where it is not. Names that a message mentions without quotes are found in this way, much as Drain does
    (He, Zhu, Zheng, Lyu 2017, "Drain: An Online Log Parsing Approach with Fixed Depth Tree").
    """
    ours, theirs = known.split(" "), text.split(" ")
    if len(ours) != len(theirs) or len(ours) < ALIKE or ours[0] != theirs[0]:
        return None
    if sum(map(operator.ne, ours, theirs)) > len(ours) // ALIKE + known.count("*"):
        return None
    words = [mine if mine == other else "*" for mine, other in zip(ours, theirs, strict=True)]
    differ = sum(word == "*" and mine != "*" for word, mine in zip(words, ours, strict=True))
    if differ > len(ours) // ALIKE or (differ and count > CONSTANT_AFTER):
        return None
    return " ".join(words)
