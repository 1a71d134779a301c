"""Source `journald`: what a unit, or any sender, writes to systemd's journal, followed by cursor through journalctl."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, TypeAlias

import msgspec
import structlog
from pydantic import AfterValidator, Field, model_validator

from rollbackd.adapter import Adapter
from rollbackd.fields import Size
from rollbackd.logs.rules import Rules
from rollbackd.logs.settings import LineSettings
from rollbackd.sources import journal_entry, journalctl
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.journal_entry import Entry, EntryReader
from rollbackd.sources.journalctl import Entries, NoJournal, NoSuchPlace, Run, Unreadable
from rollbackd.sources.keeping import Keeper
from rollbackd.sources.records import Folding, Record, Teller

TICK_S = 0.5
"""A record is over when nothing was added to it between two ticks."""

QUIET_S = 60.0
"""A journalctl that gave nothing for so long is exchanged for a fresh one. It may have become deaf (its folder was
deleted and made anew, it hangs); and only a fresh one shows that the journal may still be read."""

RETRY_S = 2.0

_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}")
_SUFFIX = re.compile(r"\.(service|socket|mount|automount|swap|target|path|timer|slice|scope|device)$")
_FIELD = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_MACHINE = re.compile(r"[0-9a-f]{32}")

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources")


def _unit(value: str) -> str:
    if not _UNIT.fullmatch(value):
        raise ValueError(
            f"`{value}` is no name of a unit, and patterns are not looked for: name each unit, or its slice in `match`"
        )
    return value if _SUFFIX.search(value) else f"{value}.service"


def _plain(value: str) -> str:
    if "\0" in value or "\n" in value:
        raise ValueError("this holds a line break or NUL")
    return value


def _field(value: str) -> str:
    if not _FIELD.fullmatch(value):
        raise ValueError(f"`{value}` is no field of the journal: they are written like _SYSTEMD_SLICE")
    return value


UnitName: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_unit)]
Words: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_plain)]
FieldName: TypeAlias = Annotated[str, AfterValidator(_field)]


class JournaldConfig(LineSettings):
    """Entries of systemd's journal: those of a unit, of an identifier, or with certain fields."""

    unit: UnitName | Annotated[tuple[UnitName, ...], Field(min_length=1)] | None = None
    """The service's unit, such as `checkout.service`, or several; what systemd says about it is read too."""
    identifier: Words | Annotated[tuple[Words, ...], Field(min_length=1)] | None = None
    """The name under which it logs (SYSLOG_IDENTIFIER), or several."""
    match: dict[FieldName, Words | Annotated[tuple[Words, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Fields that an entry must have, each with its value or several, such as `{CONTAINER_NAME: checkout}`."""
    user: Words | None = None
    """The user whose units are meant, by name or number; without it they are the system's."""
    directory: Path | None = None
    """The folder of the journal, where it is not this machine's own."""
    version_field: str | None = None
    """The field that names the release: of JSON or logfmt messages, or of the journal."""
    max_line: Annotated[Size, Field(ge=256, le=128 * 1024)] = 64 * 1024
    """Longer messages are cut, and counted as `line_too_long`."""
    program: Words = "journalctl"
    """The program that reads the journal."""

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if not (self.unit or self.identifier or self.match):
            raise ValueError("say what to read: `unit`, `identifier` or `match`")
        if self.user is not None and self.unit is None:
            raise ValueError("`user` says whose `unit` is meant: name one")
        return self


class Place(msgspec.Struct, frozen=True):
    """Where reading goes on: after the entry at `cursor`, or with it; without a cursor, at the beginning of all."""

    cursor: str | None = None
    included: bool = False


@dataclass(frozen=True)
class _Wanted:
    """Which journal to read, and what of it. `own_alone`: no more than the daemon's own user has logged."""

    options: list[str]
    matches: list[str]
    own_alone: bool


class Journald:
    """Follows one part of the journal. The place in it outlasts a run that crashed, and the daemon."""

    def __init__(self, config: JournaldConfig, context: SourceContext) -> None:
        self._config, self._context, self._clock = config, context, context.clock
        self._keeper = Keeper(Place, context.state_dir, context.clock)
        self._place: Place | None = None

    async def run(self, sink: Sink) -> None:
        with closing(self._keeper):
            if self._place is None:
                self._place = await self._keeper.load()
            teller = Teller(self._context, sink)
            while True:
                try:
                    wanted = await asyncio.to_thread(self._wanted)
                    place = await self._begin(wanted, sink)
                    sink.up()
                    await self._follow(wanted, place, sink, teller)
                except Unreadable as error:
                    sink.down(str(error))
                    await self._clock.sleep(RETRY_S)

    def _wanted(self) -> _Wanted:
        """What to ask journalctl for. Raises Unreadable."""
        config = self._config
        options = ["--merge"]  # without it, a follower reads but the current boot
        fields = {name: _several(value) for name, value in config.match.items()}
        if config.directory is not None:
            options.append(f"--directory={config.directory}")
        elif (machine := _machine()) is not None:
            fields.setdefault("_MACHINE_ID", (machine,))  # `merge` would add other machines' journals that lie here
        owner = _uid(config.user) if config.user is not None else None
        terms = journal_entry.about(_several(config.unit), _several(config.identifier), fields, owner)
        matches: list[str] = []
        for term in terms:
            matches += [*(["+"] if matches else []), *term]
        return _Wanted(options, matches, own_alone=owner == os.geteuid())

    async def _begin(self, wanted: _Wanted, sink: Sink) -> Place:
        """Where to follow from: now at the very first time, then where reading ended. Raises Unreadable."""
        place = self._place
        try:
            if place is not None:
                place = await self._found_again(wanted, place, sink)
            if place is None:
                place = Place(await self._ask(wanted))
        except NoJournal:
            self._place = place or Place()  # whatever will be there is new
            raise
        self._place = place
        return place

    async def _found_again(self, wanted: _Wanted, place: Place, sink: Sink) -> Place | None:
        """The place, or the oldest one left after it; None where there is nothing after it. Raises Unreadable."""
        if place.cursor is None:
            await self._ask(wanted)
            return place
        try:
            found = await self._ask(wanted, f"--cursor={place.cursor}")
        except NoSuchPlace:
            found = None
        if found == place.cursor:
            return place
        log.warning("journal_vacuumed", service=self._context.service)
        sink.dropped("journal_vacuumed")
        return Place(found, included=True) if found is not None else None

    async def _ask(self, wanted: _Wanted, *where: str) -> str | None:
        """The cursor of the entry there, or of the first one after it; or of the newest. Raises Unreadable."""
        return await journalctl.cursor(self._config.program, [*wanted.options, *where], own_alone=wanted.own_alone)

    async def _follow(self, wanted: _Wanted, place: Place, sink: Sink, teller: Teller) -> None:
        """Read until journalctl ends, or was quiet for long. Raises Unreadable."""
        fields = list(journal_entry.FIELDS)
        if self._config.version_field is not None and _FIELD.fullmatch(self._config.version_field):
            fields.append(self._config.version_field)
        form = ("--output=json", "--all", f"--output-fields={','.join(fields)}", "--no-pager", "--follow", "--no-tail")
        where = [f"--cursor={place.cursor}"] if place.cursor is not None else []
        arguments = [*form, *wanted.options, *where, *wanted.matches]
        async with journalctl.started(self._config.program, arguments) as run:
            following = _Following(self._config, place, self._clock.monotonic(), sink, teller)
            try:
                async with asyncio.TaskGroup() as group:
                    ticking = group.create_task(self._tick(following, run))
                    while data := await run.read():
                        following.heard_at = self._clock.monotonic()
                        sink.up()
                        async with following.lock:
                            await following.take(data)
                        await asyncio.sleep(0)  # a long backlog leaves turns to others
                    ticking.cancel()
            finally:
                self._place = following.place
                await self._keeper.keep_now(self._place)
            fault = await run.fault()
            if not following.quiet:
                raise fault or Unreadable("journalctl ended by itself")

    async def _tick(self, following: _Following, run: Run) -> None:
        while not following.quiet:
            await self._clock.sleep(TICK_S)
            async with following.lock:
                await following.settle()
            await self._keeper.keep(following.place)
            if self._clock.monotonic() - following.heard_at >= QUIET_S:
                following.quiet = True
                run.kill()


class _Following:
    """What was read in one run of journalctl, and is not over yet."""

    def __init__(self, config: JournaldConfig, place: Place, now: float, sink: Sink, teller: Teller) -> None:
        self.lock = asyncio.Lock()
        self.place, self.heard_at, self.quiet = place, now, False
        self._config, self._sink, self._teller = config, sink, teller
        self._entries = Entries()
        self._reader = EntryReader(config.format, config.version_field, Rules(config.rules) if config.rules else None)
        self._folding = Folding(self._reader, config.max_line, place)

    async def take(self, data: bytes) -> None:
        """Read what journalctl printed."""
        raws = self._entries.feed(data)
        if self._entries.left_out:
            self._sink.dropped("entry_too_long", self._entries.left_out)
            self._entries.left_out = 0
        for raw in raws:
            entry = journal_entry.read(raw, self._config.version_field)
            if entry is None:
                self._sink.dropped("not_an_entry")
            elif self.place.included or entry.cursor != self.place.cursor:
                await self._tell(self._records(entry))

    async def settle(self) -> None:
        """Tell what nothing was added to lately."""
        await self._tell(self._folding.settle())

    def _records(self, entry: Entry) -> list[Record]:
        place = Place(entry.cursor)
        message = entry.message.rstrip("\n")
        if entry.suppressed:
            self._sink.dropped("rate_limited", entry.suppressed)
        if entry.suppressed or not message.strip():
            self._folding.pass_by(place)
            return []
        if len(message) > self._config.max_line:
            self._sink.dropped("line_too_long")
            message = message[: self._config.max_line]
        self._reader.entry = entry
        if "\n" in message:
            return self._folding.put(entry.process, self._reader.whole(message), entry.at, place)
        return self._folding.take(entry.process, message, entry.at, place)

    async def _tell(self, records: list[Record]) -> None:
        for record in records:
            await self._teller.tell(record)
        self.place = self._folding.place


def _several(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


def _uid(user: str) -> int:
    """Raises Unreadable where there is no such user."""
    if user.isascii() and user.isdigit() and len(user) < 11:
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):
        raise Unreadable(f"there is no user {user} on this machine: name the user by number") from None


def _machine() -> str | None:
    """This machine's id (machine-id(5)); None where it has none."""
    try:
        found = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return found if _MACHINE.fullmatch(found) else None


def build(config: JournaldConfig, context: SourceContext) -> Source:
    """Make the source; no program is started before it runs."""
    return Journald(config, context)


ADAPTER = Adapter(config=JournaldConfig, build=build, shorthand="unit")
