"""How the command line puts states and evidence into words, the same everywhere."""

from __future__ import annotations

from rollbackd.explain.amounts import amount, span, time_of_day
from rollbackd.ledger.base import RollbackState
from rollbackd.model import Action, Evidence, Verdict, WatchState

VERDICTS: dict[Verdict, str] = {"healthy": "healthy", "degraded": "degraded", "insufficient": "not enough data"}

NOT_YET = "not yet judged"
"""The verdict on a release that warms up."""

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


def ago(at: float, now: float) -> str:
    """How long ago."""
    return f"{span(now - at)} ago"


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
