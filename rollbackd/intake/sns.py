"""Messages of Amazon SNS: what they are, and that they are Amazon's.

Protocol: the SNS developer guide, "Parsing message formats" and "Verifying the signatures of Amazon SNS messages". A
message names the certificate it is signed with; that is believed only from an address that is SNS's own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import ssl
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Protocol
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec
import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from rollbackd.errors import Temporary
from rollbackd.intake.base import Delivery, Rejected
from rollbackd.intake.reading import decode, unix

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.intake")

HOST = re.compile(r"sns\.[a-z0-9-]{3,40}\.amazonaws\.com(\.cn)?")
"""The hosts of SNS. Others under amazonaws.com are customers', such as buckets, and may hold anything."""
_SIGNER = re.compile(r"sns([.-][a-z0-9-]{1,40}){0,4}\.amazonaws\.com(\.cn)?")
"""The names that a signing certificate of SNS is made out to."""

KEPT = 16
"""Certificates that are remembered; SNS changes its own about once a year."""
FETCHES_PER_MINUTE = 30
"""Certificates that are asked for within a minute, so that messages of a guesser do not make us ask SNS as often."""
ANSWER_BYTES = 64 * 1024
TIMEOUT_S = 8.0
"""For one call to SNS. SNS itself waits 15 s for our answer."""
OLDEST_S = 3600.0 + 300.0
"""How old a message may be: SNS tries for an hour at most."""


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What SNS posts."""

    type: Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
    message_id: str
    topic_arn: str
    message: str
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(default=None, name="SubscribeURL")
    signature: str = ""
    signature_version: str = "1"
    signing_cert_url: str = msgspec.field(default="", name="SigningCertURL")


class _Signed(msgspec.Struct, frozen=True, kw_only=True):
    """The values that are signed, as they are written."""

    Type: str
    MessageId: str
    TopicArn: str
    Message: str
    Timestamp: str
    Subject: str | None = None
    Token: str | None = None
    SubscribeURL: str | None = None


def signed_text(body: bytes) -> bytes:
    """What the signature of a message is over: names and values in the order of the names, a line each."""
    values = decode(body, _Signed)
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if values.Type != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    found = {name: getattr(values, name) for name in names}
    return "".join(f"{name}\n{value}\n" for name, value in found.items() if value is not None).encode(
        "utf-8", "surrogatepass"
    )


def refused(message: str) -> Rejected:
    """The message is not to be believed."""
    return Rejected(message, status=401, code="wrong_signature")


class Caller(Protocol):
    """Calls an address of SNS."""

    async def get(self, url: str) -> bytes:
        """The body of a good answer. Raises Rejected for an address that is not SNS's or that it does not know, and
        Temporary where it does not answer well."""


class HttpsCaller:
    """Calls over HTTPS, and only addresses whose host (with its port, where it has one) is one of `hosts`."""

    def __init__(self, hosts: re.Pattern[str] = HOST, trust: ssl.SSLContext | None = None) -> None:
        self._hosts, self._trust = hosts, trust

    async def get(self, url: str) -> bytes:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme != "https" or not self._hosts.fullmatch(parts.netloc) or not url.isascii():
            raise refused("an address in the message is not one of Amazon SNS: it is not called")
        trust = self._trust if self._trust is not None else True
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
                client.get(url, allow_redirects=False, ssl=trust) as response,
            ):
                if 400 <= response.status < 500:
                    raise refused(f"{parts.netloc} answered with status {response.status} to an address in the message")
                if response.status != 200:
                    raise Temporary(f"{parts.netloc} answered with status {response.status}: SNS will try again")
                return await _beginning(response.content)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Temporary(
                f"{parts.netloc} could not be called ({type(error).__name__}): SNS will try again"
            ) from None


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """All of an answer, or as much as one of SNS may have."""
    answer = bytearray()
    async for chunk in content.iter_any():
        answer += chunk
        if len(answer) >= ANSWER_BYTES:
            break
    return bytes(answer)


@dataclass(frozen=True)
class _Certificate:
    key: rsa.RSAPublicKey
    valid_from: float
    valid_until: float


class Certificates:
    """Signing certificates by their addresses, the newest few."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._known: OrderedDict[str, _Certificate] = OrderedDict()
        self._fetched_at: deque[float] = deque(maxlen=FETCHES_PER_MINUTE)

    async def key(self, url: str, now: float) -> rsa.RSAPublicKey:
        """The key of the certificate at this address. Raises Rejected for one that is not valid, Temporary where it
        cannot be fetched."""
        found = self._known.get(url)
        if found is None:
            self._take_turn(now)
            found = self._known[url] = _certificate(await self._caller.get(url))
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        if not found.valid_from <= now <= found.valid_until:
            raise refused("the certificate that the message is signed with is not valid now: is our clock right?")
        return found.key

    def _take_turn(self, now: float) -> None:
        fetched = self._fetched_at
        if len(fetched) == FETCHES_PER_MINUTE and now - fetched[0] < 60.0:
            raise Temporary("too many messages name certificates that are not known: SNS will try again")
        fetched.append(now)


def _certificate(pem: bytes) -> _Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise refused("what the message names as its certificate is none") from None
    if not isinstance(key, rsa.RSAPublicKey) or not any(map(_SIGNER.fullmatch, names)):
        raise refused("the certificate that the message is signed with is not made out to Amazon SNS")
    return _Certificate(key, unix(certificate.not_valid_before_utc), unix(certificate.not_valid_after_utc))


class SnsSignature:
    """Believes messages that SNS signed, of topics that are expected, and confirms the subscription to those."""

    def __init__(self, name: str, topics: frozenset[str], caller: Caller) -> None:
        self._name, self._topics, self._caller = name, topics, caller
        self._certificates = Certificates(caller)

    @property
    def headers(self) -> Sequence[str]:
        return ["x-amz-sns-message-type"]

    def presented(self, headers: Mapping[str, str]) -> bool:
        return "x-amz-sns-message-type" in headers

    async def verify(self, delivery: Delivery) -> str:
        """Raises Rejected for what is not believed, Temporary where SNS cannot be asked for its certificate, or does
        not take the confirmation: it then tries again."""
        message = decode(delivery.body, Message)
        if message.topic_arn not in self._topics:  # before anybody is called
            raise refused(f"no topic `{message.topic_arn[:200]!a}` is expected: add it to `topics` if it is yours")
        if abs(delivery.received_at - unix(message.timestamp)) > OLDEST_S:
            raise refused("the message was signed over an hour ago: is it recorded, or a clock wrong?")
        key = await self._certificates.key(message.signing_cert_url, delivery.received_at)
        _check(key, message, signed_text(delivery.body))
        if message.type == "SubscriptionConfirmation":
            await self._confirm(message)
        return self._name

    async def _confirm(self, message: Message) -> None:
        url = message.subscribe_url or ""
        asked = parse_qs(urlsplit(url).query)
        if asked.get("Action") != ["ConfirmSubscription"] or asked.get("TopicArn") != [message.topic_arn]:
            raise refused("the message does not say how its topic's subscription is confirmed")
        await self._caller.get(url)
        log.info("subscription_confirmed", intake=self._name, topic=message.topic_arn)


def _check(key: rsa.RSAPublicKey, message: Message, signed: bytes) -> None:
    digests: Mapping[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303  as SNS signs
    digest = digests.get(message.signature_version)
    if digest is None:
        raise refused("the message is signed in a way that is not known: SignatureVersion 1 and 2 are")
    try:
        key.verify(base64.b64decode(message.signature, validate=True), signed, padding.PKCS1v15(), digest)
    except (InvalidSignature, binascii.Error, ValueError):
        raise refused("the signature is not that of this message") from None
