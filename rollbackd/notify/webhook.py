"""Notifier `webhook`: posts each message as JSON, signed where the operator gives a key."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
from email.utils import parsedate_to_datetime
from typing import Annotated, Literal

import aiohttp
import msgspec
from pydantic import AfterValidator, Field, model_validator
from yarl import URL

import rollbackd
from rollbackd.adapter import Adapter
from rollbackd.errors import ConfigError, Permanent, Temporary
from rollbackd.fields import Duration, Model, Secret
from rollbackd.notify.base import Message, Notifier, NotifierContext, Topic

FORMAT = 1
"""The `version` of what is posted. Fields may be added under the same number, never changed or taken away."""

Severity = Literal["info", "warning", "critical"]
_RANK: dict[Severity, int] = {"info": 0, "warning": 1, "critical": 2}

_TRY_AGAIN = frozenset({408, 425, 429})
_OWN_HEADERS = frozenset(
    {"content-type", "content-length", "host", "idempotency-key", "x-rollbackd-timestamp", "x-rollbackd-signature"}
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE_BREAK = re.compile(r"[\r\n\0]")
_BODY_READ = 4096
_BODY_SHOWN = 200
_SHORTEST_TOKEN = 8


def _url(value: str) -> URL | None:
    """The URL, or None where it is none that can be posted to."""
    try:
        url = URL(value)
        return url if url.scheme in ("http", "https") and url.host and url.port else None
    except ValueError:
        return None


def _postable(value: str | Secret) -> str | Secret:
    if isinstance(value, str) and _url(value) is None:
        raise ValueError("this is no HTTP URL: write https://host/path, or {env: NAME} where the URL itself is secret")
    return value


class WebhookConfig(Model):
    """What an operator writes under a notifier `{webhook: ...}`."""

    url: Annotated[str | Secret, AfterValidator(_postable)]
    """Where to post; a secret where the URL itself is one."""
    headers: dict[str, str | Secret] = Field(default_factory=dict)
    """Headers to send; a value may be a secret."""
    bearer: Secret | None = None
    """A token to send as `Authorization: Bearer`."""
    hmac: Secret | None = None
    """A key to sign with: the receiver can then tell that a message is ours, whole and fresh."""
    timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """How long one delivery may take."""
    min_severity: Severity = "info"
    """Messages less severe than this are not sent."""
    topics: tuple[Topic, ...] | None = None
    """Messages about anything else are not sent; left out, all are."""

    @model_validator(mode="after")
    def _sendable(self) -> WebhookConfig:
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"`{name}` is no header name")
            if name.lower() in _OWN_HEADERS or (name.lower() == "authorization" and self.bearer is not None):
                raise ValueError(f"header `{name}` is set by rollbackd itself")
            if isinstance(value, str) and _LINE_BREAK.search(value):
                raise ValueError(f"header `{name}` holds a line break")
        return self


class Webhook:
    """One receiver of JSON over HTTP."""

    def __init__(self, config: WebhookConfig, context: NotifierContext) -> None:
        self._config = config
        self._clock = context.clock
        self._name = context.name
        self._session: aiohttp.ClientSession | None = None

    def wants(self, message: Message) -> bool:
        """Whether the operator asked for such messages."""
        if _RANK[message.severity] < _RANK[self._config.min_severity]:
            return False
        return self._config.topics is None or message.topic in self._config.topics

    async def send(self, message: Message) -> None:
        if not self.wants(message):
            return
        try:
            async with asyncio.timeout(self._config.timeout):
                await self._post(encoded(message), message.key)
        except TimeoutError:
            raise Temporary(f"{self._name}: no answer within {self._config.timeout:g} s") from None

    async def _post(self, body: bytes, key: str) -> None:
        url, headers, secrets = self._reveal()
        headers |= {"Content-Type": "application/json", "Idempotency-Key": _header_text(key)}
        if self._config.hmac is not None:
            stamp = str(int(self._clock.now()))
            headers |= {"X-Rollbackd-Timestamp": stamp, "X-Rollbackd-Signature": signature(secrets[0], stamp, body)}
        try:
            async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as answer:
                if not 200 <= answer.status < 300:
                    said = await _said(answer, secrets)
                    raise _refusal(
                        f"{self._name}: {_origin(url)} answered {answer.status}{said}", answer, self._clock.now()
                    )
        except aiohttp.ClientConnectorCertificateError as error:
            raise Temporary(f"{self._name}: {_origin(url)}: {_distrust(error)}") from None
        except aiohttp.ClientConnectorError as error:
            raise Temporary(f"{self._name}: cannot connect to {_origin(url)}: {_reason(error)}") from None
        except ValueError:
            raise Permanent(f"{self._name}: no request can be made of this URL and these headers") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Temporary(f"{self._name}: {_origin(url)} did not answer ({error.__class__.__name__})") from None

    def _reveal(self) -> tuple[URL, dict[str, str], list[str]]:
        """URL, headers, and the secrets in them, the signing key first.

        A secret that cannot be read is Temporary: it may be in the middle of being replaced, and nobody was told yet.
        """
        config = self._config
        try:
            signing = [config.hmac.reveal()] if config.hmac else []
            bearer = [config.bearer.reveal()] if config.bearer else []
            address = config.url.reveal() if isinstance(config.url, Secret) else config.url
            headers = {
                name: value.reveal() if isinstance(value, Secret) else value for name, value in config.headers.items()
            }
        except ConfigError as error:
            raise Temporary(f"{self._name}: {error}") from None
        url = _url(address)
        if url is None:
            raise Permanent(f"{self._name}: the secret `url` holds no HTTP URL")
        secrets = [*signing, *bearer, *_telling_parts(url, address)]
        secrets += [headers[name] for name, value in config.headers.items() if isinstance(value, Secret)]
        if bearer:
            headers["Authorization"] = f"Bearer {bearer[0]}"
        if "authorization" in {name.lower() for name in headers}:
            url = url.with_user(None)
        broken = next((name for name, value in headers.items() if _LINE_BREAK.search(value)), None)
        if broken is not None:
            raise Permanent(f"{self._name}: the secret for header {broken} holds a line break")
        return url, headers, secrets

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True),  # messages are rare; an idle connection only breaks
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"rollbackd/{rollbackd.__version__}", "Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def encoded(message: Message) -> bytes:
    """What is posted: the message's fields and the format's `version`."""
    return msgspec.json.encode({"version": FORMAT} | msgspec.structs.asdict(message))


def signature(key: str, timestamp: str, body: bytes) -> str:
    """The value of X-Rollbackd-Signature: HMAC-SHA256 (RFC 2104) of the timestamp, a full stop and the body, in hex."""
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _refusal(message: str, answer: aiohttp.ClientResponse, now: float) -> Temporary | Permanent:
    if answer.status in _TRY_AGAIN or answer.status >= 500:
        return Temporary(message, retry_after=_retry_after(answer.headers.get("Retry-After"), now))
    if 300 <= answer.status < 400:
        return Permanent(f"{message}: redirects are not followed, write the final URL")
    return Permanent(message)


def _retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by RFC 9110, section 10.2.3: a number of seconds, or a date. None where it is neither."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return float(value.strip())
    try:
        wait = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return None
    return max(wait, 0.0) if math.isfinite(wait) else None


async def _said(answer: aiohttp.ClientResponse, secrets: list[str]) -> str:
    """The beginning of the answer's body, fit for a message: one line, without what we sent in confidence."""
    try:
        raw = await answer.content.read(_BODY_READ)
    except (aiohttp.ClientError, OSError):
        return ""
    text = raw.decode("utf-8", errors="replace")
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return f": {text[:_BODY_SHOWN]}" if text else ""


def _origin(url: URL) -> str:
    """Scheme, host and port. Never more: chat services put the credential into the path."""
    return str(url.origin())


def _telling_parts(url: URL, address: str) -> list[str]:
    """What of the URL a receiver could echo and nobody else should read: credentials hide in any part of it."""
    parts = {address, url.raw_path_qs, url.path_qs, url.password or "", *url.parts, *url.query.values()}
    return [part for part in parts if len(part) >= _SHORTEST_TOKEN or part == url.password]


def _distrust(error: aiohttp.ClientConnectorCertificateError) -> str:
    fault = error.certificate_error
    return f"its certificate is not trusted: {getattr(fault, 'verify_message', '') or fault.__class__.__name__}"


def _reason(error: aiohttp.ClientConnectorError) -> str:
    reason = error.os_error
    return reason.strerror or reason.__class__.__name__


def _header_text(key: str) -> str:
    """Printable ASCII as it is, anything else percent-encoded."""
    return "".join(
        sign
        if sign.isascii() and sign.isprintable()
        else "".join(f"%{byte:02X}" for byte in sign.encode(errors="replace"))
        for sign in key
    )


def build(config: WebhookConfig, context: NotifierContext) -> Notifier:
    """A notifier on this configuration; nothing is opened before it is used."""
    return Webhook(config, context)


ADAPTER: Adapter[WebhookConfig, NotifierContext, Notifier] = Adapter(WebhookConfig, build, shorthand="url")
