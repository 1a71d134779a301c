"""What a piece of evidence says to somebody who doubts it, one fact a line, each with its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

from rollbackd.explain.amounts import amount, span, time_of_day
from rollbackd.model import Decision, Evidence

AT_ONCE_S = 1.0
"""What begins within a second of the deployment began with it."""
SAMPLE_S = 10.0
"""What samples show began when the sample did, so trouble may seem older by up to the usual interval between two."""

STATISTICAL = frozenset({"error_ratio", "latency", "traffic_loss"})
"""The rules whose strength bounds how often chance convicts over a whole bake; the others rest on persistence."""
PERSISTENCE: Mapping[str, str] = {
    "availability": " s down",
    "log_signature": " decades of a rate",
    "log_rate": " decades of a rate",
    "alert": " s of firing",
    "level": " decades of ranks",
}
"""What the strength of the other rules counts. Error lines come in bursts, and ranks have no bound over a whole bake,
so neither claims odds."""
HARM: Mapping[str, str] = {
    "error_ratio": "failed",
    "latency": "were slow",
    "traffic_loss": "went missing",
    "availability": "failed",
}
"""What happened to the requests that a rule counts as harmed."""

MILLION, BILLION = 6, 9
"""Decades."""

Fact: TypeAlias = tuple[str, str]
Beside: TypeAlias = Literal["with", "before", "after"]


def guilty(decision: Decision) -> Evidence | None:
    """The evidence of the rule that a decision rests on, or None where it is not there."""
    return next((one for one in decision.evidence if one.rule == decision.rule), None)


def beside(at: float, deployed_at: float) -> Beside:
    """Whether a moment is that of the deployment, as far as samples can tell, or before or after it."""
    apart = at - deployed_at
    if -SAMPLE_S <= apart < AT_ONCE_S:
        return "with"
    return "after" if apart > 0 else "before"


def facts(evidence: Evidence, deployed_at: float) -> list[Fact]:
    """Names and words, in the order in which one asks; what is not known is left out."""
    found = (
        ("signal", evidence.signal),
        ("usual", "" if evidence.baseline is None else amount(evidence.baseline, evidence.unit)),
        ("seen", _seen(evidence)),
        ("worse begins", _worse(evidence)),
        ("began", _began(evidence, deployed_at)),
        ("how sure", how_sure(evidence)),
        ("harmed", harm(evidence)),
    )
    return [(name, said) for name, said in found if said]


def _seen(evidence: Evidence) -> str:
    if evidence.observed is None:
        return ""
    said = amount(evidence.observed, evidence.unit)
    if evidence.interval is not None:
        low, high = (amount(edge, evidence.unit) for edge in evidence.interval)
        said += f" (95%: {low} to {high})"
    if evidence.samples:
        said += f", {evidence.samples:,.0f} sample{'' if round(evidence.samples) == 1 else 's'}"
    return said


def falls(evidence: Evidence) -> bool:
    """Whether less is worse: where worse begins lies below what is usual."""
    return evidence.worse is not None and evidence.baseline is not None and evidence.worse < evidence.baseline


def _worse(evidence: Evidence) -> str:
    if evidence.worse is None:
        return ""
    return f"{'below' if falls(evidence) else 'above'} {amount(evidence.worse, evidence.unit)}"


def _began(evidence: Evidence, deployed_at: float) -> str:
    said = ""
    if evidence.onset is not None:
        side = beside(evidence.onset, deployed_at)
        apart = "" if side == "with" else f"{span(abs(evidence.onset - deployed_at))} "
        said = f"{time_of_day(evidence.onset)}, {apart}{side} the deployment"
    if evidence.onset_between is not None:
        first, last = (time_of_day(edge) for edge in evidence.onset_between)
        bounds = f"at {first}" if first == last else f"between {first} and {last}"
        said = f"{said}; {bounds}" if said else bounds
    return said


def how_sure(evidence: Evidence) -> str:
    """The strength in words; empty where no strength convicts."""
    if evidence.threshold <= 0:
        return ""
    strength, enough = max(evidence.strength, 0.0), evidence.strength >= evidence.threshold
    if evidence.rule not in STATISTICAL:
        counted = f"{strength:,.4g}{PERSISTENCE.get(evidence.rule, '')}, {evidence.threshold:,.4g} convict"
        return f"{'it persisted' if enough else 'not yet'}: {counted} (this rule rests on persistence, not on odds)"
    decades = f"{strength:.1f} decades of evidence, {evidence.threshold:.1f} convict"
    if strength < 0.05:
        return f"not at all: chance explains it ({decades})"
    said = f"by chance at most once in {_odds(strength)} such watches, were requests independent"
    return f"{'' if enough else 'not enough: '}{said} ({strength:.1f} decades, {evidence.threshold:.1f} convict)"


def _odds(decades: float) -> str:
    """10 to the power of `decades` to two digits, rounded down: nothing is claimed that is not known."""
    if decades >= BILLION:
        return "more than a billion"
    if decades >= MILLION:
        return f"{_two_digits(10 ** (decades - MILLION))} million"
    return _two_digits(10**decades)


def _two_digits(number: float) -> str:
    if number < 10:
        return f"{math.floor(number * 10 + 1e-9) / 10:g}"
    step = 10 ** (math.floor(math.log10(number)) - 1)
    return f"{math.floor(number / step + 1e-9) * step:,}"


def harm(evidence: Evidence) -> str:
    """How many requests were harmed, as a sentence's beginning; empty where that is not known."""
    if evidence.harmed is None or not math.isfinite(evidence.harmed):
        return ""
    count = round(evidence.harmed)
    if count < 1:
        return "no request so far"
    what = HARM.get(evidence.rule, "suffered")
    if count == 1:
        what = what.replace("were", "was")
    return f"about {count:,} request{'' if count == 1 else 's'} {what} beyond what is usual"
