"""What systemd hears, and that nobody who does not listen can hold the daemon up."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rollbackd.sdnotify import SystemdNotifier


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """A supervisor's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_a_state_is_one_datagram(ear: socket.socket) -> None:
    SystemdNotifier({"NOTIFY_SOCKET": ear.getsockname()}).send("READY=1\nSTATUS=well")
    assert ear.recv(100) == b"READY=1\nSTATUS=well"


def test_an_address_with_an_at_sign_is_in_the_abstract_name_space() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0rollbackd-test-{os.getpid()}")
        listening.settimeout(5)
        SystemdNotifier({"NOTIFY_SOCKET": f"@rollbackd-test-{os.getpid()}"}).send("READY=1")
        assert listening.recv(100) == b"READY=1"


def test_without_a_supervisor_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    SystemdNotifier({}).send("READY=1")
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).send("READY=1")


def test_a_supervisor_that_does_not_read_holds_nobody_up_for_long(ear: socket.socket) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": ear.getsockname()})
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", ear.getsockname())
        notifier.send("WATCHDOG=1")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_the_watchdog_is_served_where_systemd_asks_this_very_process(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert SystemdNotifier(environment).watchdog_s == seconds
