"""Tells systemd how the daemon is: sd_notify(3) and sd_watchdog_enabled(3), which are one datagram each."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import structlog

PATIENCE_S = 1.0
"""How long a supervisor that does not read may hold us up."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.systemd")


class SystemdNotifier:
    """Sends states to `$NOTIFY_SOCKET`; says nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = _watchdog(environment)

    def send(self, state: str) -> None:
        """Send one state, such as `READY=1`. A supervisor that does not listen is no reason to fail."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(PATIENCE_S)
                connection.connect(self._address)
                connection.send(state.encode())
        except OSError as error:
            log.warning("systemd_not_told", state=state, error=error.strerror or str(error))


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """How often, in seconds, systemd wants to hear from us at least; None where it does not ask."""
    wanted_of = environment.get("WATCHDOG_PID", str(os.getpid()))
    microseconds = environment.get("WATCHDOG_USEC", "")
    if wanted_of != str(os.getpid()) or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6
