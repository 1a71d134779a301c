"""What people are told, in plain words: what happened, why, what happens next, and how to see more."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from rollbackd.explain.facts import guilty, harm
from rollbackd.model import Decision, WatchChange, decision_id, deployment_id
from rollbackd.notify.base import Message

Severity: TypeAlias = Literal["info", "warning", "critical"]
Mode: TypeAlias = Literal["act", "shadow"]

_LONGEST_TITLE = 200
_LONGEST_LINE = 500
_MOST_EVIDENCE = 2
_MOST_FAULTS = 4


def decision_message(decision: Decision, mode: Mode) -> Message:
    """A decision to roll back, to hold or to escalate; in `shadow` mode it says that nothing is done about it."""
    name = decision_id(decision)
    title, severity, then = _about(decision, mode)
    degraded = [one for one in decision.evidence if one.verdict == "degraded" and one.summary != decision.reason]
    rests_on = guilty(decision)
    harmed = harm(rests_on) if rests_on is not None else ""
    in_the_way = [guard for guard in decision.guards if guard.verdict != "pass"]
    return Message(
        key=name,
        t=decision.t,
        topic="decision",
        service=decision.service,
        severity=severity,
        title=_line(f"{decision.service}: {title}", _LONGEST_TITLE),
        text=_text(
            f"Why: {decision.reason} (rule {decision.rule})",
            *(f"Seen: {one.summary}" for one in degraded[:_MOST_EVIDENCE]),
            f"Harmed: {harmed}" if harmed else "",
            "Guards: " + "; ".join(f"{one.guard}: {one.reason}" for one in in_the_way) if in_the_way else "",
            f"Next: {then}",
            f"More: rollbackd show {name}",
        ),
        details=_details({"id": name, "mode": mode, "decision": decision}),
    )


def _about(decision: Decision, mode: Mode) -> tuple[str, Severity, str]:
    version, to = decision.version, decision.to or "the last known good release"
    if mode == "shadow":
        wish = {"rollback": f"would be rolled back to {to}", "hold": "would be held", "escalate": "would be escalated"}
        return (
            f"{version} {wish[decision.action]} (shadow mode)",
            "warning",
            "nothing; rollbackd only watches this service",
        )
    if decision.action == "rollback":
        then = f"{to} is put back, and then watched until the service is well again"
        return f"{version} made it worse, rolling back to {to}", "critical", then
    if decision.action == "hold":
        then = f"nothing is changed now; to roll back by hand: rollbackd rollback {decision.service}"
        return f"{version} looks worse, the rollback is held back", "warning", then
    then = f"a human decides; to roll back by hand: rollbackd rollback {decision.service}"
    return f"{version} looks worse, somebody has to look", "critical", then


def watch_message(change: WatchChange) -> Message | None:
    """A watch that opened or ended; None for `condemned`, of which the decision tells."""
    if change.state == "condemned":
        return None
    name = deployment_id(change.service, change.version, change.deployed_at)
    title, severity, then = _WATCH[change.state]
    if change.is_rollback and change.state == "opened":
        title, then = (
            "{version} was put back and is watched",
            "if the service is not well again in time, somebody is told",
        )
    return Message(
        key=f"{name}-{change.state}",
        t=change.t,
        topic="watch",
        service=change.service,
        severity=severity,
        title=_line(f"{change.service}: {title.format(version=change.version)}", _LONGEST_TITLE),
        text=_text(
            f"What: {change.version} in the place of {change.previous or 'nothing known'}",
            f"Why: {change.reason}" if change.reason else "",
            f"Next: {then}",
            f"More: rollbackd show {name}",
        ),
        details=_details({"id": name, "change": change}),
    )


_WATCH: Mapping[str, tuple[str, Severity, str]] = {
    "opened": (
        "{version} was deployed and is watched",
        "info",
        "it becomes the last known good release if it stays well",
    ),
    "good": ("{version} is good", "info", "it is now the last known good release"),
    "superseded": ("{version} was replaced before its watch ended", "info", "the newer release is watched instead"),
    "failed": ("the deployment of {version} failed", "warning", "the watch is over; look at the deployment tool"),
    "verified": ("the rollback to {version} is proven", "info", "nothing; the service is well again"),
    "unrecovered": (
        "the rollback to {version} did not help",
        "critical",
        "rollbackd does not try again; somebody has to look",
    ),
}


def rollback_message(
    *,
    rollback_id: str,
    service: str,
    version: str,
    to: str,
    state: str,
    detail: str,
    at: float,
    reason: str = "",
    requested_by: str = "engine",
) -> Message | None:
    """A rollback's step that people care about: its beginning and how it ended. None for the steps between."""
    if state not in _ROLLBACK:
        return None
    title, severity, then = _ROLLBACK[state]
    return Message(
        key=f"{rollback_id}:{state}",
        t=at,
        topic="rollback",
        service=service,
        severity=severity,
        title=_line(f"{service}: {title.format(version=version, to=to)}", _LONGEST_TITLE),
        text=_text(
            f"What: {version} -> {to}, asked for by {requested_by}",
            f"Why: {reason}" if reason else "",
            f"Now: {detail}" if detail else "",
            f"Next: {then}",
            f"More: rollbackd show {rollback_id}",
        ),
        details=_details(
            {"id": rollback_id, "version": version, "to": to, "state": state, "requested_by": requested_by}
        ),
    )


_ROLLBACK: Mapping[str, tuple[str, Severity, str]] = {
    "reverting": ("{version} is being rolled back to {to}", "warning", "the service is watched until it is well again"),
    "verified": ("rolled back to {to}, and the service is well again", "info", "nothing"),
    "escalated": ("the rollback to {to} needs somebody", "critical", "rollbackd does no more about this deployment"),
}


def config_refused_message(*, path: str, faults: Sequence[str], at: float) -> Message:
    """A new configuration that cannot be used; the one before it keeps running."""
    more = len(faults) - _MOST_FAULTS
    digest = hashlib.sha256("\0".join((path, *faults)).encode(errors="replace")).hexdigest()[:12]
    return Message(
        key=f"config-refused-{digest}-{int(at)}",
        t=at,
        topic="config",
        service=None,
        severity="warning",
        title=_line(f"The new configuration {path} is refused", _LONGEST_TITLE),
        text=_text(
            *(f"Fault: {fault}" for fault in faults[:_MOST_FAULTS]),
            f"And {more} more." if more > 0 else "",
            "Next: the configuration before it keeps running until this one is right",
            f"More: rollbackd check -c {path}",
        ),
        details=_details({"path": path, "faults": list(faults)}),
    )


def source_down_message(*, service: str, source: str, reason: str, since: float) -> Message:
    """A stream that cannot be read; what rests on it is `insufficient` until it can be."""
    return Message(
        key=f"source-down-{service}-{source}-{int(since)}",
        t=since,
        topic="source",
        service=service,
        severity="warning",
        title=_line(f"{service}: {source} cannot be read", _LONGEST_TITLE),
        text=_text(
            f"Why: {reason}",
            "Next: it is tried again; what only it can see is neither good nor bad news until then",
            "More: rollbackd status",
        ),
        details=_details({"source": source, "reason": reason}),
    )


def source_up_message(*, service: str, source: str, down_since: float, at: float) -> Message:
    """A stream that can be read again."""
    return Message(
        key=f"source-up-{service}-{source}-{int(down_since)}",
        t=at,
        topic="source",
        service=service,
        severity="info",
        title=_line(f"{service}: {source} can be read again", _LONGEST_TITLE),
        text=_text(f"What: it could not be read for {at - down_since:.0f} s", "More: rollbackd status"),
        details=_details({"source": source, "down_since": down_since}),
    )


def _details(facts: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(fact)) for name, fact in facts.items()}


def _text(*lines: str) -> str:
    return "\n".join(_line(line, _LONGEST_LINE) for line in lines if line)


def _line(text: str, longest: int) -> str:
    """One line of printable characters: what services wrote (versions, log lines) can hold anything."""
    plain = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."
