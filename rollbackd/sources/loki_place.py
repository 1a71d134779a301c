"""How far the source `loki` has read, and which lines about there it has read already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import msgspec

from rollbackd.logs.loki import KEY_TIME_BYTES

MAX_SEEN = 16_384
"""Lines remembered, at about 100 bytes each. Where more share the time that is read again, less of it is read again."""

_KEY_BYTES = KEY_TIME_BYTES + 8


MAX_UNCHECKED = MAX_SEEN // 2
"""So many are never forgotten: lines that came without all those before them being known to have been read."""


class _Packed(msgspec.Struct):
    until: int
    floor: int
    seen: bytes


class Place:
    """A place in a stream that is written with delay: lines may still come for `delay` before it. Times in nanoseconds.

    From `start` on everything is to be asked for again; a line that was there before is known by its key.
    """

    def __init__(self, begin: int, delay: int) -> None:
        self.until = begin
        """Everything before this has been read, but for what came late."""
        self.unchecked = 0
        """How many lines were read since then."""
        self._floor = begin
        self._delay = delay
        self._seen: set[bytes] = set()

    @property
    def start(self) -> int:
        """From where on to read, including this very nanosecond."""
        return max(self._floor, self.until - self._delay)

    def knows(self, key: bytes) -> bool:
        """Whether this line has been read already."""
        return key in self._seen

    def add(self, key: bytes) -> None:
        """This line has been read."""
        self._seen.add(key)
        self.unchecked += 1
        if len(self._seen) > MAX_SEEN:
            self._forget_oldest()

    def reach(self, moment: int) -> None:
        """All that was there before this moment has been read."""
        self.until = max(self.until, moment)
        self.unchecked = 0
        self._keep_from(self.start)

    def skip(self, moment: int) -> None:
        """Leave out what lies before this moment."""
        self._floor = max(self._floor, moment)
        self.reach(moment)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Have these lines read again."""
        self._seen.difference_update(keys)

    def packed(self, but: Iterable[bytes] = ()) -> bytes:
        """The place as bytes; the lines in `but` count as not read yet."""
        seen = b"".join(sorted(self._seen.difference(but)))
        return msgspec.json.encode(_Packed(self.until, self._floor, seen))

    @classmethod
    def unpacked(cls, data: bytes, now: int, delay: int) -> Self | None:
        """The place that was packed; None where these bytes are none. It never lies beyond `now`."""
        try:
            kept = msgspec.json.decode(data, type=_Packed)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
        if not 0 <= kept.floor <= kept.until or len(kept.seen) % _KEY_BYTES:
            return None
        place = cls(min(kept.until, now), delay)
        place._floor = min(kept.floor, now)
        keys = [kept.seen[at : at + _KEY_BYTES] for at in range(0, len(kept.seen), _KEY_BYTES)]
        place._seen = set(keys[-MAX_SEEN:])
        return place

    def _forget_oldest(self) -> None:
        """Some room, at the price of what may still come late: what is not remembered is never asked for again."""
        oldest = sorted(self._seen)[: MAX_SEEN // 4]
        self._floor = max(self._floor, int.from_bytes(oldest[-1][:KEY_TIME_BYTES]) + 1)
        self._keep_from(self._floor)

    def _keep_from(self, moment: int) -> None:
        least = moment.to_bytes(KEY_TIME_BYTES)
        self._seen = {key for key in self._seen if key >= least}
