"""What an intake is: one protocol that others use to push to us over HTTP. It only reads bytes and returns Events.

Authentication, size limits, durability, rate limits and back-pressure are the web application's, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import msgspec

from rollbackd.errors import Permanent
from rollbackd.model import AnyEvent

Scope: TypeAlias = Literal["ingest", "deploy", "operate", "read"]


class Rejected(Permanent):
    """The delivery cannot be understood or accepted; `status` makes this protocol's sender do the right thing.

    `code` is a short stable label of the reason, for programs.
    """

    def __init__(self, message: str, *, status: int = 400, code: str = "malformed") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request, after authentication and size checks. Header names are lower case.

    `params` are the variable parts of the path, by the names they have there.
    """

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    received_at: float
    params: Mapping[str, str] = {}


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a delivery. The same `key` twice is the same fact: the second changes nothing."""

    event: AnyEvent
    key: str


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery held.

    `accepted` are facts that must not be lost, deployments and alerts: on disk before the answer. `observed` are
    measurements and log lines, in order of time: fed and not kept. `dropped` counts items that were left out by reason
    (a short stable label). `newest` is the moment of the newest measurement where what came of them is told later.
    """

    accepted: tuple[Accepted, ...] = ()
    observed: Sequence[AnyEvent] = ()
    dropped: Mapping[str, int] = {}
    newest: float | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a delivery: events that were new, and facts that were known already."""

    accepted: int = 0
    duplicates: int = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer that this protocol's sender understands."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Signature(Protocol):
    """A credential in the sender's own form, where it knows no `Authorization` header: a signed body, say."""

    @property
    def headers(self) -> Sequence[str]:
        """The request headers that carry it, in lower case, for the API's document."""

    def presented(self, headers: Mapping[str, str]) -> bool:
        """Whether the request carries such a credential, right or wrong. Header names are lower case."""

    async def verify(self, delivery: Delivery) -> str:
        """Who sent it, a name for the audit trail. Raises Rejected with status 401 for a credential that is wrong."""


Decoder: TypeAlias = Callable[[bytes, int], bytes]
"""Undoes a Content-Encoding of a whole body; gives more than the second argument's bytes where there are more, or
raises Rejected with status 413 instead. Raises Rejected for what is not encoded so."""


class Intake:
    """One protocol at one path. Subclasses state their `path`, and may state the rest."""

    path: str
    """The path it is served at, such as `/hooks/alertmanager`; `{name}` in it stands for a part that varies."""
    methods: Sequence[Literal["POST", "PUT"]] = ("POST",)
    """The HTTP methods that a delivery may come by; they mean the same."""
    scope: Scope = "ingest"
    """What a credential must be allowed for this path."""
    max_bytes: int = 4 * 1024 * 1024
    """The largest body that makes sense, before and after decompression."""
    content_types: frozenset[str] = frozenset({"application/json"})
    """The media types it reads, lower case and without parameters; anything else never reaches `read`."""
    body: object = None
    """The type of a JSON body as msgspec understands it, for the API's document; None where it is not JSON."""
    bodies: Mapping[str, object] = {}
    """The same by media type, for those that hold something else than `body`; None where that is not JSON."""
    needed_headers: Mapping[str, str] = {}
    """Request headers without which nothing is understood, with what they say, for the API's document."""
    answer_types: frozenset[str] = frozenset({"application/json"})
    """The media types of its replies."""
    decoders: Mapping[str, Decoder] = {}
    """Content-Encodings beside gzip, deflate and none, such as `snappy`."""
    bulk: bool = False
    """Whether it takes telemetry, which comes in masses: under pressure it is asked to come again before others are."""
    busy: Literal[429, 503] = 503
    """The status that makes this sender come again where there is no room now."""
    success: int = 200
    """The status of a reply that all is well."""
    signature: Signature | None = None
    """A credential in the sender's own form; None where `Authorization` is the only one."""

    def read(self, delivery: Delivery) -> Reading:
        """What a delivery holds. No clock, no I/O; an intake of counters remembers their last values. Raises Rejected.

        Deliveries of one intake come one after the other, perhaps in another thread than the event loop's.
        """
        raise NotImplementedError

    def settled(self, now: float) -> Reading:
        """What has become certain by `now` without a further delivery: asked about every second, by the same rules."""
        del now
        return Reading()

    def reply(self, delivery: Delivery, reading: Reading, told: Told) -> Reply | None:
        """The answer to a delivery; None for one that counts, in JSON. Raises Rejected to make the sender hear it."""
        del delivery, reading, told
        return None


class ServiceNames(Protocol):
    """Which services exist, for intakes that must tell known from unknown."""

    def known(self) -> frozenset[str]:
        """The names of all configured services: the same object as long as they are the same."""


@dataclass(frozen=True)
class IntakeContext:
    """What the daemon gives an intake's factory beside its configuration."""

    services: ServiceNames
