"""The commands' client: addresses, tokens, refusals, and daemons that are not there."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollbackd.cli.client import Client, decode
from rollbackd.cli.command import Unreachable
from rollbackd.web.views import ErrorView
from tests.unit.cli.conftest import TOKEN, Daemon, Terminal


def test_no_daemon_is_exit_code_3_and_says_how_to_start_one(terminal: Terminal) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        assert terminal.run("status", "--url", f"http://127.0.0.1:{taken.getsockname()[1]}") == 3
    assert terminal.err.startswith("rollbackd: no daemon listens at http://127.0.0.1:")
    assert "rollbackd run -c FILE" in terminal.err
    assert len(terminal.err.splitlines()) == 1


def test_a_daemon_that_does_not_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        with pytest.raises(Unreachable, match=r"did not answer within 0\.05 s"):
            client.get("status")


def test_a_wish_without_a_token_is_refused_with_the_cure(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROLLBACKD_TOKEN")
    assert terminal.run("pause", "--reason", "migration") == 1
    assert "--token-file" in terminal.err
    assert "`auth.tokens`" in terminal.err
    assert "docs/api.md#credentials" in terminal.err
    assert daemon.backend.paused is None


def test_the_token_may_be_in_a_file(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ROLLBACKD_TOKEN")
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    assert terminal.run("pause", "--reason", "migration", "--token-file", str(file)) == 0
    assert daemon.backend.paused is not None
    assert daemon.backend.paused.actor == "alice"


@pytest.mark.parametrize("content", ["", "two tokens", "line\nline", "ünï", None])
def test_a_bad_token_file_is_wrong_usage(
    daemon: Daemon, terminal: Terminal, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    assert terminal.run("status", "--token-file", str(file)) == 2
    assert str(file) in terminal.err


def test_a_wrong_token_is_not_repeated(daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLBACKD_TOKEN", "some-wrong-token")
    assert terminal.run("status") == 1
    assert "some-wrong-token" not in terminal.err + terminal.out


@pytest.mark.parametrize(
    "url", ["localhost:x", "ftp://x", "http://", "http://[", "http://h:x", "http://me:secret@h", "me:secret@h"]
)
def test_a_bad_address_is_wrong_usage(terminal: Terminal, url: str) -> None:
    assert terminal.run("status", "--url", url) == 2
    assert "secret" not in terminal.err


class _Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"hello": "world"}).encode() if "status" in self.path else b"<html>"
        self.send_response(200 if "status" in self.path else 502)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class named it
        """Say nothing."""


@pytest.fixture
def stranger() -> Iterator[str]:
    """A server that speaks HTTP and is no daemon of ours."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_an_address_without_its_scheme_is_plain_http(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("status", "--url", daemon.url.removeprefix("http://")) == 0
    assert daemon.url in terminal.out


@pytest.mark.parametrize(("command", "code"), [("status", 3), ("history", 1)])
def test_a_stranger_at_the_address_is_told_apart(terminal: Terminal, stranger: str, command: str, code: int) -> None:
    assert terminal.run(command, "--url", stranger) == code
    assert len(terminal.err.splitlines()) == 1


@pytest.mark.parametrize("answer", [b'{"error":"\xff"}', b'{"a":' + b"[" * 5000, b"<html>"])
def test_an_answer_of_any_bytes_is_told_apart(answer: bytes) -> None:
    with pytest.raises(Unreachable, match="not what rollbackd"):
        decode(answer, ErrorView)
    assert "is it the right address?" in Client()._refusal(502, answer)
