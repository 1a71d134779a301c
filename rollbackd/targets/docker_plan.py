"""What a revert of containers set out to do, in the target's state folder: written before its first effect."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from rollbackd.errors import Permanent
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.disk import own_errors, write_whole


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """A container that is to be replaced. `number` is Compose's; `ran` tells whether it was running.

    `volumes` are those without a name that its data is in.
    """

    id: str
    name: str
    number: str | None
    ran: bool
    volumes: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One order, and the containers it found. `failed` tells why the situation before is to be restored."""

    key: str
    to: str
    expect: str
    containers: tuple[Replaced, ...]
    failed: str | None = None

    def is_for(self, order: RevertOrder) -> bool:
        return (self.key, self.to, self.expect) == (order.key, order.to, order.expect)

    def draft_name(self, name: str) -> str:
        """What the replacement of a container is called until it takes that one's name."""
        return f"{name}{DRAFT}{hashlib.sha256(self.key.encode()).hexdigest()[:8]}"


DRAFT = ".rollbackd-"


class Plans:
    """The newest plan of one target. Methods do file I/O, and raise Temporary or Permanent."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "plan.json"

    def read(self) -> Plan | None:
        with own_errors():
            try:
                raw = self._path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return msgspec.json.decode(raw, type=Plan)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Permanent(f"{self._path} is not a file of ours; when no revert is under way, move it away") from None

    def write(self, plan: Plan) -> None:
        write_whole(self._path, msgspec.json.encode(plan))
