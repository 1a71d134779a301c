"""What a log line says: its level and message, in plain text, JSON or logfmt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias, cast

import msgspec

from rollbackd.logs.levels import LEVELS, SERIOUS, SYSLOG, Level, level_of, worse
from rollbackd.logs.rules import Rules
from rollbackd.logs.traces import Trace

Format: TypeAlias = Literal["auto", "plain", "json", "logfmt"]

MAX_VERSION = 500

_LEVEL_KEYS = (
    "level", "severity", "lvl", "loglevel", "log_level", "levelname", "log.level", "severity_text", "severityText",
    "Level", "Severity", "@l",
)  # fmt: skip
_MESSAGE_KEYS = ("message", "msg", "event", "text", "@m", "@mt", "body", "log", "short_message", "Message")

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LOGFMT = re.compile(r'([A-Za-z_@][\w.@-]*)=(?:"((?:[^"\\]|\\.)*)"|(\S*))(?:\s+|$)')
_LOGFMT_START = re.compile(r"[A-Za-z_@][\w.@-]*=")
_ESCAPED = re.compile(r"\\(.)")

_AT_START = re.compile(r"<([0-7])>|([IWEF])\d{4} \d\d:\d\d:\d\d|(trce|dbug|info|warn|fail|crit): ", re.ASCII)
"""Syslog's severity in front, klog's (of Kubernetes), and those of .NET's console."""
_ASSIGNED = re.compile(r"\b(?:level|lvl|severity|levelname)([=:])\s*\"?([A-Za-z]+)", re.IGNORECASE)
_WORD = re.compile(
    r"[TDVINWESCFPA](?<!\w.)(?:(?<=T)RACE|(?<=D)EBUG|(?<=V)ERBOSE|(?<=I)NFO|(?<=N)OTICE|(?<=W)ARN(?:ING)?|(?<=E)RR(?:OR)?"
    r"|(?<=S)EVERE|(?<=C)RIT(?:ICAL)?|(?<=F)ATAL|(?<=P)ANIC|(?<=E)MERG|(?<=A)LERT)\b"
    r"|[\[<|(]\s*((?ai:trace|debug|info|notice|warn|warning|err|error|severe|crit|critical|fatal|panic|emerg|alert))"
    r"\s*[\]>|)]"
)
"""Begins with a set of characters, so that the places at which it cannot match are passed over quickly. Only letters of
ASCII have two cases here: else `ſ` and `ı` were an `s` and an `i`, in words that nobody spells so."""
_CRASH = re.compile(
    r"(?ai:error|fatal error|panic|fatal)\s*:|Traceback \(most recent call last\)|Exception in thread "
    r"|(?ai:unhandled|uncaught) |(?:[\w$]+[.:])*[\w$]*(?:Error|Exception)(?::|$| \()"
    r"|(?:\[[^]]{1,40}\] )?PHP (?:Fatal|Parse) error:|\(node:\d+\) (?:Unhandled|Uncaught)"
    r"|.{0,40}\bpanic serving |thread '.{0,80}' (?:\(\d+\) )?panicked at "
    r"|\S{1,90}\.rb:\d+:in .*\([\w:]*(?:Error|Exception)\)"
)
_HEAD = 120
"""Characters of a plain line among which its level is looked for: further on, words are the message's own."""


class Line(msgspec.Struct, frozen=True):
    """One record of a log; or `count` of them, of one level, that were counted without being read."""

    level: Level
    message: str
    version: str | None = None
    count: int = 1


def plain_level(text: str) -> Level:
    """The level a line of plain text seems to have; info where nothing tells."""
    head = text[:_HEAD]
    if (found := _AT_START.match(head)) is not None:
        return SYSLOG[int(found[1])] if found[1] else LEVELS[(found[2] or found[3]).lower()]
    word = _WORD.search(head)
    lower = head.lower()
    if "level" in lower or "lvl" in lower or "severity" in lower:  # searching for these in any case is slow
        found = _ASSIGNED.search(head)
        level = level_of(found[2]) if found is not None else None
        if found is not None and level is not None:
            comes_first = word is None or (found[1] == "=" and found.start() < word.start())
            if comes_first:
                return level
    if word is not None:
        return LEVELS[(word[1] or word[0]).lower()]
    return "error" if _CRASH.match(head) else "info"


class LineReader:
    """Reads lines of one format. `auto` tells each line for itself; what is not of its format is read as plain.

    `rules` are the operator's: what they say of a line goes before what the line says.
    """

    def __init__(self, form: Format = "auto", version_field: str | None = None, rules: Rules | None = None) -> None:
        self.form, self._version_field, self.rules = form, version_field, rules

    def read(self, text: str, given: Level | None = None) -> Line:
        """The record on a line. `given` is the level that came with it, as syslog's severity does.

        A level that the line's own fields state is the program's word, and holds; of a plain line, the worse one does:
        what passes the lines of a program on often gives all of them the same.
        """
        line = self._read(text, given)
        rule = self.rules.first(text) if self.rules is not None else None
        if rule is None:
            return line
        return Line(rule.level or line.level, rule.name or line.message, line.version)

    def _read(self, text: str, given: Level | None) -> Line:
        if "\x1b" in text:
            text = _COLOURS.sub("", text)
        line = None
        if self.form in ("auto", "json") and text.lstrip()[:1] == "{":
            line = self._json(text, given)
        if line is None and self.form in ("auto", "logfmt") and _LOGFMT_START.match(text):
            line = self._logfmt(text, given)
        return line or Line(worse(plain_level(text), given), text)

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
            fields.setdefault(found[1], found[3] if quoted is None else _ESCAPED.sub(r"\1", quoted))
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
            level or worse(plain_level(message or ""), given),
            text if message is None else message,
            str(version).strip()[:MAX_VERSION] if named else None,
        )


def _at(fields: Mapping[str, object], key: str) -> object:
    """The value under a key, or under its dotted parts one in another."""
    if key in fields:
        return fields[key]
    if "." not in key:
        return None
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
        self._trace = Trace("", "", serious=False)
        self._more: list[str] = []
        self._room = 0

    @property
    def open(self) -> Line | None:
        """The record that further lines may belong to, as its first line was read."""
        return self._open

    def take(self, text: str, given: Level | None = None) -> Line | None:
        """Read one line, of the level `given` with it; the record before it, if this line began a new one."""
        if not text.strip() or self.add(text):
            return None
        over = self.flush()
        self.begin(text, self._reader.read(text, given))
        return over

    def begin(self, text: str, line: Line) -> None:
        """Open a record with a line that was read already; the one before it must be over."""
        self._open = line
        self._trace = Trace(text, line.message, serious=line.level in SERIOUS)
        self._room = self._max_chars - len(line.message)

    def add(self, text: str) -> bool:
        """Add a line to the open record, if there is one and the line belongs to it."""
        if self._open is None or not self._trace.takes(text):
            return False
        if len(text) < self._room:
            self._more.append(text)
            self._room -= len(text) + 1
        return True

    def flush(self) -> Line | None:
        """The open record, which nothing will be added to any more."""
        line, more = self._open, self._more
        self._open, self._more = None, []
        if line is None or not more:
            return line
        return Line(line.level, "\n".join([line.message, *more]), line.version)
