"""Knows a delivery that comes again: senders of lines and of deltas repeat themselves when an answer was lost."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

REMEMBERED = 4096
"""Deliveries that are remembered, the newest; of each, 16 bytes and a moment."""

WITHIN_S = 600.0
"""How long one is remembered, in seconds: senders give up or have come again long before."""


class Repeats:
    """The bodies of deliveries that were taken in lately."""

    def __init__(self) -> None:
        self._taken: OrderedDict[bytes, float] = OrderedDict()

    def known(self, body: bytes, received_at: float) -> bool:
        """Whether just this body was taken in a short while ago."""
        at = self._taken.get(_digest(body))
        return at is not None and received_at - at <= WITHIN_S

    def take(self, body: bytes, received_at: float) -> None:
        """Remember it: something came of it."""
        digest = _digest(body)
        self._taken[digest] = received_at
        self._taken.move_to_end(digest)
        if len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()
