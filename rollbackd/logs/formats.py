"""What a log line says: its level and message, in plain text, JSON or logfmt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias, cast

import msgspec

Format: TypeAlias = Literal["auto", "plain", "json", "logfmt"]
Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

MAX_VERSION = 500

_SPELLINGS: Mapping[Level, str] = {
    "debug": "trace debug dbg d t fine finer finest verbose",
    "info": "info information informational i notice note n log default",
    "warning": "warning warn w wrn",
    "error": "error err e eror severe failure",
    "critical": "critical crit c fatal f ftl panic dpanic emerg emergency alert",
}
LEVELS: Mapping[str, Level] = {word: level for level, words in _SPELLINGS.items() for word in words.split()}

_SYSLOG: tuple[Level, ...] = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
"""Severities 0 to 7 of RFC 5424, as GELF and journald's `<N>` prefixes use them."""

_RISING: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")

_TENS: tuple[Level, ...] = ("debug", "debug", "info", "warning", "error", "critical")

_LEVEL_KEYS = ("level", "severity", "lvl", "loglevel", "log_level", "levelname", "log.level", "severity_text", "@l")
_MESSAGE_KEYS = ("message", "msg", "event", "text", "@m", "body", "log", "short_message")

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LOGFMT = re.compile(r'([A-Za-z_@][\w.@-]*)=(?:"((?:[^"\\]|\\.)*)"|(\S*))(?:\s+|$)')
_LOGFMT_START = re.compile(r"[A-Za-z_@][\w.@-]*=")
_ESCAPED = re.compile(r"\\(.)")

_SYSLOG_PREFIX = re.compile(r"<([0-7])>")
_KLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d")
_ASSIGNED = re.compile(r"\b(?:level|lvl|severity|levelname)[=:]\s*\"?([A-Za-z]+)", re.IGNORECASE)
_WORD = re.compile(
    r"\b(TRACE|DEBUG|VERBOSE|INFO|NOTICE|WARN|WARNING|ERR|ERROR|SEVERE|CRIT|CRITICAL|FATAL|PANIC|EMERG|ALERT)\b"
    r"|[\[<|(]\s*((?i:trace|debug|info|notice|warn|warning|err|error|severe|crit|critical|fatal|panic|emerg|alert))"
    r"\s*[\]>|)]"
)
_CRASH = re.compile(
    r"(?i:error|fatal error|panic|fatal)\s*:|Traceback \(most recent call last\)|Exception in thread "
    r"|(?i:unhandled|uncaught) |(?:[\w$]+[.:])*[\w$]*(?:Error|Exception)(?::|$)"
)
_CONTINUED = re.compile(
    r"\s|Caused by: |During handling of the above exception|The above exception was the direct cause"
)
_EXCEPTION = re.compile(r"[\w.$]+(?::|$)")
_TRACEBACK = "Traceback (most recent call last)"
_HEAD = 120
"""Characters of a plain line among which its level is looked for: further on, words are the message's own."""


class Line(msgspec.Struct, frozen=True):
    """One record of a log."""

    level: Level
    message: str
    version: str | None = None


def level_of(word: object) -> Level | None:
    """The level a word or number means. Numbers: 0 to 7 as in syslog, from 10 in tens as in bunyan and pino."""
    if isinstance(word, bool) or word is None:
        return None
    if isinstance(word, int | float):
        if word < 10:
            return _SYSLOG[int(word)] if 0 <= word < 8 else None
        return _TENS[min(int(word) // 10, 6) - 1]
    return LEVELS.get(str(word).strip().lower())


def plain_level(text: str) -> Level:
    """The level a line of plain text seems to have; info where nothing tells."""
    head = text[:_HEAD]
    if (found := _SYSLOG_PREFIX.match(head)) is not None:
        return _SYSLOG[int(found[1])]
    if (found := _KLOG.match(head)) is not None:
        return LEVELS[found[1].lower()]
    if (found := _ASSIGNED.search(head)) is not None and (level := level_of(found[1])) is not None:
        return level
    if (found := _WORD.search(head)) is not None:
        return LEVELS[(found[1] or found[2]).lower()]
    return "error" if _CRASH.match(head) else "info"


class LineReader:
    """Reads lines of one format. `auto` tells each line for itself; what is not of its format is read as plain."""

    def __init__(self, form: Format = "auto", version_field: str | None = None) -> None:
        self._form, self._version_field = form, version_field

    def read(self, text: str, given: Level | None = None) -> Line:
        """The record on a line. `given` is the level that came with it, as syslog's severity does.

        A level that the line's own fields state is the program's word, and holds; of a plain line, the worse one does:
        what passes the lines of a program on often gives all of them the same.
        """
        if "\x1b" in text:
            text = _COLOURS.sub("", text)
        line = None
        if self._form in ("auto", "json") and text.lstrip()[:1] == "{":
            line = self._json(text, given)
        if line is None and self._form in ("auto", "logfmt") and _LOGFMT_START.match(text):
            line = self._logfmt(text, given)
        return line or Line(_worse(plain_level(text), given), text)

    def _json(self, text: str, given: Level | None) -> Line | None:
        try:
            fields = msgspec.json.decode(text, type=dict[str, object])
        except (msgspec.DecodeError, RecursionError):  # the latter for text that is nested too deeply
            return None
        return self._line(fields, text, given)

    def _logfmt(self, text: str, given: Level | None) -> Line | None:
        fields: dict[str, object] = {}
        at = 0
        while at < len(text):
            found = _LOGFMT.match(text, at)
            if found is None:
                at = text.find(" ", at) + 1 or len(text)
                continue
            quoted = found[2]
            fields[found[1]] = found[3] if quoted is None else _ESCAPED.sub(r"\1", quoted)
            at = found.end()
        if not any(key in fields for key in (*_LEVEL_KEYS, "msg", "message")):
            return None
        return self._line(fields, text, given)

    def _line(self, fields: Mapping[str, object], text: str, given: Level | None) -> Line:
        levels = (level_of(_at(fields, key)) for key in _LEVEL_KEYS)
        level = next((found for found in levels if found is not None), None)
        texts = (_at(fields, key) for key in _MESSAGE_KEYS)
        message = next((found for found in texts if isinstance(found, str)), None)
        version = _at(fields, self._version_field) if self._version_field else None
        named = isinstance(version, str | int | float) and not isinstance(version, bool) and str(version).strip()
        return Line(
            level or _worse(plain_level(message or ""), given),
            text if message is None else message,
            str(version).strip()[:MAX_VERSION] if named else None,
        )


def _worse(level: Level, given: Level | None) -> Level:
    return level if given is None else max(level, given, key=_RISING.index)


def _at(fields: Mapping[str, object], key: str) -> object:
    """The value under a key, or under its dotted parts one in another."""
    if key in fields:
        return fields[key]
    value: object = fields
    for part in key.split("."):
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, object]", value).get(part)
    return value


class Folder:
    """Puts the lines of a stack trace together with the line they belong to.

    `take` gives the records that are certain to be over; `flush` the one that was still open. A record's message holds
    at most `max_chars` characters.
    """

    def __init__(self, reader: LineReader, max_chars: int) -> None:
        self._reader, self._max_chars = reader, max_chars
        self._open: Line | None = None
        self._more: list[str] = []
        self._room = 0
        self._in_traceback = False

    def take(self, text: str, given: Level | None = None) -> Line | None:
        """Read one line, of the level `given` with it; the record before it, if this line began a new one."""
        if not text.strip():
            return None
        if self._open is not None and self._continues(text, self._open):
            self._in_traceback = self._in_traceback or text.startswith(_TRACEBACK)
            if len(text) < self._room:
                self._more.append(text)
                self._room -= len(text) + 1
            return None
        over = self.flush()
        self._open = self._reader.read(text, given)
        self._room = self._max_chars - len(self._open.message)
        self._in_traceback = text.startswith(_TRACEBACK)
        return over

    def _continues(self, text: str, to: Line) -> bool:
        if _CONTINUED.match(text):
            return True
        if text.startswith(_TRACEBACK):
            return to.level in ("error", "critical") and not self._in_traceback
        if self._in_traceback and _EXCEPTION.match(text):
            self._in_traceback = False  # the exception itself, the traceback's last line
            return True
        return False

    def flush(self) -> Line | None:
        """The open record, which nothing will be added to any more."""
        line, more = self._open, self._more
        self._open, self._more, self._in_traceback = None, [], False
        if line is None or not more:
            return line
        return Line(line.level, "\n".join([line.message, *more]), line.version)
