"""Blame: was it this deployment, or is there another explanation for the trouble?

The explanations that are looked at: it had begun before; it was the same at this time the day before; a service that
this one depends on is in the same trouble, or one that has nothing to do with this deployment is, since about the
same moment and to a comparable extent; a release of another service, deployed later, fits the onset better. (The old
release beside the new one is compared within the rules, over the same stretch of time.) One explanation is no excuse:
where trouble began together with this deployment, and is worst here, others that share it are its callers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from rollbackd.detect.base import BASELINE_S, Charge, Trouble
from rollbackd.detect.histogram import Histogram, merged
from rollbackd.detect.history import History
from rollbackd.detect.sequential import excess_evidence, share_evidence, wilson
from rollbackd.detect.signature import merged as merged_signature

LATELY_S = 60.0
"""Trouble that services share shows within this long, or since the onset."""
STILL_S = 1800.0
"""A neighbour is in the same trouble while it has been within so long."""
SLACK_S = 15.0
"""Services are sampled at different moments: an onset is the same within so many seconds."""
BEGAN_S = 900.0
"""Trouble that services share began within this long: what a neighbour has always had excuses nobody."""
WITH_DEPLOYMENT_S = 45.0
"""Trouble that began up to so long after the release had all the traffic began with it."""
MAX_NEIGHBOURS = 64
"""Services compared with at most, in the order in which they were first seen; four times as many are looked through
for some that were heard of lately."""
LIKELY = 1.5
"""Evidence (nats) from which a neighbour is taken to suffer. A mistake here only delays: what is no shared trouble
passes."""
COMPARABLE = 0.1
"""A neighbour's trouble is comparable from this share of the own on."""
AS_BAD = 0.7
"""The day before it was as bad from this share of the trouble on."""
MORE = 1.5
"""Error lines come in bursts: a neighbour has more of them from so many times the usual on."""
FEW = 20.0
"""Fewer requests than these to be expected tell nothing about lost traffic."""


@dataclass(frozen=True)
class Other:
    """Another service, as blame sees it: its history, its newest deployment if it is on trial, and who depends on
    whom."""

    name: str
    history: History
    deployed_at: float | None = None
    is_dependency: bool = False
    is_caller: bool = False


@dataclass(frozen=True)
class Deployed:
    """The deployment that is charged: when it began, and since when the release has all the traffic, if so."""

    began_at: float
    finished_at: float | None
    warmup: float

    def began_with_it(self, since: float) -> bool:
        """Whether trouble that began then began together with the deployment."""
        settled = self.finished_at if self.finished_at is not None else self.began_at + self.warmup
        return since <= settled + WITH_DEPLOYMENT_S


def other_explanation(
    charge: Charge, deployed: Deployed, own: History, others: Callable[[], Iterable[Other]], now: float
) -> str | None:
    """Why the trouble is not the deployment's doing, as a sentence; None where nothing else explains it."""
    if charge.latest is not None and charge.latest < deployed.began_at - 1:
        return f"it had begun before the deployment, at least {deployed.began_at - charge.latest:.0f} s before"
    if _was_so_a_day_before(charge, deployed, own, now):
        return "the same was seen at this time the day before"
    for other in comparable(others(), now):
        if other.is_caller:
            continue
        if other.deployed_at is not None and not other.is_dependency:
            if _fits_better(charge, deployed, other) and _shares(charge, deployed, own, other, now):
                return f"{other.name} is in the same trouble and was deployed later, nearer to when it began"
        elif _shares(charge, deployed, own, other, now):
            whose = "which it depends on" if other.is_dependency else "where nothing was deployed"
            return f"{other.name}, {whose}, is in the same trouble"
    return None


def _was_so_a_day_before(charge: Charge, deployed: Deployed, own: History, now: float) -> bool:
    """Whether the service fared about as badly at this time of the day before, where the history reaches back so
    far."""
    began = deployed.began_at
    if charge.trouble == "latency":
        usual = merged([slot.window(began - BASELINE_S, began) for slot in own.latency.values()])
        if usual.bounds != own.bounds_of_days:
            return False
        then = [Histogram(usual.bounds, tuple(sums)) for sums in own.latency_of_days.a_day_before(now)]
        return any(_ratio(one, usual, 0.75) - 1 >= AS_BAD * (charge.size - 1) for one in then)
    rows = [sums for sums in own.counts_of_days.a_day_before(now) if sums[1] > 0]
    if charge.trouble == "errors":
        failed, total = own.counted(tuple(own.counts), began - BASELINE_S, began)
        return total > 0 and any(one[0] / one[1] - failed / total >= AS_BAD * charge.size for one in rows)
    at_deployment = [sums[1] for sums in own.counts_of_days.a_day_before(began)]
    if charge.trouble == "traffic" and at_deployment:
        return any(1 - one[1] / max(*at_deployment, 1.0) >= AS_BAD * (1 - charge.size) for one in rows)
    return False


def comparable(others: Iterable[Other], now: float) -> Iterator[Other]:
    """Of these services those that can be compared with now: heard of lately, and not too many."""
    fresh = (
        other for other in islice(others, 4 * MAX_NEIGHBOURS) if now - (other.history.last_at or 0.0) < 3 * LATELY_S
    )
    return islice(fresh, MAX_NEIGHBOURS)


def _fits_better(charge: Charge, deployed: Deployed, other: Other) -> bool:
    """Of two deployments the one nearer before the onset is the likelier cause."""
    at = other.deployed_at
    return at is not None and deployed.began_at < at <= charge.since + SLACK_S


def _shares(charge: Charge, deployed: Deployed, own: History, other: Other, now: float) -> bool:
    """Whether the other service is in the same trouble, and not merely because it calls this one."""
    if charge.trouble == "log":
        for known, seen in other.history.signatures.items():
            new = seen.first > charge.since - BEGAN_S and seen.last > charge.since - LATELY_S
            if new and (known == charge.detail or merged_signature(known, charge.detail, 0) is not None):
                return True
    if charge.trouble == "alert":
        firing = other.history.alerts.get(charge.detail)
        if firing is not None and firing.until is None and firing.since > now - BEGAN_S:
            return True
    if charge.trouble in ("log", "alert"):
        since = charge.since - 2 * LATELY_S
        return any(_together(trouble, own, other.history, since, now) for trouble in _MEASURES if trouble != "log_rate")
    since = charge.since - SLACK_S
    if charge.trouble in ("errors", "latency", "log_rate"):
        since = max(since, now - STILL_S)  # a neighbour that has recovered is no excuse any more
    before = charge.since - 2 * SLACK_S
    theirs = _suffers(charge, other.history, since, now, before)
    if theirs is None and now - LATELY_S > charge.since:
        theirs = _suffers(charge, other.history, now - LATELY_S, now, before)
    if theirs is None and charge.trouble == "latency":
        return _together("errors", own, other.history, charge.since - SLACK_S, now)
    if theirs is None and charge.trouble == "log_rate":
        return _failing(other.history, since, now, before) is not None  # of it more than its log is known
    if theirs is None:
        return False
    calls_us = charge.trouble in ("errors", "latency", "log_rate") and deployed.began_with_it(charge.since)
    return not (calls_us and not other.is_dependency and theirs <= charge.size and not _was_before(charge, other))


def _was_before(charge: Charge, other: Other) -> bool:
    """Whether the other service was in that trouble before this one."""
    until = charge.since - SLACK_S
    since = charge.since - 3 * LATELY_S
    return _suffers(charge, other.history, since, until, since - SLACK_S) is not None


def _suffers(charge: Charge, history: History, since: float, until: float, before: float) -> float | None:
    """How much the service suffers from this kind of trouble, in the charge's measure; None where it does not
    comparably."""
    if charge.trouble == "level":
        found = _level_ratio(history, charge.detail, until, before)
        return found if found is not None and found - 1 > 0.3 * (charge.size - 1) else None
    measure = _MEASURES.get(charge.trouble)
    found = measure(history, since, until, before) if measure is not None else None
    if found is None:
        return None
    if charge.trouble == "traffic":
        return found if 1 - found >= 0.3 * (1 - charge.size) else None
    if charge.trouble in ("latency", "log_rate"):
        return found if math.log(found) >= COMPARABLE * math.log(max(charge.size, 1.0)) else None
    return found if found >= COMPARABLE * charge.size else None


def _together(trouble: Trouble, own: History, other: History, since: float, now: float) -> bool:
    """Whether both services are in this trouble."""
    measure = _MEASURES[trouble]
    return (
        measure(own, since, now, since - SLACK_S) is not None
        and measure(other, since, now, since - SLACK_S) is not None
    )


# -- how one service fares from `since` until then, against its own time until `before`; None where it is in no such
# trouble


def _failing(history: History, since: float, until: float, before: float) -> float | None:
    """The excess share of failures."""
    failed, total = history.counted(tuple(history.counts), since, until)
    failed_before, total_before = history.counted(tuple(history.counts), before - BASELINE_S, before)
    if not total or not total_before:
        return None
    usual = wilson(failed_before, total_before)[1]
    null = 1.2 * usual + 0.0003
    if failed <= null * total or share_evidence(failed, total, null) < LIKELY:
        return None
    return failed / total - failed_before / total_before


def _slower(history: History, since: float, until: float, before: float) -> float | None:
    """The factor by which requests are slower."""
    usual = merged([slot.window(before - BASELINE_S, before) for slot in history.latency.values()])
    now = merged([slot.window(since, until) for slot in history.latency.values()])
    if not usual.total or not now.total or now.bounds != usual.bounds:
        return None
    bound = usual.quantile(0.75)
    null = min(1.2 * usual.slower(bound), 0.95)
    slow = now.slower(bound) * now.total
    if slow <= null * now.total or share_evidence(slow, now.total, null) < LIKELY:
        return None
    return max(_ratio(now, usual, 0.5), _ratio(now, usual, 0.75))


def _ratio(now: Histogram, usual: Histogram, q: float) -> float:
    return max(now.quantile(q) / max(usual.quantile(q), 1e-9), 1.0)


def _less_traffic(history: History, since: float, until: float, before: float) -> float | None:
    """The share of the requests that is left."""
    seconds, sums = _rates(history, since, until)
    usual_seconds, usual = _rates(history, before - BASELINE_S / 4, before)
    if not seconds or not usual_seconds or usual / usual_seconds * seconds < FEW:
        return None
    left = (sums / seconds) / (usual / usual_seconds)
    return left if left < 0.7 else None


def _rates(history: History, after: float, until: float) -> tuple[float, float]:
    """Seconds covered by the streams, of the longest, and requests of all."""
    seconds = requests = 0.0
    for series in history.counts.values():
        covered, sums = series.window(after, until)
        seconds, requests = max(seconds, covered), requests + (sums[1] if sums else 0.0)
    return seconds, requests


def _down(history: History, since: float, until: float, before: float) -> float | None:
    """Seconds down, where more than a stray probe failed and that is not as ever."""
    _, sums = history.probes.window(since, until)
    _, usual = history.probes.window(before - BASELINE_S, before)
    if not sums or sums[0] < 2 or (usual and usual[0] > usual[1] / 2):
        return None
    return sums[0] * history.probes.interval


def _level_ratio(history: History, name: str, until: float, before: float) -> float | None:
    """How many times its usual value the gauge has, lately."""
    for series in history.gauges.get(name, {}).values():
        _, now = series.window(until - 2 * LATELY_S, until)
        _, usual = series.window(before - BASELINE_S, before)
        if now and usual and usual[0] > 0:
            return (now[0] / now[1]) / (usual[0] / usual[1])
    return None


def _logs_more(history: History, since: float, until: float, before: float) -> float | None:
    """How many times as many error lines come."""
    seconds, now = history.lines.series.window(since, until)
    usual_seconds, usual = history.lines.series.window(before - BASELINE_S, before)
    if not now or not usual or not seconds or not usual_seconds:
        return None
    rate, usual_rate = now[0] / seconds, max(usual[0], 1.0) / usual_seconds
    if rate <= MORE * usual_rate or excess_evidence(now[0], MORE * usual_rate * seconds) < LIKELY:
        return None
    return rate / usual_rate


_MEASURES: dict[Trouble, Callable[[History, float, float, float], float | None]] = {
    "errors": _failing,
    "latency": _slower,
    "traffic": _less_traffic,
    "probe": _down,
    "log_rate": _logs_more,
}
