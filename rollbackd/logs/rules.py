"""What an operator says about lines: regular expressions that give them another level, or a name.

They run over every line of a log, so they run on RE2 (Cox 2007, "Regular Expression Matching Can Be Simple And Fast"),
whose time grows with the length of the text and never with what is in it: no expression, and no line that a stranger
made the service log, can hold the daemon up. RE2 is imported only where there are rules.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Protocol, cast

from pydantic import Field, field_validator, model_validator

from rollbackd.fields import Model
from rollbackd.logs.levels import Level

MAX_RULES = 100
MAX_PATTERN = 1000
"""Characters of an expression."""
_NOT_REGULAR = ("invalid perl operator", "invalid escape sequence")


class Match(Protocol):
    """Where an expression matched."""

    def start(self) -> int: ...


class Pattern(Protocol):
    """The little that is used of a compiled expression."""

    def search(self, text: str) -> Match | None: ...

    def finditer(self, text: bytes) -> Iterable[Match]: ...


class LineRule(Model):
    """What to take lines for. Of several rules the first that matches counts."""

    match: Annotated[str, Field(min_length=1, max_length=MAX_PATTERN)]
    """An RE2 regular expression, looked for anywhere in the line as it is written."""
    level: Level | None = None
    """The level that such lines have; `debug` or `info` means that nobody is to be alarmed by them."""
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What such lines are called: they are one kind of message, however different they look."""

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        compiled(value)
        return value

    @model_validator(mode="after")
    def _says_something(self) -> LineRule:
        if self.level is None and self.name is None:
            raise ValueError("a rule says what lines are: give it a `level`, a `name`, or both")
        return self

    @cached_property
    def pattern(self) -> Pattern:
        """The expression, compiled."""
        return compiled(self.match)


class Rules:
    """The rules of one log, in their order."""

    def __init__(self, rules: Sequence[LineRule]) -> None:
        self._rules = tuple(rules)
        together = "|".join(f"(?:{rule.match})" for rule in rules)
        self._any = compiled(together.encode())

    def first(self, text: str) -> LineRule | None:
        """The rule that holds for a line."""
        return next((rule for rule in self._rules if rule.pattern.search(text) is not None), None)

    def places(self, block: bytes) -> Iterator[int]:
        """Places in lines of a block for which a rule may hold: at least one in each of them."""
        return (match.start() for match in self._any.finditer(block))


def compiled(pattern: str | bytes) -> Pattern:
    """The expression, of which each match lies within a line. Raises ValueError that says what RE2 does not take."""
    try:
        re2 = importlib.import_module("re2")
    except ImportError:
        raise ValueError("rules for lines need a package that is not installed: install rollbackd[re2]") from None
    options = re2.Options()
    options.log_errors, options.never_nl = False, True
    try:
        whole = b"(?m:" + pattern + b")" if isinstance(pattern, bytes) else f"(?m:{pattern})"
        return cast("Pattern", re2.compile(whole, options=options))
    except re2.error as error:
        raise ValueError(_plain(error)) from None


def _plain(error: Exception) -> str:
    said = error.args[0] if error.args else b""
    fault = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    if fault.startswith(_NOT_REGULAR):
        return f"RE2 knows no lookaround and no backreferences, without which no line can make it slow ({fault})"
    return f"it is no regular expression that RE2 takes: {fault}"
