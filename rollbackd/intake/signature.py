"""Credentials in senders' own forms: bodies signed with a shared secret, and secrets in headers of the sender's choice.

Both compare in constant time, and read the secret at each use, so that one that was rotated counts at once.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from rollbackd.errors import RollbackdError, Temporary
from rollbackd.fields import Model, Secret
from rollbackd.intake.base import Delivery, Rejected

REPLAY_WINDOW_S = 300.0
"""How far a signed moment may lie from ours, in seconds: what is older may be a delivery that somebody recorded."""

HeaderName: TypeAlias = Annotated[str, Field(pattern=r"^[0-9A-Za-z!#$%&'*+.^_`|~-]{1,100}$")]
"""The name of a header, as operators write it."""


def _refused(message: str) -> Rejected:
    return Rejected(message, status=401, code="wrong_signature")


def _value(secret: Secret) -> bytes:
    """Raises Temporary where it cannot be read: the sender is not to blame, and should come again."""
    try:
        return secret.reveal().encode()
    except (RollbackdError, OSError, ValueError):
        raise Temporary("the secret of this path cannot be read: `rollbackd check` says why") from None


@dataclass(frozen=True)
class SignedBody:
    """HMAC of the raw body in `header`, as hexadecimal digits behind `prefix`.

    With a `timestamp_header` the digest is over `TIMESTAMP` + `joint` + body where the request has that header, and the
    moment (Unix seconds) must lie within `window_s` of ours.
    """

    name: str
    secret: Secret
    header: str
    prefix: str = ""
    digest: Literal["sha256", "sha512"] = "sha256"
    timestamp_header: str | None = None
    joint: str = ":"
    window_s: float = REPLAY_WINDOW_S
    timestamp_needed: bool = False

    @property
    def headers(self) -> Sequence[str]:
        return [self.header, *([self.timestamp_header] if self.timestamp_header else [])]

    def presented(self, headers: Mapping[str, str]) -> bool:
        return self.header in headers

    async def verify(self, delivery: Delivery) -> str:
        given = delivery.headers.get(self.header, "").strip()
        signed = self._stamp(delivery) + delivery.body
        expected = self.prefix + hmac.new(_value(self.secret), signed, getattr(hashlib, self.digest)).hexdigest()
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode()):
            raise _refused(f"the signature in `{self.header}` is not that of this body with the configured secret")
        return self.name

    def _stamp(self, delivery: Delivery) -> bytes:
        """What stands before the body in what is signed. Raises Rejected for a moment outside of the window."""
        text = delivery.headers.get(self.timestamp_header, "").strip() if self.timestamp_header else ""
        if not text:
            if self.timestamp_needed:
                raise _refused(f"the signed moment is missing: send it in `{self.timestamp_header}`")
            return b""
        if not (text.isascii() and text.isdigit() and len(text) <= 12):
            raise _refused(f"`{self.timestamp_header}` must be Unix seconds")
        if abs(delivery.received_at - int(text)) > self.window_s:
            raise _refused(
                f"the signed moment lies more than {self.window_s:.0f} s from ours: is it recorded, or a clock wrong?"
            )
        return f"{text}{self.joint}".encode()


@dataclass(frozen=True)
class SecretHeader:
    """A secret sent as it is in a header of the sender's choice, behind `prefix`."""

    name: str
    secret: Secret
    header: str
    prefix: str = ""

    @property
    def headers(self) -> Sequence[str]:
        return [self.header]

    def presented(self, headers: Mapping[str, str]) -> bool:
        return self.header in headers

    async def verify(self, delivery: Delivery) -> str:
        given = delivery.headers.get(self.header, "").strip().encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self.prefix.encode() + _value(self.secret)):
            raise _refused(f"`{self.header}` does not hold the configured secret")
        return self.name


class SignedBodySettings(Model):
    """An HMAC of the raw body, as hexadecimal digits in a header."""

    secret: Secret
    """The secret that the sender signs with."""
    header: HeaderName
    """The header that holds the signature."""
    prefix: str | None = None
    """What stands before the digits, as in `sha256=`."""
    digest: Literal["sha256", "sha512"] = "sha256"
    """The hash of the HMAC."""
    timestamp_header: HeaderName | None = None
    """The header of a signed moment in Unix seconds. Named here, it is required, and at most 5 min old."""
    joint: str = ":"
    """What stands between the moment and the body in what is signed."""

    def signature(self, name: str) -> SignedBody:
        """The credential; `name` is who it stands for."""
        stamp = self.timestamp_header
        return SignedBody(
            name,
            self.secret,
            self.header.lower(),
            self.prefix or "",
            self.digest,
            stamp.lower() if stamp is not None else None,
            self.joint,
            timestamp_needed=stamp is not None,
        )


class SecretHeaderSettings(Model):
    """A secret sent as it is in a header."""

    secret: Secret
    """What the sender sends."""
    header: HeaderName
    """The header that holds it."""
    prefix: str | None = None
    """What stands before it."""

    def signature(self, name: str) -> SecretHeader:
        """The credential; `name` is who it stands for."""
        return SecretHeader(name, self.secret, self.header.lower(), self.prefix or "")
