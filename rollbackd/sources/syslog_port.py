"""A port that syslog is sent to, opened once for all services that read it; each line goes to whose it is at once."""

from __future__ import annotations

import asyncio
import fnmatch
import re
import socket
import ssl
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

import structlog

from rollbackd.fields import Model
from rollbackd.logs.framing import Frame, Frames, Unframed
from rollbackd.logs.syslog import Message, parse
from rollbackd.sources.base import Commons
from rollbackd.sources.listening import Address, Datagrams, Unlistenable, listening

MAX_MESSAGE = 64 * 1024
"""Bytes of a message that are read."""

MAX_CONNECTIONS = 256
"""A port holds as many connections, each with at most one unfinished message."""

HANDSHAKE_S = 10.0

BACKLOG_LINES = 10_000
BACKLOG_BYTES = 8 * 1024 * 1024
"""What waits for one service while its queue is full; beyond it, lines are dropped and counted.

Making the sender wait instead would make the service wait: programs block in syslog(3) when their log does.
"""

REMEMBERED_SENDERS = 4096
NAMED_STRANGERS = 10
"""Senders that nobody claims which are named in our log, a port."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources.syslog")


class ServerTls(Model):
    """The certificate that TCP senders are shown."""

    cert_file: Path
    """Our certificate and those it rests on, as a PEM file."""
    key_file: Path
    """Its key, as a PEM file without password."""
    ca_file: Path | None = None
    """Senders must show a certificate of one of these authorities; left out, anybody may send."""

    def context(self) -> ssl.SSLContext:
        """Raises OSError, of which ssl.SSLError is one."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca_file)
        context.load_cert_chain(self.cert_file, self.key_file)
        if self.ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Mailbox:
    """What came for one service and was not yet passed on. Names may hold `*`; without hosts, any host will do."""

    def __init__(self, apps: Sequence[str], hosts: Sequence[str]) -> None:
        self.drops: Counter[str] = Counter()
        """What could not be used since the owner last emptied it, by reason."""
        self._apps, self._hosts = _names(apps), _names(hosts)
        self._any_app, self._any_host = "*" in apps, not hosts
        self._waiting: deque[Message] = deque()
        self._bytes = 0

    def claims(self, app: str | None, host: str | None) -> bool:
        """Whether the lines of this sender are the service's."""
        if not self._any_app and (app is None or not self._apps.fullmatch(app)):
            return False
        return self._any_host or (host is not None and self._hosts.fullmatch(host) is not None)

    def put(self, message: Message) -> None:
        if len(self._waiting) >= BACKLOG_LINES or self._bytes >= BACKLOG_BYTES:
            self.drops["backlog_full"] += 1
            return
        self._waiting.append(message)
        self._bytes += len(message.text)

    def take(self) -> Message | None:
        """The oldest message that waits."""
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        self._bytes -= len(message.text)
        return message


def _names(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern.replace("[", "[[]")) for pattern in patterns) or "(?!)")


class Port:
    """One address. It is open from the first mailbox that joins to the last one that leaves."""

    def __init__(self, at: Address, tls: ServerTls | None) -> None:
        self._at, self._tls = at, tls
        self._mailboxes: list[Mailbox] = []
        self._routes: dict[tuple[str | None, str | None], list[Mailbox]] = {}
        self._strangers: set[str | None] = set()
        self._datagrams = Datagrams(at, self._receive) if at.scheme != "tcp" else None
        self._lost = 0
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()
        self.connections: set[Connection] = set()

    # -- who reads

    def join(self, mailbox: Mailbox) -> None:
        self._mailboxes.append(mailbox)
        self._routes.clear()

    def leave(self, mailbox: Mailbox) -> bool:
        """Whether it was the last one, with which the port is closed."""
        self._mailboxes.remove(mailbox)
        self._routes.clear()
        if self._mailboxes:
            return False
        if self._datagrams is not None:
            self._datagrams.close()
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in [*self.connections]:
            connection.abort()
        return True

    async def open(self) -> None:
        """Be open, and count what the kernel had no room for. Raises Unlistenable."""
        if self._datagrams is not None:
            self._datagrams.open()
            lost, self._lost = self._datagrams.lost - self._lost, self._datagrams.lost
            self.drop("receive_buffer_full", lost)
            return
        async with self._opening:
            if self._server is None:
                await self._serve()

    async def _serve(self) -> None:
        try:
            trust = self._tls.context() if self._tls is not None else None
        except OSError as error:
            reason = "they do not fit or are no PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise Unlistenable(f"cannot listen on {self._at}: cannot use the files of `tls`: {reason}") from None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self),
            sock=listening(self._at),
            ssl=trust,
            ssl_handshake_timeout=HANDSHAKE_S if trust is not None else None,
            start_serving=False,  # so that nothing is awaited before the server is ours to close
        )
        await self._server.start_serving()

    # -- what comes in

    def take(self, frame: Frame, sender: str | None) -> None:
        """Give a message to those whose it is."""
        message = parse(frame.data)
        if message is None:
            self.drop("malformed")
            return
        sent_by = (message.app, message.host or sender)
        claimed = self._routes.get(sent_by)
        if claimed is None:
            claimed = self._route(*sent_by)
        for mailbox in claimed:
            if frame.cut:
                mailbox.drops["line_too_long"] += 1
            mailbox.put(message)
        if not claimed:
            self.drop("other_sender")

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what cannot be said to be anybody's: for each of the services, since it may have been its own."""
        if count:
            for mailbox in self._mailboxes:
                mailbox.drops[reason] += count

    def _receive(self, data: bytes, sender: str | None) -> None:
        self.take(Frame(data[:MAX_MESSAGE], len(data) > MAX_MESSAGE), sender)

    def _route(self, app: str | None, host: str | None) -> list[Mailbox]:
        claimed = [mailbox for mailbox in self._mailboxes if mailbox.claims(app, host)]
        if len(self._routes) >= REMEMBERED_SENDERS:
            self._routes.clear()
        self._routes[app, host] = claimed
        if not claimed and app not in self._strangers and len(self._strangers) < NAMED_STRANGERS:
            self._strangers.add(app)
            log.info("syslog_not_claimed", listen=str(self._at), app_name=app, host=host)
        return claimed


class Connection(asyncio.Protocol):
    """One TCP sender. An idle one is left alone, since rsyslog loses a message when its connection was closed."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._frames = Frames(MAX_MESSAGE)
        self._transport: asyncio.Transport | None = None
        self._sender: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  a stream's
        self._transport = transport
        if len(self._port.connections) >= MAX_CONNECTIONS:
            self._port.drop("too_many_connections")
            transport.abort()
            return
        self._port.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._sender = str(peer[0]) if peer else None
        held = transport.get_extra_info("socket")
        if held is not None:  # so that a sender which vanished without a word does not take a place for ever
            held.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            held.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._port.take(frame, self._sender)
        except Unframed:
            self._port.drop("malformed")
            self.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        for frame in self._frames.flush():
            self._port.take(frame, self._sender)
        self._port.connections.discard(self)

    def abort(self) -> None:
        """Be gone at once."""
        self._port.connections.discard(self)
        if self._transport is not None:
            self._transport.abort()


def shared(commons: Commons, at: Address, tls: ServerTls | None) -> Port:
    """The daemon's one port at that address."""
    return commons.get(("syslog", at, tls), Port, lambda: Port(at, tls))


def let_go(commons: Commons, at: Address, tls: ServerTls | None, mailbox: Mailbox) -> None:
    """Read that port no more; the last one closes it."""
    if shared(commons, at, tls).leave(mailbox):
        commons.forget(("syslog", at, tls))
