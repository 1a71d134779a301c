"""Knows a delivery that comes again: senders of lines and of deltas repeat themselves when an answer was lost."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from rollbackd.intake.base import Delivery

REMEMBERED = 4096
"""Deliveries that are remembered, the newest; of each, 16 bytes and a moment."""

WITHIN_S = 600.0
"""How long one is remembered, in seconds: senders give up or have come again long before."""

UNDATED_S = 10.0
"""The same for one that tells no moment: the same words may be meant anew before long."""


class Repeats:
    """The deliveries that were taken in lately: what was said, and what the address said of it."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def known(self, delivery: Delivery) -> bool:
        """Whether just this was taken in a short while ago."""
        until = self._until.get(_digest(delivery))
        return until is not None and delivery.received_at <= until

    def take(self, delivery: Delivery, *, dated: bool) -> None:
        """Remember it: something came of it. `dated` says that all of it told its moment."""
        digest = _digest(delivery)
        self._until[digest] = delivery.received_at + (WITHIN_S if dated else UNDATED_S)
        self._until.move_to_end(digest)
        if len(self._until) > REMEMBERED:
            self._until.popitem(last=False)


def _digest(delivery: Delivery) -> bytes:
    digest = hashlib.blake2b(repr(sorted(delivery.query.items())).encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(delivery.body)
    return digest.digest()
