"""How grave a line is: five levels, and the many ways in which they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

SERIOUS: frozenset[Level] = frozenset({"error", "critical"})
"""Levels of which a record may have a stack trace."""

_SPELLINGS: Mapping[Level, str] = {
    "debug": "trace debug dbg d t fine finer finest verbose trce dbug",
    "info": "info information informational i notice note n log default",
    "warning": "warning warn w wrn",
    "error": "error err e eror severe failure fail",
    "critical": "critical crit c fatal f ftl panic dpanic emerg emergency alert",
}
LEVELS: Mapping[str, Level] = {word: level for level, words in _SPELLINGS.items() for word in words.split()}

SYSLOG: tuple[Level, ...] = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
"""Severities 0 to 7 of RFC 5424, as GELF and journald's `<N>` prefixes use them."""

_RISING: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")

_TENS: tuple[Level, ...] = ("debug", "debug", "info", "warning", "error", "critical")


def level_of(word: object) -> Level | None:
    """The level a word or number means. Numbers: 0 to 7 as in syslog, from 10 in tens as in bunyan and pino."""
    if isinstance(word, bool) or word is None:
        return None
    if isinstance(word, int | float):
        if word < 10:
            return SYSLOG[int(word)] if 0 <= word < 8 else None
        return _TENS[min(int(word) // 10, 6) - 1]
    return LEVELS.get(str(word).strip().lower())


def worse(level: Level, other: Level | None) -> Level:
    """The graver of the two."""
    return level if other is None else max(level, other, key=_RISING.index)
