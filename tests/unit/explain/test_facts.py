"""What evidence says in words: how sure it is, whom it harmed, and when it began."""

from __future__ import annotations

import msgspec
import pytest

from rollbackd.explain.facts import facts, guilty, harm, how_sure
from tests.support.backend import NOW, decision, evidence


@pytest.mark.parametrize(
    ("strength", "said"),
    [
        (3.0, "once in 1,000 such"),
        (3.8, "once in 6,300 such"),
        (4.0, "once in 10,000 such"),
        (5.999, "once in 990,000 such"),
        (6.0, "once in 1 million such"),
        (8.2, "once in 150 million such"),
        (9.0, "once in more than a billion such"),
        (5000.0, "once in more than a billion such"),
        (float("inf"), "once in more than a billion such"),
    ],
)
@pytest.mark.parametrize("rule", ["error_ratio", "latency", "traffic_loss"])
def test_decades_are_told_as_odds_and_never_rounded_up(rule: str, strength: float, said: str) -> None:
    words = how_sure(evidence(rule, strength))
    assert words.startswith("by chance at most")
    assert said in words


@pytest.mark.parametrize(("strength", "begins"), [(0.0, "not at all"), (-2.0, "not at all"), (1.3, "not enough: by")])
def test_less_than_what_convicts_is_not_told_as_sure(strength: float, begins: str) -> None:
    assert how_sure(evidence("error_ratio", strength)).startswith(begins)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("availability", "50 s down, 45 convict"),
        ("log_signature", "50 decades of a rate, 45 convict"),
        ("level", "50 decades of ranks, 45 convict"),
        ("alert", "50 s of firing, 45 convict"),
        ("somebody_elses", "50, 45 convict"),
    ],
)
def test_rules_without_statistics_claim_no_odds(rule: str, said: str) -> None:
    words = how_sure(evidence(rule, 50.0, 45.0))
    assert words == f"it persisted: {said} (this rule rests on persistence, not on odds)"
    assert how_sure(evidence(rule, 5.0, 45.0)).startswith("not yet: 5")


def test_a_rule_that_cannot_convict_is_not_sure_of_anything() -> None:
    assert how_sure(evidence(threshold=0.0)) == ""


@pytest.mark.parametrize(
    ("rule", "harmed", "said"),
    [
        ("error_ratio", None, ""),
        ("error_ratio", 0.2, "no request so far"),
        ("error_ratio", 1.0, "about 1 request failed beyond what is usual"),
        ("latency", 1.0, "about 1 request was slow beyond what is usual"),
        ("latency", 12_345.6, "about 12,346 requests were slow beyond what is usual"),
        ("traffic_loss", 30.0, "about 30 requests went missing beyond what is usual"),
        ("level", 30.0, "about 30 requests suffered beyond what is usual"),
    ],
)
def test_harm_is_counted_in_requests(rule: str, harmed: float | None, said: str) -> None:
    assert harm(msgspec.structs.replace(evidence(rule), harmed=harmed)) == said


@pytest.mark.parametrize(
    ("onset", "between", "said"),
    [
        (NOW - 5, None, "22:13:15.0, with the deployment"),
        (NOW + 90, None, "22:14:50.0, 1 min 30 s after the deployment"),
        (NOW - 90, None, "22:11:50.0, 1 min 30 s before the deployment"),
        (
            NOW + 90,
            (NOW + 80, NOW + 95),
            "22:14:50.0, 1 min 30 s after the deployment; between 22:14:40.0 and 22:14:55.0",
        ),
        (None, (NOW + 80, NOW + 95), "between 22:14:40.0 and 22:14:55.0"),
        (None, (NOW + 80, NOW + 80), "at 22:14:40.0"),
    ],
)
def test_when_it_began_is_told_from_the_deployment_on(
    onset: float | None, between: tuple[float, float] | None, said: str
) -> None:
    one = msgspec.structs.replace(evidence(), onset=onset, onset_between=between)
    assert dict(facts(one, NOW))["began"] == said


def test_where_less_is_worse_worse_begins_below() -> None:
    lost = msgspec.structs.replace(evidence("traffic_loss"), unit="1/s", baseline=12.0, observed=2.0, worse=6.0)
    assert dict(facts(lost, NOW))["worse begins"] == "below 6 per s"
    assert dict(facts(msgspec.structs.replace(lost, worse=20.0), NOW))["worse begins"] == "above 20 per s"


def test_the_guilty_rule_is_the_one_the_decision_names() -> None:
    whole = decision().decision
    assert guilty(whole) is whole.evidence[0]
    assert guilty(msgspec.structs.replace(whole, rule="latency")) is None
