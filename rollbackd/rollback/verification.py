"""Whether a rollback helped: asked of the detectors until there is an answer, or no time left for one."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec

from rollbackd.ledger.base import Rollback
from rollbackd.model import Evidence, Verdict

Finding: TypeAlias = Literal["helped", "did not help", "could not be proven"]


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What the detectors say of the release that was put back, as things stand."""

    verdict: Verdict
    summary: str
    evidence: tuple[Evidence, ...] = ()


class Verifier(Protocol):
    """The detectors, as the executor sees them."""

    def begun(self, rollback: Rollback, at: float) -> None:
        """The revert was accepted at `at`: judge release `to` from then on. Called again after a restart, with the
        same `at`; the second time changes nothing."""

    def verdict(self, rollback: Rollback) -> Verification:
        """What is known now."""


class Trial:
    """Looks at verdicts one after the other; times are seconds of one clock.

    A verdict counts once it has stood for `verify_for` seconds without a break, for better or worse: right after a
    revert a service may stumble over its own start. `insufficient` is neither, and only time ends it.
    """

    def __init__(self, began: float, verify_for: float, verify_within: float) -> None:
        self._verify_for = verify_for
        self._ends = began + verify_within
        self._verdict: Verdict = "insufficient"
        self._since = began

    def finding(self, now: float, verdict: Verdict) -> Finding | None:
        """What follows from `verdict` being the one at `now`; None: look again."""
        if verdict != self._verdict:
            self._verdict, self._since = verdict, now
        stood = verdict != "insufficient" and now - self._since >= self._verify_for
        if stood and verdict == "healthy":
            return "helped"
        if verdict == "degraded" and (stood or now >= self._ends):
            return "did not help"
        return "could not be proven" if now >= self._ends else None


def in_words(finding: Finding, seen: Verification, rollback: Rollback, verify_for: float) -> str:
    """The journal's sentence about a finding, with the evidence it rests on."""
    to, version = rollback.plan.to, rollback.plan.version
    against = [one.summary for one in seen.evidence if one.verdict == "degraded" and one.summary != seen.summary]
    evidence = "; ".join((seen.summary, *against))
    match finding:
        case "helped":
            return f"{to} has been healthy for {verify_for:g} s: {evidence}"
        case "did not help":
            return f"the rollback of {version} did not help, {to} is degraded as well: {evidence}"
        case "could not be proven":
            return f"{to} is in place, but whether the rollback helped could not be proven in time: {evidence}"
