"""What a rule's evidence says, as a picture and a list of facts: for a decision, and for a watch that goes badly."""

from __future__ import annotations

from rollbackd.explain.facts import facts, guilty
from rollbackd.model import Decision, Evidence
from rollbackd.web.html import Markup, element, join
from rollbackd.web.page_chart import chart
from rollbackd.web.page_words import badge


def what_happened(evidence: Evidence, deployed_at: float, decided_at: float | None = None) -> Markup:
    """The chart, if there is one, and the facts."""
    known = facts(evidence, deployed_at)
    rows = [join((element("dt", name), element("dd", said))) for name, said in known]
    return element("div", chart(evidence, deployed_at, decided_at), element("dl", *rows), class_="explained")


def decision_details(decision: Decision, *, unfolded: bool) -> Markup | None:
    """All that a decision rests on, folded away unless asked for; None where it rests on nothing that was kept."""
    rests_on = guilty(decision)
    parts = [
        what_happened(rests_on, decision.deployed_at, decision.t) if rests_on is not None else None,
        _listed("Also considered", [element("li", line) for line in decision.considered]),
        _listed(
            "Guards",
            [
                element("li", badge(one.verdict, _TONES[one.verdict]), " ", element("b", one.guard), f" {one.reason}")
                for one in decision.guards
            ],
        ),
    ]
    if not any(parts):
        return None
    return element(
        "details", element("summary", "What happened"), *parts, open="" if unfolded else None, class_="decision"
    )


_TONES = {"pass": "good", "hold": "warn", "escalate": "bad"}


def _listed(title: str, items: list[Markup]) -> Markup | None:
    return join((element("h4", title), element("ul", *items))) if items else None
