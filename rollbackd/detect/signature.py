"""What a log line says with its particulars taken out, so that the same complaint is recognised again."""

from __future__ import annotations

import re

MAX_CHARS = 300
"""Only so much of a message makes its signature."""

_PARTICULARS = re.compile(
    r"""
      (?P<quoted>'[^']*'|"[^"]*")
    | (?P<path>(?<![\w])/[\w.\-/%]+)
    | (?P<address>\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b)
    | (?P<identity>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)
    | (?P<hex>\b(?:0x)?(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{6,}\b)
    | (?P<number>[+-]?\d+(?:[.,:]\d+)*)
    """,
    re.VERBOSE,
)

_STAMP = re.compile(
    r"\A\s*\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|\ ?[+-]\d\d:?\d\d)?\]?:?\s+(?=\S)"
)
"""When a line was written, at its beginning: the same for no two lines, and in the way of reading them."""


def signature(message: str) -> str:
    """The message without its time stamp, and with quoted text, paths, addresses, identifiers and numbers as `*`."""
    return " ".join(_PARTICULARS.sub("*", _STAMP.sub("", message[:MAX_CHARS])).split())
