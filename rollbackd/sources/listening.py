"""Addresses that senders send to, and datagram sockets at them: UDP, and unix domain sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator
from yarl import URL

from rollbackd.errors import Temporary

BATCH = 200
"""Datagrams read in one go before everything else gets its turn."""

MAX_DATAGRAM = 65_536
"""No datagram of UDP is longer; of a longer one through a unix socket, the rest is lost."""

BUFFER_BYTES = 4 * 1024 * 1024
"""What the kernel is asked to hold for us while we are busy; it gives at most `net.core.rmem_max`."""

_SO_MEMINFO = 55
_DROPS = 8
"""Where `SO_MEMINFO` (linux/sock_diag.h) holds the datagrams that found the socket's buffer full, since Linux 4.12."""

Scheme: TypeAlias = Literal["udp", "tcp", "unix"]
Receive: TypeAlias = Callable[[bytes, str | None], None]
"""Takes one datagram, and the sender's IP address where it has one."""


class Unlistenable(Temporary):
    """An address cannot be listened on now."""


@dataclass(frozen=True)
class Address:
    """Where senders send to: a port of an IP address, or a path."""

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        if self.scheme == "unix":
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def address(text: str) -> Address:
    """Read `udp://IP:PORT`, `tcp://IP:PORT` or `unix:///PATH`. Raises ValueError where it is none of them."""
    wanted = "write udp://127.0.0.1:PORT, tcp://127.0.0.1:PORT or unix:///PATH"
    if text.startswith("unix://"):
        path = text.removeprefix("unix://")
        if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > 107:
            raise ValueError(f"`{text}` names no absolute path of at most 107 bytes: {wanted}")
        return Address("unix", path=path)
    try:
        url = URL(text)
        host, port = str(ipaddress.ip_address(url.host or "")), url.port
    except ValueError:
        raise ValueError(f"`{text}` is no address to listen on, with a numeric IP address: {wanted}") from None
    if port is None or url.raw_path not in ("", "/") or url.query_string:
        raise ValueError(f"`{text}` is no address to listen on: {wanted}")
    if url.scheme == "udp":
        return Address("udp", host, port)
    if url.scheme == "tcp":
        return Address("tcp", host, port)
    raise ValueError(f"`{text}` is no address to listen on: {wanted}")


def _readable(value: str) -> str:
    address(value)
    return value


ListenAddress = Annotated[str, AfterValidator(_readable)]


def listening(at: Address) -> socket.socket:
    """A socket bound to the address, and listening if it is for streams. Raises Unlistenable."""
    kind = socket.SOCK_STREAM if at.scheme == "tcp" else socket.SOCK_DGRAM
    made: socket.socket | None = None
    try:
        made = socket.socket(at.family, kind | socket.SOCK_CLOEXEC)
        made.setblocking(False)
        if at.scheme == "unix":
            _bind_path(made, at.path)
        else:
            if at.scheme == "tcp":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if at.family is socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((at.host, at.port))
        if at.scheme == "tcp":
            made.listen(128)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    except OSError as error:
        if made is not None:
            made.close()
        raise Unlistenable(f"cannot listen on {at}: {error.strerror or 'input/output error'}") from None
    return made


def _bind_path(made: socket.socket, path: str) -> None:
    """Bind, in the place of a socket that nobody holds any more. Who may send is for the folder to say."""
    try:
        made.bind(path)
    except OSError:
        if not _is_left_over(path):
            raise
        Path(path).unlink()
        made.bind(path)
    Path(path).chmod(0o666)


def _is_left_over(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
            caller.setblocking(False)
            caller.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


class Datagrams:
    """A socket that hands each datagram to `receive`, as soon as it comes."""

    def __init__(self, at: Address, receive: Receive) -> None:
        self._at, self._receive = at, receive
        self._socket: socket.socket | None = None
        self._id: tuple[int, int] | None = None
        self._lost_before = 0
        self.received = 0
        """Datagrams that were read."""

    def open(self) -> None:
        """Be there; a unix socket that was taken away meanwhile is made anew. Raises Unlistenable."""
        if self._socket is not None and self._id is not None and _identity(self._at.path) != self._id:
            self._release(self._socket)
        if self._socket is None:
            self._socket = listening(self._at)
            self._id = _identity(self._at.path) if self._at.scheme == "unix" else None
            asyncio.get_running_loop().add_reader(self._socket, self._read, self._socket)

    @property
    def lost(self) -> int:
        """Datagrams that came and found the kernel's buffer full, since the first `open`."""
        return self._lost_before + (_drops(self._socket) if self._socket is not None else 0)

    def close(self) -> None:
        """Be gone; `open` makes it anew."""
        if self._socket is not None:
            if self._id is not None and _identity(self._at.path) == self._id:
                Path(self._at.path).unlink()
            self._release(self._socket)

    def _release(self, held: socket.socket) -> None:
        self._lost_before += _drops(held)
        asyncio.get_running_loop().remove_reader(held)
        held.close()
        self._socket = None

    def _read(self, held: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, sender = held.recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an error of an earlier datagram, which the next call no longer tells
            self.received += 1
            self._receive(data, sender[0] if isinstance(sender, tuple) else None)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _drops(held: socket.socket) -> int:
    try:
        state = held.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
        return int(struct.unpack_from("=I", state, 4 * _DROPS)[0])
    except (OSError, struct.error):
        return 0
