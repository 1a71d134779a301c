"""Rule `alert`: somebody else's judgement."""

from __future__ import annotations

import msgspec
import pytest

from rollbackd.model import AlertStatus, AnyEvent
from tests.support.streams import START, Service, weave
from tests.unit.detect.alone import alone, convicted, convicted_after, evidence


def shop(name: str = "shop") -> Service:
    return Service(name, every=10.0, timed=False, probed=False)


def released(service: Service, *alerts: AnyEvent, until: float = 600) -> list[AnyEvent]:
    quiet = [*service.deploy("v1", -600), *service.run(-600, 0), *service.deploy("v2", 0), *service.run(0, until)]
    return list(weave(quiet, sorted(alerts, key=lambda one: one.t)))


def test_an_alert_that_stays_convicts() -> None:
    service = shop()
    after = convicted_after(alone("alert"), released(service, service.alert("Down", 100)))
    assert after is not None
    assert 100 + 60 <= after <= 100 + 120


@pytest.mark.parametrize("lasting", ["0s", "30s", "5m"])
def test_how_long_it_must_stay_is_the_operator_s(lasting: str) -> None:
    service = shop()
    after = convicted_after(alone("alert", {"lasting": lasting}), released(service, service.alert("Down", 105)))
    assert after == {"0s": 110, "30s": 140, "5m": 410}[lasting]


def test_an_alert_that_resolves_in_time_does_not() -> None:
    service = shop()
    events = released(service, service.alert("Down", 100), service.alert("Down", 150, "resolved"))
    assert convicted(alone("alert"), events) is None


def test_an_alert_from_before_is_not_held_against_the_release() -> None:
    """Neither where it goes on firing, nor where it is told anew with the moment it began."""
    service = shop()
    events = released(service, service.alert("Down", -50), service.alert("Down", -50), until=900)
    assert convicted(alone("alert"), [*events, service.alert("Down", -50), *service.run(900, 1000)]) is None


def test_an_alert_from_long_before_that_is_only_heard_of_afterwards_is_not_held_against_the_release() -> None:
    service = shop()
    heard = msgspec.structs.replace(service.alert("Down", 100), began=START - 3000)
    assert convicted(alone("alert"), released(service, heard, until=900)) is None


def test_the_end_of_one_pods_alert_is_not_the_end_of_anothers() -> None:
    """A roll-out takes pods away, and their alerts end with them, while those that stay go on firing."""
    service = shop()

    def pod(name: str, at: float, status: AlertStatus = "firing") -> AnyEvent:
        return msgspec.structs.replace(service.alert("Down", at, status), instance=name)

    first = [pod("a", 100), pod("b", 110), pod("a", 120, "resolved")]
    after = convicted_after(alone("alert"), released(service, *first))
    assert after is not None
    assert 100 + 60 <= after <= 100 + 120
    assert convicted(alone("alert"), released(service, *first, pod("b", 150, "resolved"))) is None


def test_an_alert_that_resolved_and_fires_anew_is_a_new_one() -> None:
    service = shop()
    alerts = [service.alert("Down", -50), service.alert("Down", 30, "resolved"), service.alert("Down", 100)]
    assert convicted_after(alone("alert", {"lasting": "90s"}), released(service, *alerts)) == 190


@pytest.mark.parametrize(
    ("severity", "guilty"), [("critical", True), ("PAGE", True), ("warning", False), ("", False), ("none", False)]
)
def test_only_some_severities_convict(severity: str, guilty: bool) -> None:
    service = shop()
    events = released(service, service.alert("Down", 100, severity=severity))
    assert (convicted(alone("alert"), events) is not None) == guilty


def test_an_alert_that_fires_for_a_neighbour_as_well_is_not_blamed_on_the_release() -> None:
    service, other = shop(), shop("cart")
    neighbour = [*other.deploy("c1", -600), *other.run(-600, 0), other.alert("Down", 90), *other.run(90, 600)]
    assert convicted(alone("alert"), weave(released(service, service.alert("Down", 100)), neighbour)) is None
    assert convicted(alone("alert"), weave(released(shop(), service.alert("Slow", 100)), neighbour)) is not None


def test_no_alert_is_no_sign_of_health() -> None:
    service, subject = shop(), alone("alert")
    assert convicted(subject, released(service)) is None
    assert evidence(subject).verdict == "insufficient"


def test_the_evidence_names_the_alert() -> None:
    service = shop()
    decision = convicted(alone("alert", {"lasting": "90s"}), released(service, service.alert("Down", 100)))
    assert decision is not None
    (found,) = decision.evidence
    assert found.summary == "alert Down has been firing for 90 s"
    assert found.onset == START + 100


def test_an_alert_in_the_middle_of_an_incident_that_others_share_is_excused() -> None:
    """Its own service fails, another that was not deployed fails likewise, and somebody's alert says so."""
    for others_fail, found in ((0.3, False), (0.0, True)):
        ours = Service("shop", every=10.0, timed=False, probed=False)
        theirs = Service("dependency-user", every=10.0, timed=False, probed=False, seed=2)
        events = [
            *ours.deploy("v1", -1200), *ours.run(-1200, 0), *ours.deploy("v2", 0),
            *ours.run(0, 200), *ours.run(200, 600, errors=0.3),
        ]  # fmt: skip
        beside = [*theirs.run(-1200, 200), *theirs.run(200, 600, errors=others_fail)]
        alerts = [ours.alert("ErrorBudgetBurn", 300)]
        assert (convicted(alone("alert"), list(weave(events, beside, alerts))) is not None) is found
