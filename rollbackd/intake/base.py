"""What an intake is: one protocol that others use to push to us over HTTP. It only reads bytes and returns Events.

Authentication, size limits, durability and deduplication are the web application's, once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """One HTTP request, after authentication and size checks. Header names are lower case."""

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    received_at: float


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a delivery. The same `key` twice is the same fact: the second changes nothing."""

    event: AnyEvent
    key: str


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery held: events, and how many items were left out for which reason (a short stable label)."""

    accepted: tuple[Accepted, ...] = ()
    dropped: Mapping[str, int] = {}


class Intake(Protocol):
    """One protocol at one path."""

    @property
    def path(self) -> str:
        """The path it is served at, such as `/hooks/alertmanager`."""

    @property
    def scope(self) -> Scope:
        """What a credential must be allowed for this path."""

    @property
    def max_bytes(self) -> int:
        """The largest body that makes sense."""

    @property
    def content_types(self) -> frozenset[str]:
        """The media types it reads, lower case and without parameters; anything else never reaches `read`."""

    @property
    def body(self) -> object:
        """The type of a JSON body as msgspec understands it, for the API's document; None where it is not JSON."""

    def read(self, delivery: Delivery) -> Reading:
        """The events of a delivery. Pure: no clock, no I/O. Raises Rejected."""


class ServiceNames(Protocol):
    """Which services exist, for intakes that must tell known from unknown."""

    def known(self) -> frozenset[str]:
        """The names of all configured services."""


@dataclass(frozen=True)
class IntakeContext:
    """What the daemon gives an intake's factory beside its configuration."""

    services: ServiceNames
