"""Blame: was it this deployment, or is somebody else in the same trouble for another reason?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from rollbackd.detect.base import BASELINE_S, RECENT_S, Trouble
from rollbackd.detect.history import History
from rollbackd.detect.sequential import wilson

LATELY_S = 60.0
"""Trouble that services share shows within this long."""
BEGAN_S = 900.0
"""Trouble that services share began within this long: what a neighbour has always had excuses nobody."""
MAX_NEIGHBOURS = 64
"""Services compared with at most, in the order in which they were first seen; four times as many are looked through
for some that were heard of lately."""


def comparable(others: Iterable[tuple[str, History]], now: float) -> Iterator[tuple[str, History]]:
    """Of these services those that can be compared with now: heard of lately, and not too many."""
    fresh = (
        (name, history)
        for name, history in islice(others, 4 * MAX_NEIGHBOURS)
        if now - (history.last_at or 0.0) < 3 * LATELY_S
    )
    return islice(fresh, MAX_NEIGHBOURS)


def neighbour_in_trouble(
    trouble: Trouble, detail: str, others: Iterable[tuple[str, History]], now: float
) -> str | None:
    """The first of these services that is in the same trouble now, and was not all along; None where none is.

    `others` are services that were not deployed lately. `detail` is the signature of a log line or an alert's name.
    """
    suffering = (name for name, history in comparable(others, now) if _suffers(trouble, detail, history, now))
    return next(suffering, None)


def shared_trouble(own: History, others: Callable[[], Iterable[tuple[str, History]]], now: float) -> str | None:
    """Another service that fails, is slow, is not reached or gets nothing just as this one does; None where none is."""
    troubles: tuple[Trouble, ...] = ("errors", "latency", "traffic", "probe")
    mine = (trouble for trouble in troubles if _suffers(trouble, "", own, now))
    found = (neighbour_in_trouble(trouble, "", others(), now) for trouble in mine)
    return next((name for name in found if name is not None), None)


def _suffers(trouble: Trouble, detail: str, history: History, now: float) -> bool:
    if trouble == "errors":
        return _fails_more(history, now)
    if trouble == "latency":
        return _is_slower(history, now)
    if trouble == "traffic":
        return _gets_less(history, now)
    if trouble == "probe":
        _, lately = history.probes.window(now - LATELY_S, now)
        _, before = history.probes.window(now - BASELINE_S, now - BEGAN_S)
        usually_down = bool(before) and before[0] > before[1] / 2
        return bool(lately) and lately[0] >= 1 and not usually_down
    if trouble == "log":
        seen = history.signatures.get(detail)
        return seen is not None and seen.first > now - BEGAN_S and seen.last > now - LATELY_S
    seen_alert = history.alerts.get(detail)
    return seen_alert is not None and seen_alert.until is None and seen_alert.since > now - BEGAN_S


def _fails_more(history: History, now: float) -> bool:
    errors, total = history.counted(tuple(history.counts), now - LATELY_S, now)
    usual_errors, usual_total = history.counted(tuple(history.counts), now - BASELINE_S, now - RECENT_S)
    if not total or not usual_total:
        return False
    return wilson(errors, total)[0] > 1.5 * wilson(usual_errors, usual_total)[1] + 0.001


def _is_slower(history: History, now: float) -> bool:
    for series in history.latency.values():
        usual = series.window(now - BASELINE_S, now - RECENT_S)
        lately = series.window(now - LATELY_S, now)
        if usual.total and lately.total:
            bound = usual.quantile(0.75)
            if wilson(lately.slower(bound) * lately.total, lately.total)[0] > 1.4 * usual.slower(bound):
                return True
    return False


def _gets_less(history: History, now: float) -> bool:
    for series in history.counts.values():
        seconds, sums = series.window(now - LATELY_S, now)
        usual_seconds, usual = series.window(now - BASELINE_S / 4, now - 2 * LATELY_S)
        if seconds and usual_seconds and usual[1] and sums[1] / seconds < 0.6 * usual[1] / usual_seconds:
            return True
    return False
