"""Who is asking, and what they may do: tokens with scopes, compared in constant time, and read again as they rotate.

No scope implies another: a token that may `operate` cannot `read` unless it says so, or anonymous may.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from rollbackd.errors import RollbackdError
from rollbackd.intake.base import Scope
from rollbackd.web.errors import HttpError

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.web")

CHALLENGES = (
    ("WWW-Authenticate", 'Bearer realm="rollbackd"'),
    ("WWW-Authenticate", 'Basic realm="rollbackd", charset="UTF-8"'),
)


@dataclass(frozen=True)
class Token:
    """A credential of the configuration. `secret` reads its value from where it is kept, each time it is called."""

    name: str
    secret: Callable[[], str] = field(repr=False)
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class Identity:
    """Who is asking: a token's name, or `anonymous`."""

    name: str
    scopes: frozenset[Scope]
    anonymous: bool = False


UNVERIFIED = Identity("unverified", frozenset())
"""Who carries a credential in a form of the sender's own, before it was verified."""


class Authenticator:
    """Tells who is asking, from an Authorization header and the address it came from.

    A Bearer token counts, and so does the password of Basic authentication, for senders that know nothing else.
    What a token may do, it may do beside what `anonymous` may. Secrets are read again after `cache_s` seconds; one that
    cannot be read matches nothing meanwhile.
    """

    def __init__(
        self,
        tokens: Sequence[Token] = (),
        anonymous: frozenset[Scope] = frozenset({"read"}),
        *,
        monotonic: Callable[[], float] = time.monotonic,
        cache_s: float = 5.0,
    ) -> None:
        self._monotonic, self._cache_s = monotonic, cache_s
        self._shutout = _Shutout(monotonic)
        self._unreadable: frozenset[str] = frozenset()
        self.replace(tokens, anonymous)

    def replace(self, tokens: Sequence[Token], anonymous: frozenset[Scope]) -> None:
        """Take over another configuration, from the next request on."""
        self._tokens, self._anonymous = tuple(tokens), anonymous
        self._digests: tuple[tuple[Token, bytes], ...] = ()
        self._read_at: float | None = None

    @property
    def anonymous(self) -> frozenset[Scope]:
        """What may be done without a credential."""
        return self._anonymous

    def identify(self, authorization: str | None, peer: str) -> Identity:
        """Who sends this header. Raises HttpError: 401 for a wrong credential, 429 for too many of them."""
        if authorization is None:
            return Identity("anonymous", self._anonymous, anonymous=True)
        digest = _digest(_presented(authorization))
        found: Token | None = None
        for token, expected in self._current():
            if hmac.compare_digest(digest, expected) and found is None:
                found = token
        if found is None:
            self.refused(peer)
            raise HttpError(401, "wrong_credential", "no token has this value; is it the current one?", CHALLENGES)
        return Identity(found.name, found.scopes | self._anonymous)

    def refused(self, peer: str) -> None:
        """Note that an address showed a wrong credential. Raises HttpError 429 where it showed too many lately."""
        self._shutout.failed(peer)
        log.warning("credential_refused", peer=peer)

    def permit(self, identity: Identity, scope: Scope) -> None:
        """Let pass who may do this. Raises HttpError: 401 without a credential, 403 with one that lacks the scope."""
        if scope in identity.scopes:
            return
        if identity.anonymous:
            message = f"this needs a token with scope `{scope}`: send `Authorization: Bearer TOKEN`"
            raise HttpError(401, "credential_needed", message, CHALLENGES)
        message = f"token `{identity.name}` lacks scope `{scope}`: add it to the token, or use another token"
        raise HttpError(403, "scope_missing", message)

    def _current(self) -> tuple[tuple[Token, bytes], ...]:
        now = self._monotonic()
        if self._read_at is None or now - self._read_at >= self._cache_s:
            self._digests, self._read_at = self._read(), now
        return self._digests

    def _read(self) -> tuple[tuple[Token, bytes], ...]:
        readable: list[tuple[Token, bytes]] = []
        unreadable: set[str] = set()
        for token in self._tokens:
            try:
                readable.append((token, _digest(token.secret())))
            except (RollbackdError, OSError, ValueError) as error:
                unreadable.add(token.name)
                if token.name not in self._unreadable:
                    log.error("token_unreadable", token=token.name, error=str(error))
        self._unreadable = frozenset(unreadable)
        return tuple(readable)


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()


def _presented(authorization: str) -> str:
    """The token in a header. Raises HttpError for one that holds none."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            _user, colon, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
        except ValueError:  # no base64, or no UTF-8 in it, or not even ASCII in the header
            colon = password = ""
        if colon and password:
            return password
    message = "the Authorization header holds no token: send `Bearer TOKEN`, or Basic with the token as password"
    raise HttpError(401, "wrong_credential", message, CHALLENGES)


class _Shutout:
    """Sends wrong credentials away: `FAILURES` of an address are answered and logged one by one, and then, for the rest
    of `WINDOW_S`, further wrong ones are asked to wait.

    Right ones never come here. An address may be a proxy's, before many senders, so a guesser must not be able to stop
    the others. Nor need he be: among credentials of 16 characters and more, as many tries as we can answer are nothing
    (SECURITY.md has the figures). Remembers a bounded number of addresses, the newest.
    """

    FAILURES = 10
    WINDOW_S = 60.0
    REMEMBERED = 4096

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def failed(self, peer: str) -> None:
        """Count a wrong credential. Raises HttpError 429 where there were `FAILURES` within the window already."""
        now = self._monotonic()
        count, ends = self._failures.get(peer, (0, 0.0))
        if now >= ends:
            count, ends = 0, now + self.WINDOW_S
        if count >= self.FAILURES:
            message = f"too many wrong credentials from {peer}, and this is another: try again in {ends - now:.0f} s"
            raise HttpError(429, "too_many_failures", message, [("Retry-After", str(int(ends - now) + 1))])
        self._failures[peer] = (count + 1, ends)
        self._failures.move_to_end(peer)
        if len(self._failures) > self.REMEMBERED:
            self._failures.popitem(last=False)
