"""Lines that are below a warning at first sight: what lets a block of bytes be searched instead of read.

Nearly all lines of nearly all logs say early what they are: `INFO`, `[debug]`, `level=info`, `"level":"info"`. One
regular expression passes over them, several million a second, and finds the others. It must never pass over a line
that `formats` would call a warning or worse (a test compares them); a line that it finds for no reason is only read.
So it asks for the first level that a line names, in the place where `formats` looks first, and for nothing before it
that might be another. Its repetitions are possessive or bounded: it never goes back, and its time grows with the
length of the text alone.

Of what it finds, most are warnings, of which only the number counts: those that are told at first sight in the same way
are not read either.

A log whose lines have no level, such as that of a web server's requests, is searched for the words that no warning
does without; that takes twice as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rollbackd.logs.formats import Format

FEW = 16
"""Where no more than one line in so many is found at first sight, each of them may be read."""
TRY_AGAIN = 32
"""So many blocks of a log whose lines name no level are searched for words at once, before it is looked at anew."""

_ENDS = rb"\b(?![=\x1b\x80-\xff])"
_GOOD = rb"(?:INFO|DEBUG|TRACE|NOTICE|VERBOSE)" + _ENDS
_WARN = rb"WARN(?:ING)?" + _ENDS
_BAD = rb"(?:WARN|ERR|SEVERE|CRIT|FATAL|PANIC|EMERG|ALERT)"
_ANY = rb"(?i:trace|debug|info|notice|warn|err|severe|crit|fatal|panic|emerg|alert)"

_STAMP = rb"\d[\d T:.,Z+-]{7,39}+(?<!\w)"
"""What most plain lines have in front of their level. Nothing in it can be a level, so it is passed over at once."""
_PLAIN = (
    rb"I\d{4} \d\d:\d\d:\d\d|(?:info|dbug|trce): "
    rb"|(?!<[0-7]>|[IWEF]\d{4} |fail: |crit: |warn: )"
    rb"(?:[^\n{=<|(\[\x1b\x80-\xffTDVINWESCFPA]{1,12}+|T(?=\d)"
    rb"|[\[<|(](?!\s*+" + _ANY + rb")|(?!" + _GOOD + rb"|" + _BAD + rb")[TDVINWESCFPA]){0,9}+"
    rb"(?<!\w)(?:" + _GOOD + rb"|[\[<|(]\s?+(?i:trace|debug|info|notice)\s?+[\]>|)])"
)
"""At most 9 pieces of 12 bytes before it: a level beyond the first 120 characters is none."""
_JSON = (
    rb'\{[^\n{}\[\]l]*+(?:l(?!evel")[^\n{}\[\]l]*+)*+(?<=")level":\s?+'
    rb'(?:"(?i:info|debug|trace|notice)"|(?:[67]|[123]0)(?=[,}]))'
)
"""Without any bracket before it, so that it is a key of the object itself."""
_LOGFMT = rb'(?:(?!level=)[A-Za-z_@][\w.@-]*+=(?:"[^"\\\n]*+"|[^\s"]*+)\x20++){0,6}+level='
_LOGFMT_GOOD = _LOGFMT + rb"(?:info|debug|trace|notice)(?=\s)"
_LOGFMT_WARN = _LOGFMT + rb"(?:warn|warning)(?=\s)"


def _other_than(*known: bytes) -> re.Pattern[bytes]:
    """Finds the newline before each line that begins in none of these ways."""
    return re.compile(rb"\n(?!" + rb"|".join(known) + rb")")


_SUSPECT: Mapping[Format, re.Pattern[bytes]] = {
    "auto": _other_than(_STAMP + _GOOD, _JSON, _PLAIN, _LOGFMT_GOOD),
    "plain": _other_than(_STAMP + _GOOD, _PLAIN),
    "json": _other_than(_STAMP + _GOOD, _JSON, _PLAIN),
    "logfmt": _other_than(_STAMP + _GOOD, _PLAIN, _LOGFMT_GOOD),
}
_WARNING: Mapping[Format, re.Pattern[bytes]] = {
    "auto": re.compile(_STAMP + _WARN + rb"|" + _LOGFMT_WARN),
    "plain": re.compile(_STAMP + _WARN),
    "json": re.compile(_STAMP + _WARN),
    "logfmt": re.compile(_STAMP + _WARN + rb"|" + _LOGFMT_WARN),
}
"""None of these begins as a line of a stack trace may. Those in JSON are read: of a broken one, the words count."""

_WORDS = (
    b"err", b"warn", b"severe", b"crit", b"fatal", b"fail:", b"panic", b"emerg", b"alert", b"exception", b"traceback",
    b"unhandled", b"uncaught",
)  # fmt: skip
_AT_START = re.compile(rb"\n(?:[wef]\d{4} |<[0-4]>)")
_HARMLESS = (
    rb"(?:trace|trce|debug|dbug|dbg|fine|finer|finest|verbose|info|information|informational|notice|note|log|default"
    rb"|[ditn567]|[123]\d)\b"
)
_LEVELS = tuple(
    (key, re.compile(key + rb"(?:name|_?text)?+\"?+\s*+[:=]\s*+\"?+(?!" + _HARMLESS + rb")"))
    for key in (b"level", b"severity", b"lvl", b"@l")
)
"""A level named by a key, of a value that is not known to be harmless."""


class Searcher:
    """Finds lines that may be a warning or worse, block by block of one log, in the way that suits its lines."""

    def __init__(self, form: Format) -> None:
        self._suspect, self._warning = _SUSPECT[form], _WARNING[form]
        self._blocks_by_words = 0

    def suspects(self, block: bytes, lines: int) -> list[int]:
        """Of a newline and so many whole lines: the places of the newlines before those that may be a warning or worse,
        in order."""
        if self._blocks_by_words == 0:
            found = [match.start() for match in self._suspect.finditer(block)]
            if len(found) * FEW <= lines + FEW:
                return found
            self._blocks_by_words = TRY_AGAIN
        self._blocks_by_words -= 1
        lower = block.lower()
        return sorted({lower.rfind(b"\n", 0, at + 1) for at in _worded(lower)})

    def warns(self, block: bytes, begin: int, end: int) -> bool:
        """Whether the line that begins there is a warning at first sight, for which nothing after `end` counts."""
        return self._warning.match(block, begin, end) is not None


def _worded(text: bytes) -> Iterator[int]:
    """Places of words in lower case, at least one in each line that may be a warning or worse."""
    for word in _WORDS:
        at = text.find(word)
        while at >= 0:
            yield at
            at = text.find(word, text.index(b"\n", at))
    for match in _AT_START.finditer(text):
        yield match.start()
    for key, pattern in _LEVELS:
        if key in text:
            for match in pattern.finditer(text):
                yield match.start()
