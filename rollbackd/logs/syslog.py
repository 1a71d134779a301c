"""What a syslog message says: RFC 5424, and RFC 3164 as programs really send it. No I/O.

RFC 3164 only writes down what was seen at the time, so this reads what is sent today: with and without a time, a year,
a host name or a tag (glibc, `logger`, Python's SysLogHandler, nginx, HAProxy, Docker, rsyslog's and Cisco's forms).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

_PRIORITY = re.compile(r"<(\d{1,3})>")
_HEADER = re.compile(r"1 (\S+) (\S+) (\S+) (\S+) \S+ ?")
_DATA = re.compile(r'(?:\[[^\s\]="]+(?: +[^\s\]="]+="(?:[^"\\]|\\.)*")* *\])+ ?|- ?', re.DOTALL)
_ELEMENT = re.compile(r'\[([^\s\]="]+)((?: +[^\s\]="]+="(?:[^"\\]|\\.)*")*) *\]', re.DOTALL)
_PARAMETER = re.compile(r' +([^\s\]="]+)="((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\\]])')

_TIME = re.compile(
    r"[*.]?[A-Z][a-z]{2} [ \d]?\d (?:\d{4} )?\d\d:\d\d:\d\d(?:\.\d{1,9})?:? +"
    r"|(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S{0,16}) +"
)
_TAG = re.compile(r"([^\s:\[\]]{1,128})(?:\[([^\[\]\s]{0,128})\](?::|(?=\s))|:(?=\s|$)) ?")
_WORD = re.compile(r"(\S{1,255}) +")

MAX_PRIORITY = 191


class Message(NamedTuple):
    """One message. What its sender left out is None; `stamp` (Unix seconds) too where it has no UTC offset."""

    severity: int
    text: str
    app: str | None = None
    host: str | None = None
    process: str | None = None
    stamp: float | None = None
    data: str = ""
    """RFC 5424's structured data, as it was sent."""

    def value(self, field: str) -> str | None:
        """The first value in the structured data of `parameter`, or of `element.parameter`."""
        for element, name, value in _parameters(self.data):
            if field in (name, f"{element}.{name}"):
                return value
        return None


def parse(data: bytes) -> Message | None:
    """Read one message, without its framing. None where it has no priority, and so is no syslog."""
    whole = data.decode(errors="replace").rstrip("\r\n\0")
    priority = _PRIORITY.match(whole)
    if priority is None or int(priority[1]) > MAX_PRIORITY:
        return None
    severity = int(priority[1]) & 7
    header = _HEADER.match(whole, priority.end())
    if header is None:
        return _old(whole, priority.end(), severity)
    host, app, process = (None if part == "-" else part for part in header.group(2, 3, 4))
    found = _DATA.match(whole, header.end())
    end = found.end() if found is not None else header.end()
    fields = found[0].strip() if found is not None and found[0][0] == "[" else ""
    return Message(severity, _text(whole, end), app, host, process, _stamp(header[1]), fields)


def _old(whole: str, at: int, severity: int) -> Message:
    """RFC 3164: time, host and tag may each be missing. A first word is a host only behind a time, and if no tag."""
    time = _TIME.match(whole, at)
    host = None
    if time is not None:
        at = time.end()
    tag = _TAG.match(whole, at)
    if tag is None and time is not None and (word := _WORD.match(whole, at)) is not None:
        host, at = (None if word[1] == "-" else word[1]), word.end()
        tag = _TAG.match(whole, at)
    app, process = (tag[1], tag[2] or None) if tag is not None else (None, None)
    stamp = _stamp(time[1]) if time is not None and time[1] else None
    return Message(severity, _text(whole, tag.end() if tag is not None else at), app, host, process, stamp)


def _text(whole: str, at: int) -> str:
    """What the program wrote: without byte order mark and `@cee:` cookie, with what rsyslog escapes as it was."""
    text = whole[at:].removeprefix("\ufeff")
    if text.startswith("@cee:"):
        text = text[5:].lstrip()
    return text.replace("#012", "\n").replace("#011", "\t") if "#01" in text else text


def _stamp(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _parameters(data: str) -> Iterator[tuple[str, str, str]]:
    for element in _ELEMENT.finditer(data):
        for parameter in _PARAMETER.finditer(element[2]):
            yield element[1], parameter[1], _ESCAPED.sub(r"\1", parameter[2])
