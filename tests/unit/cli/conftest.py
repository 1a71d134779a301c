"""A daemon's real HTTP application over a backend in memory, for commands that are run as they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from rollbackd.aiokit import SystemClock
from rollbackd.cli.main import main
from rollbackd.intake.desk import Desk
from rollbackd.web.app import build_app
from rollbackd.web.auth import Authenticator, Token
from tests.support.backend import FakeBackend

TOKEN = "correct-horse-battery-staple-0123456789"


class Daemon:
    """The application at `url`; its loop runs in a thread because commands block."""

    def __init__(self) -> None:
        self.backend = FakeBackend()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner, self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> tuple[web.AppRunner, str]:
        tokens = [Token("alice", lambda: TOKEN, frozenset({"operate"}))]
        app = build_app(self.backend, Desk({}), Authenticator(tokens), CollectorRegistry(), clock=SystemClock())
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that ROLLBACKD_URL points to; whoever has the token of ROLLBACKD_TOKEN may operate it."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    running = Daemon()
    monkeypatch.setenv("ROLLBACKD_URL", running.url)
    monkeypatch.setenv("ROLLBACKD_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "120")
    with capture_logs():  # they would go to the standard output that the commands print on
        yield running
    running.close()


class Terminal:
    """Runs commands; `out` and `err` hold what the last one printed."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.out = self.err = ""

    def run(self, *arguments: str) -> int:
        """The exit code, however the command ended."""
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        self.out, self.err = self._capture.readouterr()
        return code


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)
