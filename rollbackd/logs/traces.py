"""Which lines belong to the line before them: the stack traces of many languages.

Each language prints a crash in its own way, and nothing marks where it ends. Lines that begin with white space always
continue what was before them. What does not is told by how it looks (Java's `Caused by:`, PHP's `#1 {main}`), or by
what it follows: an exception's own line ends a Python traceback and begins a Java trace, and the frames of Go's
goroutines are two lines each, of which only the second is indented.
"""

from __future__ import annotations

import re

_CONTINUED = re.compile(
    r"\s(?!\s?(?:TRACE|DEBUG|INFO|WARN)\b)"  # some pad the level with a blank in front
    r"|Caused by: |Wrapped by: |\.\.\. \d+ (?:more|common frames)"  # Java
    r"|During handling of the above exception|The above exception was the direct cause"  # Python
    r"|Stack trace:|\[stacktrace\]|#\d+ "  # PHP
    r"|--- End of "  # .NET
    r"|stack backtrace:|note: (?:run with|[Ss]ome details)"  # Rust
    r"|\"?[)\]}]+[,;]?\s*$"  # the end of what Node.js and Monolog print of an object
)
_OF_ERRORS = re.compile(
    r"\[signal |goroutine \d+ \["  # Go
    r"|\S{1,200}\.rb:\d+:in "  # Ruby
)
_PYTHON = "Traceback (most recent call last)"
_PYTHON_END = re.compile(r"[\w.$]+(?::|$)")
_EXCEPTION = re.compile(r"(?:[\w$]+[.\\:])*[\w$]*(?:Error|Exception|Throwable)(?::|$)")
_GO = "goroutine "
_GO_REST = re.compile(r"created by |exit status \d+$|r\w{1,9}\s+0x[0-9a-f]+$")
_RUST_SITE = re.compile(r"thread '.{0,80}panicked at \S+:$")


def continues(text: str) -> bool:
    """Whether a line, by itself, looks like a part of the record before it, whatever that is."""
    return _CONTINUED.match(text) is not None


class Trace:
    """What was seen of the trace of one record, which begins with the line `first`."""

    def __init__(self, first: str, message: str, *, serious: bool) -> None:
        self._message, self._serious = message, serious
        self._in_python = serious and first.startswith(_PYTHON)
        self._in_go = self._begun = False

    def takes(self, text: str) -> bool:
        """Whether the line belongs to the record; if so, it is part of the trace from now on."""
        if not self._belongs(text):
            return False
        self._begun = True
        return True

    def _belongs(self, text: str) -> bool:
        if text.startswith(_PYTHON):
            if not self._serious or self._in_python:
                return False
            self._in_python = True
            return True
        if continues(text):
            return True
        if self._in_python and _PYTHON_END.match(text):
            self._in_python = False
            return True
        if not self._serious:
            return False
        if _OF_ERRORS.match(text) or (self._in_go and _of_go(text)):
            self._in_go = self._in_go or text.startswith(_GO)
            return True
        if self._begun:
            return False
        if _EXCEPTION.match(text):
            return not _EXCEPTION.match(self._message)
        return _RUST_SITE.match(self._message) is not None


def _of_go(text: str) -> bool:
    """Whether a line can stand in a dump of goroutines: a call, such as `net/http.(*conn).serve(0xc0001)`, most of all.

    Without a regular expression, since one that finds this takes very long over a long line made for it.
    """
    if not text.endswith(")"):
        return _GO_REST.match(text) is not None
    called = text.partition("(")[0]
    return " " not in called and ("." in called or called == "panic")
