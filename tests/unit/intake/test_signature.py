"""Credentials in senders' own forms."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from rollbackd.errors import Temporary
from rollbackd.fields import Secret
from rollbackd.intake.base import Rejected
from rollbackd.intake.signature import REPLAY_WINDOW_S, SecretHeader, SignedBody
from tests.support.deliveries import NOW, delivery


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    (tmp_path / "secret").write_text("k3y\n")
    return Secret(file=tmp_path / "secret")


def signed(text: bytes) -> str:
    return hmac.new(b"k3y", text, hashlib.sha256).hexdigest()


def stamped(secret: Secret, *, needed: bool = False) -> SignedBody:
    return SignedBody("x", secret, "x-sign", timestamp_header="x-time", timestamp_needed=needed)


async def test_a_body_with_its_moment_is_verified(secret: Secret) -> None:
    moment = str(int(NOW))
    sent = delivery(b"body", x_sign=signed(f"{moment}:body".encode()), x_time=moment)
    assert await stamped(secret).verify(sent) == "x"


@pytest.mark.parametrize("off", [-REPLAY_WINDOW_S - 1, REPLAY_WINDOW_S + 1])
async def test_a_moment_outside_the_window_is_refused_though_it_is_signed(secret: Secret, off: float) -> None:
    moment = str(int(NOW + off))
    sent = delivery(b"body", x_sign=signed(f"{moment}:body".encode()), x_time=moment)
    with pytest.raises(Rejected, match="recorded") as refused:
        await stamped(secret).verify(sent)
    assert (refused.value.status, refused.value.code) == (401, "wrong_signature")


async def test_a_moment_taken_away_does_not_open_the_window(secret: Secret) -> None:
    """A recorded delivery without its moment would need a signature over the body alone: its sender made none."""
    moment = str(int(NOW) - 10_000)
    recorded = signed(f"{moment}:body".encode())
    with pytest.raises(Rejected):
        await stamped(secret).verify(delivery(b"body", x_sign=recorded))
    with pytest.raises(Rejected, match="missing"):
        await stamped(secret, needed=True).verify(delivery(b"body", x_sign=signed(b"body")))


@pytest.mark.parametrize("moment", ["soon", "-5", "1e9", "９", "1" * 13])
async def test_what_is_no_moment_is_refused(secret: Secret, moment: str) -> None:
    with pytest.raises(Rejected, match="Unix seconds"):
        await stamped(secret).verify(delivery(b"body", x_sign="00", x_time=moment))


@pytest.mark.parametrize("given", ["", "00", "sha256=", "ü" * 32, signed(b"other")])
async def test_a_wrong_signature_is_refused_and_not_told(secret: Secret, given: str) -> None:
    with pytest.raises(Rejected) as refused:
        await SignedBody("x", secret, "x-sign").verify(delivery(b"body", x_sign=given))
    assert signed(b"body") not in str(refused.value)


async def test_a_secret_that_changed_counts_at_once(secret: Secret) -> None:
    one = SecretHeader("x", secret, "x-token", prefix="Token ")
    assert await one.verify(delivery(b"", x_token="Token k3y")) == "x"
    assert secret.file is not None
    secret.file.write_text("n3w")
    with pytest.raises(Rejected):
        await one.verify(delivery(b"", x_token="Token k3y"))
    assert await one.verify(delivery(b"", x_token="Token n3w")) == "x"


async def test_a_secret_that_cannot_be_read_is_our_fault_and_the_sender_shall_come_again(secret: Secret) -> None:
    assert secret.file is not None
    secret.file.unlink()
    with pytest.raises(Temporary):
        await SecretHeader("x", secret, "x-token").verify(delivery(b"", x_token=""))
