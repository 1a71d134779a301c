"""What an entry of systemd's journal says, and which entries are about a service.

Fields: https://www.freedesktop.org/software/systemd/man/252/systemd.journal-fields.html. JSON, and how it shows what is
no text: https://systemd.io/JOURNAL_EXPORT_FORMATS/#journal-json-format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec

from rollbackd.logs.formats import Line, LineReader
from rollbackd.logs.levels import Level, level_of

FIELDS = ("MESSAGE", "MESSAGE_ID", "N_DROPPED", "PRIORITY", "SYSLOG_IDENTIFIER", "_PID")
"""What of an entry is asked for; its cursor and times always come with it."""

FAILURES = frozenset(
    {
        "98e322203f7a4ed290d09fe03c09fe15",  # Main process exited, code=..., status=...
        "d9b373ed55a64feb8242e02dbe79a49c",  # Failed with result '...'
        "be02cf6855d2428ba40df7e9d022f03d",  # Failed to start ...
        "fe6faa94e7774663a0da52717891d8ef",  # A process of this unit has been killed by the OOM killer
        "fc2e22bc6ee647b6b90729ab34a250b1",  # Process ... dumped core
    }
)
"""What systemd says of a unit that failed, by MESSAGE_ID (sd-messages.h). It says most of it as a notice or warning."""

_SUPPRESSED = "a596d6fe7bfa4994828e72309e95d61e"
_RISING: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True)
class Entry:
    """One entry. `at` is when it was logged, in Unix seconds; `suppressed` how many others journald did not take."""

    cursor: str
    at: float
    message: str
    process: str
    priority: Level | None
    failure: bool
    suppressed: int
    version: str | None

    def level(self, said: Level) -> Level:
        """The entry's level, where its text seems to have the level `said`.

        The more severe of the two, since a service's standard output and error both come with the same priority; but
        a text that seems to be `info` may just say nothing about it.
        """
        if self.failure:
            return "error"
        if self.priority is None or (said != "info" and _RISING.index(said) > _RISING.index(self.priority)):
            return said
        return self.priority


class EntryReader(LineReader):
    """Reads the text of entries; what an entry's fields say is held against what its text seems to say."""

    entry: Entry | None = None
    """The one whose text is read next."""

    def read(self, text: str, given: Level | None = None) -> Line:
        line, entry = super().read(text, given), self.entry
        if entry is None:
            return line
        rule = self.rules.first(text) if self.rules is not None else None
        level = line.level if rule is not None and rule.level is not None else entry.level(line.level)
        return Line(level, line.message, line.version or entry.version)

    def whole(self, text: str) -> Line:
        """A message of several lines as one record: its first line tells the level."""
        first, _, rest = text.partition("\n")
        line = self.read(first)
        return Line(line.level, f"{line.message}\n{rest}", line.version)


def read(raw: bytes, version_field: str | None) -> Entry | None:
    """The entry on a line of JSON; None where it is none."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, object])
        at = int(_text(fields, "__REALTIME_TIMESTAMP")) / 1e6
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
        return None
    cursor = _text(fields, "__CURSOR")
    if not cursor or not 0 <= at < 1e11:
        return None
    message_id = _text(fields, "MESSAGE_ID")
    return Entry(
        cursor=cursor,
        at=at,
        message=_text(fields, "MESSAGE"),
        process=_text(fields, "_PID") or _text(fields, "SYSLOG_IDENTIFIER"),
        priority=level_of(_number(_text(fields, "PRIORITY"))),
        failure=message_id in FAILURES,
        suppressed=(_number(_text(fields, "N_DROPPED")) or 1) if message_id == _SUPPRESSED else 0,
        version=(_text(fields, version_field).strip()[:500] or None) if version_field else None,
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _text(fields: Mapping[str, object], name: str) -> str:
    """A field's value: text, or numbers that are the bytes of what is no UTF-8, or a list of these."""
    value = fields.get(name)
    if isinstance(value, list) and value and not isinstance(value[0], int):
        value = cast("list[object]", value)[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        try:
            return bytes(cast("list[int]", value)).decode(errors="replace")
        except (TypeError, ValueError):
            return ""
    return ""


def about(
    units: Sequence[str], identifiers: Sequence[str], fields: Mapping[str, Sequence[str]], owner: int | None
) -> list[list[str]]:
    """What to ask journalctl for: an entry must fulfil all of one list, where equal fields are alternatives.

    `owner` is the user whose units are meant; None means the system's. Beside what a unit logs itself, there is what
    systemd, journald and systemd-coredump say about it: all with fields that others cannot forge, as
    `journalctl --unit` does it (systemd, src/shared/logs-show.c, add_matches_for_unit).
    """
    narrower = [f"SYSLOG_IDENTIFIER={one}" for one in identifiers]
    narrower += [f"{name}={one}" for name, values in fields.items() for one in values]
    if not units:
        return [narrower]

    def each(name: str) -> list[str]:
        return [f"{name}={unit}" for unit in units]

    if owner is None:
        return [
            [*each("_SYSTEMD_UNIT"), *narrower],
            ["_PID=1", *each("UNIT")],
            ["_UID=0", *each("OBJECT_SYSTEMD_UNIT")],
            ["_UID=0", *each("COREDUMP_UNIT")],
        ]
    return [
        [f"_UID={owner}", *each("_SYSTEMD_USER_UNIT"), *narrower],
        [f"_UID={owner}", *each("USER_UNIT")],
        ["_UID=0", f"OBJECT_UID={owner}", *each("OBJECT_SYSTEMD_USER_UNIT")],
        ["_UID=0", f"COREDUMP_UID={owner}", *each("COREDUMP_USER_UNIT")],
    ]
