"""How often one credential may deliver: a bucket of tokens each, so that one sender cannot take everybody's turn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from rollbackd.errors import Temporary


class RateLimit:
    """Lets each key pass `per_second` times a second, and twice as often at once after a pause; 0 lets all pass.

    Remembers the `REMEMBERED` keys that came last; one that was forgotten begins with a full bucket.
    """

    REMEMBERED = 4096

    def __init__(self, per_second: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._per_second, self._monotonic = per_second, monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Pass once. Raises Temporary, with the time until the next turn, for a key that came too often."""
        rate = self._per_second()
        if rate <= 0:
            return
        now, burst = self._monotonic(), max(2 * rate, 1.0)
        left, at = self._buckets.pop(key, (burst, now))
        left = min(left + (now - at) * rate, burst)
        self._buckets[key] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > self.REMEMBERED:
            self._buckets.popitem(last=False)
        if left < 1:
            wait = (1 - left) / rate
            raise Temporary(
                "this credential delivers more often than `limits.deliveries_per_second` allows", retry_after=wait
            )
