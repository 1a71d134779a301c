"""What every registered notifier must do, against a real receiver."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from rollbackd import registry
from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.notify.base import Notifier
from tests.contract.notifiers import HARNESSES, SECRET, SECRET_VARIABLE, Receiver, build, message, receiving
from tests.support.clock import ManualClock
from tests.support.waiting import eventually


@pytest.fixture(params=registry.names("notifier"))
def name(request: pytest.FixtureRequest) -> str:
    found = str(request.param)
    assert found in HARNESSES, f"notifier `{found}` has no line in tests/contract/notifiers.py"
    return found


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture
async def notifier(name: str, receiver: Receiver) -> AsyncIterator[Notifier]:
    one = build(name, receiver.url, ManualClock())
    yield one
    await one.close()


async def refusal(notifier: Notifier) -> RollbackdError:
    with pytest.raises(RollbackdError) as caught:
        await notifier.send(message())
    return caught.value


def told(error: BaseException) -> str:
    """All that a log could show of an error."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_a_message_that_arrives_is_delivered_once(notifier: Notifier, receiver: Receiver, status: int) -> None:
    receiver.status = status
    await notifier.send(message())
    assert len(receiver.requests) == 1


async def test_a_message_carries_the_same_key_each_time(name: str, notifier: Notifier, receiver: Receiver) -> None:
    """So that a receiver can recognise a repeated delivery."""
    for key in ("one", "one", "two"):
        await notifier.send(message(key))
    key_of = HARNESSES[name].key_of
    assert [key_of(headers, body) for headers, body in receiver.requests] == ["one", "one", "two"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_what_may_pass_is_temporary(notifier: Notifier, receiver: Receiver, status: int) -> None:
    receiver.status = status
    assert isinstance(await refusal(notifier), Temporary)
    assert len(receiver.requests) == 1, "a notifier tries once; trying again is the outbox's"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 415, 422])
async def test_what_will_not_pass_is_permanent(notifier: Notifier, receiver: Receiver, status: int) -> None:
    receiver.status = status
    assert isinstance(await refusal(notifier), Permanent)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_message_does_not_follow_a_redirect(notifier: Notifier, receiver: Receiver, status: int) -> None:
    """It would carry credentials to where the operator did not send them."""
    receiver.status, receiver.headers = status, {"Location": f"{receiver.url}/elsewhere"}
    assert isinstance(await refusal(notifier), Permanent)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_the_receivers_own_wish_to_wait_is_passed_on(notifier: Notifier, receiver: Receiver, status: int) -> None:
    receiver.status, receiver.headers = status, {"Retry-After": "120"}
    error = await refusal(notifier)
    assert isinstance(error, Temporary)
    assert error.retry_after == 120


async def test_a_receiver_that_hangs_is_left_after_the_time_limit(name: str, receiver: Receiver) -> None:
    receiver.mood = "hang"
    impatient = build(name, receiver.url, ManualClock(), timeout="100ms")
    async with asyncio.timeout(30):
        error = await refusal(impatient)
    await impatient.close()
    assert isinstance(error, Temporary)
    assert SECRET not in told(error)


async def test_a_receiver_that_hangs_up_is_temporary(notifier: Notifier, receiver: Receiver) -> None:
    receiver.mood = "hang up"
    assert isinstance(await refusal(notifier), Temporary)


async def test_nobody_listening_is_temporary(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        notifier = build(name, f"http://127.0.0.1:{taken.getsockname()[1]}", ManualClock())
        assert isinstance(await refusal(notifier), Temporary)
        await notifier.close()


@pytest.mark.parametrize("status", [404, 503])
async def test_secrets_are_told_to_nobody(notifier: Notifier, receiver: Receiver, status: int) -> None:
    """Not even where the receiver's answer repeats them."""
    receiver.status, receiver.body = status, f"no such hook {SECRET}, token {SECRET}".encode()
    with capture_logs() as logs:
        error = await refusal(notifier)
    assert "no such hook" in str(error)
    assert SECRET not in told(error) + repr(logs) + repr(notifier)


async def test_secrets_are_not_told_when_no_answer_comes(notifier: Notifier, receiver: Receiver) -> None:
    receiver.mood = "hang up"
    assert SECRET not in told(await refusal(notifier))


async def test_a_huge_answer_makes_a_short_error(notifier: Notifier, receiver: Receiver) -> None:
    receiver.status, receiver.body = 500, b"\xff<html>\n" * 1_000_000
    error = await refusal(notifier)
    assert len(str(error)) < 500
    assert "\n" not in str(error)


async def test_a_secret_that_cannot_be_read_is_temporary(
    notifier: Notifier, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in the middle of being replaced; the message must not be lost over it."""
    monkeypatch.delenv(SECRET_VARIABLE)
    assert isinstance(await refusal(notifier), Temporary)
    assert receiver.requests == []


async def test_sending_can_be_cancelled(notifier: Notifier, receiver: Receiver) -> None:
    receiver.mood = "hang"
    sending = asyncio.create_task(notifier.send(message()))
    await eventually(lambda: receiver.requests)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_closing_twice_is_safe_before_and_after_use(name: str, receiver: Receiver) -> None:
    unused = build(name, receiver.url, ManualClock())
    await unused.close()
    await unused.close()
    used = build(name, receiver.url, ManualClock())
    await used.send(message())
    await used.close()
    await used.close()
