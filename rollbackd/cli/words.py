"""How the command line puts times, spans, amounts and states into words, the same everywhere. Times are in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from rollbackd.ledger.base import RollbackState
from rollbackd.model import Action, Evidence, Verdict, WatchState

VERDICTS: dict[Verdict, str] = {"healthy": "healthy", "degraded": "degraded", "insufficient": "not enough data"}

ACTIONS: dict[Action, str] = {"rollback": "ROLLBACK", "hold": "HOLD", "escalate": "ESCALATE"}

WATCH_STATES: dict[WatchState, str] = {
    "opened": "under watch",
    "good": "good",
    "superseded": "superseded",
    "condemned": "condemned",
    "failed": "failed",
    "verified": "verified",
    "unrecovered": "not recovered",
}

ROLLBACK_STATES: dict[RollbackState, str] = {
    "planned": "planned",
    "preflight": "being checked",
    "reverting": "reverting",
    "reverted": "reverted",
    "verifying": "being verified",
    "verified": "verified",
    "failed": "failed",
    "escalated": "needs a human",
}

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def span(seconds: float) -> str:
    """A span for the eye: `0.4 s`, `12 s`, `1 h 5 min`."""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def moment(at: float) -> str:
    """A moment to the second, `2026-11-23 12:01:33 UTC`."""
    return _format(at, "%Y-%m-%d %H:%M:%S UTC")


def time_of_day(at: float) -> str:
    """A moment of a known day, to the tenth of a second that tells the order of steps."""
    whole = round(at * 10)
    return f"{_format(whole // 10, '%H:%M:%S')}.{whole % 10}"


def _format(at: float, pattern: str) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime(pattern)
    except (OverflowError, ValueError, OSError):
        return f"@{at:.0f}"


def ago(at: float, now: float) -> str:
    """How long ago."""
    return f"{span(now - at)} ago"


def amount(value: float, unit: str) -> str:
    """A value of Evidence with its unit: ratios as a percentage, seconds as milliseconds where they are few."""
    if unit == "ratio":
        percent = value * 100
        return f"{percent:.0f}%" if percent in (0, 100) else f"{percent:.{2 if percent < 1 else 1}f}%"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if abs(value) < 1 else f"{value:.2f} s"
    if unit.startswith("1/"):
        return f"{value:,.4g} per {unit[2:]}"
    return f"{value:,.4g} {unit}".rstrip()


def numbers(evidence: Evidence) -> str:
    """The numbers that a piece of evidence rests on, in one line; empty where nothing was counted."""
    if not evidence.samples:
        return ""
    parts = []
    if evidence.observed is not None:
        seen = amount(evidence.observed, evidence.unit)
        if evidence.interval is not None:
            low, high = (amount(edge, evidence.unit) for edge in evidence.interval)
            seen += f" (95%: {low} to {high})"
        if evidence.baseline is not None:
            seen += f" against {amount(evidence.baseline, evidence.unit)}"
        parts.append(seen)
    parts.append(f"{evidence.samples:,.0f} sample{'' if round(evidence.samples) == 1 else 's'}")
    if evidence.onset is not None:
        parts.append(f"since {time_of_day(evidence.onset)}")
    return ", ".join(parts)


def short(name: str) -> str:
    """The end of a long id: what tells it apart, and what `show` finds it by."""
    tail = name.rsplit("-", 1)[-1]
    return tail if len(name) > 20 and len(tail) >= 8 else name
