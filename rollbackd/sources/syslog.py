"""Source `syslog`: lines that programs send by the syslog protocol, over UDP, TCP, TLS or a unix socket."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from rollbackd.adapter import Adapter
from rollbackd.fields import Size
from rollbackd.logs.formats import MAX_VERSION, Folder, Line
from rollbackd.logs.levels import level_of
from rollbackd.logs.settings import LineSettings
from rollbackd.logs.syslog import Message
from rollbackd.model import MAX_BACKWARDS_S, Log
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.listening import ListenAddress, Unlistenable, address
from rollbackd.sources.schedule import Schedule
from rollbackd.sources.syslog_port import MAX_MESSAGE, Mailbox, ServerTls, let_go, shared

POLL_S = 0.5
"""How often what came is passed on; a stack trace whose next line takes longer is over."""

MAX_PROCESSES = 64
"""Senders of one service whose stack traces are put together side by side; with more, the oldest is over."""

YIELD_EVERY = 200
"""Lines passed on before everything else gets its turn."""


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])]
Listen = Annotated[
    tuple[ListenAddress, ...],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]),
]


class SyslogConfig(LineSettings):
    """Lines that come by the syslog protocol."""

    listen: Listen = ("udp://127.0.0.1:5514", "tcp://127.0.0.1:5514")
    """Where they are sent to: `udp://IP:PORT`, `tcp://IP:PORT`, `unix:///PATH`, or a list. Services may share one."""
    app_name: Patterns | None = None
    """The app-name (tag) of this service's lines, or several, with `*` for any text; left out, the service's name."""
    host: Patterns = ()
    """The hosts they come from, with `*` for any text; left out, any. What names none has its sender's address."""
    max_line: Annotated[Size, Field(ge=256, le=MAX_MESSAGE)] = MAX_MESSAGE
    """Longer messages are cut, and counted as `line_too_long`."""
    tls: ServerTls | None = None
    """Makes the `tcp://` addresses speak TLS."""

    @model_validator(mode="after")
    def _tls_over_tcp(self) -> Self:
        if self.tls is not None and not any(one.startswith("tcp:") for one in self.listen):
            raise ValueError("`tls` is for `tcp://` addresses, and `listen` has none")
        return self


class Records:
    """Makes records of one service's messages: a stack trace sent line by line is one."""

    def __init__(self, config: SyslogConfig) -> None:
        self._reader = config.reader()
        self._version_field, self._max_line = config.version_field, config.max_line
        self._open: OrderedDict[tuple[str | None, ...], _Process] = OrderedDict()

    def take(self, message: Message) -> list[Line]:
        """The records that are over now."""
        over: list[Line | None] = []
        sender = (message.host, message.app, message.process)
        process = self._open.get(sender)
        if process is None:
            if len(self._open) >= MAX_PROCESSES:
                over.append(self._open.popitem(last=False)[1].end())
            process = self._open[sender] = _Process(Folder(self._reader, self._max_line))
        version = message.value(self._version_field) if self._version_field and message.data else None
        over.append(process.take(message, version))
        return [line for line in over if line is not None]

    def settle(self) -> list[Line]:
        """The records to which nothing was added since this was last asked."""
        still = [sender for sender, process in self._open.items() if not process.grew]
        over = [self._open.pop(sender).end() for sender in still]
        for process in self._open.values():
            process.grew = False
        return [line for line in over if line is not None]


class _Process:
    """One sending process, and the record of it that may still grow."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._version: str | None = None
        self.grew = True

    def take(self, message: Message, version: str | None) -> Line | None:
        self.grew = True
        over = self._versioned(self._folder.take(message.text, level_of(message.severity)))
        self._version = version
        return over

    def end(self) -> Line | None:
        return self._versioned(self._folder.flush())

    def _versioned(self, line: Line | None) -> Line | None:
        if line is None or line.version is not None or not self._version:
            return line
        return Line(line.level, line.message, self._version[:MAX_VERSION])


class Syslog:
    """Passes on what the ports it reads put into its mailbox."""

    def __init__(self, config: SyslogConfig, context: SourceContext) -> None:
        self._config, self._service, self._clock = config, context.service, context.clock
        self._commons = context.commons
        addresses = [address(one) for one in config.listen]
        self._places = [(at, config.tls if at.scheme == "tcp" else None) for at in dict.fromkeys(addresses)]

    async def run(self, sink: Sink) -> None:
        config = self._config
        mailbox = Mailbox(config.app_name or (self._service,), config.host)
        records = Records(config)
        schedule = Schedule(self._clock, POLL_S)
        for at, tls in self._places:
            shared(self._commons, at, tls).join(mailbox)
        try:
            while True:
                await schedule.tick()
                await self._open(sink)
                await self._pass_on(mailbox, records, sink)
        finally:
            for at, tls in self._places:
                let_go(self._commons, at, tls, mailbox)

    async def _open(self, sink: Sink) -> None:
        faults = []
        for at, tls in self._places:
            try:
                await shared(self._commons, at, tls).open()
            except Unlistenable as error:
                faults.append(str(error))
        if faults:
            sink.down(faults[0])
        else:
            sink.up()

    async def _pass_on(self, mailbox: Mailbox, records: Records, sink: Sink) -> None:
        passed = 0
        while (message := mailbox.take()) is not None:
            if message.stamp is not None and message.stamp < self._clock.now() - MAX_BACKWARDS_S:
                mailbox.drops["too_old"] += 1
            elif len(message.text) > self._config.max_line:
                mailbox.drops["line_too_long"] += 1
                await self._emit(records.take(message._replace(text=message.text[: self._config.max_line])), sink)
            else:
                await self._emit(records.take(message), sink)
            passed += 1
            if passed % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        await self._emit(records.settle(), sink)
        for reason, count in mailbox.drops.items():
            sink.dropped(reason, count)
        mailbox.drops.clear()

    async def _emit(self, lines: list[Line], sink: Sink) -> None:
        for line in lines:
            now = self._clock.now()
            await sink.emit(
                Log(t=now, service=self._service, version=line.version, level=line.level, message=line.message)
            )


def build(config: SyslogConfig, context: SourceContext) -> Source:
    """Make the source; nothing is opened before it runs."""
    return Syslog(config, context)


ADAPTER = Adapter(config=SyslogConfig, build=build, shorthand="listen")
