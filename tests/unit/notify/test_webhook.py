"""The JSON webhook: what is posted, how it is signed, and what its answers mean."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from pydantic import ValidationError

from rollbackd.errors import Permanent, Temporary
from rollbackd.notify import webhook
from rollbackd.notify.base import Message, Notifier, NotifierContext
from rollbackd.notify.webhook import ADAPTER, WebhookConfig, signature
from tests.contract.notifiers import T0, Receiver, message, receiving
from tests.support.clock import ManualClock


class Make(Protocol):
    def __call__(self, **settings: object) -> Notifier: ...


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture
async def make(receiver: Receiver) -> AsyncIterator[Make]:
    made: list[Notifier] = []

    def one(**settings: object) -> Notifier:
        config = WebhookConfig.model_validate({"url": f"{receiver.url}/hook", **settings})
        made.append(ADAPTER.build(config, NotifierContext(name="ops", clock=ManualClock(T0))))
        return made[-1]

    yield one
    for notifier in made:
        await notifier.close()


async def test_the_posted_shape(make: Make, receiver: Receiver) -> None:
    """It is a contract: receivers are written against it."""
    await make().send(message("k1"))
    ((headers, body),) = receiver.requests
    assert msgspec.json.decode(body) == {
        "version": 1,
        "key": "k1",
        "t": T0,
        "topic": "decision",
        "service": "checkout",
        "severity": "critical",
        "title": "checkout: 2.0 made it worse, rolling back to 1.0",
        "text": "Why: 12 % of requests fail\nMore: rollbackd show x",
        "details": {"to": "1.0"},
    }
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == "k1"
    assert headers["User-Agent"].startswith("rollbackd/")


async def test_a_key_of_any_letters_can_be_a_header(make: Make, receiver: Receiver) -> None:
    await make().send(message("kočár\r\nX-Evil: 1"))
    assert receiver.requests[0][0]["Idempotency-Key"] == "ko%C4%8D%C3%A1r%0D%0AX-Evil: 1"


async def test_the_signature_covers_time_and_body(make: Make, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame\n")
    await make(hmac={"file": str(tmp_path / "key")}).send(message())
    ((headers, body),) = receiver.requests
    stamp = headers["X-Rollbackd-Timestamp"]
    assert stamp == str(int(T0))
    expected = hmac.new(b"sesame", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Rollbackd-Signature"] == f"sha256={expected}"


def test_the_signature_is_that_of_other_tools() -> None:
    """printf '1700000000.{}' | openssl dgst -sha256 -hmac key"""
    assert signature("key", "1700000000", b"{}") == ("sha256=" + hmac.digest(b"key", b"1700000000.{}", "sha256").hex())


async def test_nothing_is_signed_without_a_key(make: Make, receiver: Receiver) -> None:
    await make().send(message())
    assert not [name for name in receiver.requests[0][0] if name.startswith("X-Rollbackd")]


async def test_credentials_are_sent_where_configured(
    make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "sesame")
    await make(bearer={"env": "TOKEN"}, headers={"X-Team": "ops", "X-Token": {"env": "TOKEN"}}).send(message())
    headers = receiver.requests[0][0]
    assert (headers["Authorization"], headers["X-Team"], headers["X-Token"]) == ("Bearer sesame", "ops", "sesame")


async def test_a_rotated_secret_is_used_at_once(make: Make, receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "token"
    notifier = make(bearer={"file": str(file)})
    for token in ("old", "new"):
        file.write_text(token)
        await notifier.send(message())
    assert [headers["Authorization"] for headers, _ in receiver.requests] == ["Bearer old", "Bearer new"]


async def test_the_url_itself_may_be_secret(make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", f"{receiver.url}/T000/B000/sesame-path?token=sesame-query")
    notifier = make(url={"env": "HOOK"})
    await notifier.send(message())
    receiver.status, receiver.body = 404, b"no such thing: /T000/B000/sesame-path, sesame-query"
    with pytest.raises(Permanent) as caught:
        await notifier.send(message())
    assert "sesame" not in str(caught.value)
    assert receiver.url in str(caught.value), "who it was is no secret"


async def test_user_and_password_in_the_url_are_used_and_not_told(make: Make, receiver: Receiver) -> None:
    receiver.status = 403
    with pytest.raises(Permanent) as caught:
        await make(url=receiver.url.replace("//", "//ops:sesame@")).send(message())
    assert receiver.requests[0][0]["Authorization"] == "Basic b3BzOnNlc2FtZQ=="
    assert "sesame" not in str(caught.value)


async def test_a_bearer_token_wins_over_the_urls_credentials(
    make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "sesame")
    await make(url=receiver.url.replace("//", "//ops:other@"), bearer={"env": "TOKEN"}).send(message())
    assert receiver.requests[0][0]["Authorization"] == "Bearer sesame"


@pytest.mark.parametrize("hook", ["not a url", "ftp://host/", "http://", "http://host:99999999/", "http://[::1"])
async def test_a_secret_that_is_no_url_is_permanent_and_not_told(
    make: Make, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    monkeypatch.setenv("HOOK", hook)
    with pytest.raises(Permanent) as caught:
        await make(url={"env": "HOOK"}).send(message())
    assert hook not in str(caught.value)


async def test_a_secret_with_a_line_break_cannot_smuggle_a_header(
    make: Make, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("sesame\r\nX-Evil: 1")
    with pytest.raises(Permanent) as caught:
        await make(bearer={"file": str(tmp_path / "token")}).send(message())
    assert "sesame" not in str(caught.value)
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("Sun, 23 Nov 2025 11:45:08 GMT", 60.0),  # T0 is 11:44:08.25
        ("Sun, 23 Nov 2025 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("99999999999999999999", None),
        ("Sun, 99 Nov 2025 11:00:00 GMT", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date(
    make: Make, receiver: Receiver, value: str, seconds: float | None
) -> None:
    receiver.status, receiver.headers = 503, {"Retry-After": value}
    with pytest.raises(Temporary) as caught:
        await make().send(message())
    assert caught.value.retry_after == (None if seconds is None else pytest.approx(seconds, abs=0.5))


def test_white_space_of_any_kind_may_stand_around_seconds() -> None:
    assert webhook._retry_after("\x1c7 ", 0.0) == 7.0


@pytest.mark.parametrize(
    ("settings", "severity", "sent"),
    [
        ({}, "info", True),
        ({"min_severity": "warning"}, "info", False),
        ({"min_severity": "warning"}, "warning", True),
        ({"min_severity": "critical"}, "warning", False),
        ({"topics": ["rollback"]}, "critical", False),
        ({"topics": ["rollback", "decision"]}, "critical", True),
        ({"topics": []}, "critical", False),
    ],
)
async def test_only_what_was_asked_for_is_sent(
    make: Make, receiver: Receiver, settings: dict[str, object], severity: str, sent: bool
) -> None:
    told = msgspec.convert(msgspec.structs.asdict(message()) | {"severity": severity}, Message)
    await make(**settings).send(told)
    assert bool(receiver.requests) == sent


async def test_a_receiver_that_does_not_speak_tls_is_temporary(make: Make, receiver: Receiver) -> None:
    with pytest.raises(Temporary, match="cannot connect"):
        await make(url=receiver.url.replace("http://", "https://")).send(message())


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "hooks.example.org/x"},
        {"url": "file:///etc/passwd"},
        {"headers": {"X Y": "1"}},
        {"headers": {"X": "1\r\nY: 2"}},
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"authorization": "x"}, "bearer": {"env": "T"}},
        {"bearer": "sesame"},
        {"timeout": "0s"},
        {"topics": ["weather"]},
        {"min_severity": "urgent"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WebhookConfig.model_validate({"url": "https://hooks.example.org/x", **settings})
