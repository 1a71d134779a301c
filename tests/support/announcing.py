"""Messages about a rollback's steps, as the daemon makes them, for tests of the executor alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rollbackd.live.told import Teller
from rollbackd.rollback.journal import MessagesFor
from tests.support.clock import ManualClock


def announcing(notifiers: Callable[[], Sequence[str]]) -> MessagesFor:
    """Tell these notifiers of every step that people want to know."""
    return Teller(notifiers, ManualClock()).rollback
