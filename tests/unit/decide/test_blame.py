"""Whose fault it is: what else may explain the trouble that a release is charged with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from rollbackd.decide.blame import MAX_NEIGHBOURS, Deployed, Other, comparable, other_explanation
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.detect.base import Charge, Trouble
from rollbackd.detect.history import History
from rollbackd.engine import Engine
from rollbackd.model import AnyEvent, Gauge
from tests.support.streams import START, Service, decisions, play, weave
from tests.unit.detect.alone import alone, convicted

NOW = START + 300
DEPLOYED = Deployed(began_at=START, finished_at=START + 1, warmup=60.0)
QUEUE = "queue_length"


def history(events: Iterable[AnyEvent]) -> History:
    remembered = History()
    for event in events:
        remembered.add(event)
    return remembered


def service(name: str = "cart", seed: int = 1) -> Service:
    return Service(name, seed=seed, rate=10, every=10)


def neighbour(began: float = 0.0, ended: float = 300.0, **trouble: Any) -> History:
    """Forty minutes of health, then trouble from `began` until `ended`, seconds after the deployment; all until now."""
    subject = service()
    events = [*subject.run(-2400, began), *subject.run(began, ended, **trouble)]
    return history([*events, *subject.run(ended, 300)])


def charge(trouble: Trouble = "errors", size: float = 0.2, since: float = 0.0, detail: str = "") -> Charge:
    return Charge(trouble=trouble, since=START + since, latest=START + since, size=size, detail=detail)


def explained(
    charged: Charge,
    other: History,
    *,
    deployed: Deployed = DEPLOYED,
    deployed_at: float | None = None,
    is_dependency: bool = False,
    is_caller: bool = False,
    own: History | None = None,
) -> str | None:
    seen = Other("cart", other, deployed_at, is_dependency, is_caller)
    return other_explanation(charged, deployed, own or neighbour(errors=0.2), lambda: [seen], NOW)


TROUBLES: list[tuple[Trouble, float, dict[str, Any]]] = [
    ("errors", 0.2, {"errors": 0.2}),
    ("latency", 3.0, {"slower": 3.0}),
    ("traffic", 0.05, {"rate": 1.0}),
    ("probe", 120.0, {"up": False}),
    ("log", 0.0, {"logs": {"disk is full": 1.0}}),
]


# -- shared with a service where nothing was deployed


@pytest.mark.parametrize(("trouble", "size", "how"), TROUBLES, ids=[one[0] for one in TROUBLES])
def test_trouble_shared_with_a_service_where_nothing_was_deployed_is_explained(
    trouble: Trouble, size: float, how: dict[str, Any]
) -> None:
    charged = charge(trouble, size, 120.0, "disk is full")
    assert explained(charged, neighbour(120, **how)) == "cart, where nothing was deployed, is in the same trouble"
    assert explained(charged, neighbour()) is None


@pytest.mark.parametrize(
    ("trouble", "how"),
    [("errors", {"slower": 3.0}), ("latency", {"up": False}), ("log", {"logs": {"other trouble": 1.0}})],
)
def test_other_trouble_is_not_the_same(trouble: Trouble, how: dict[str, Any]) -> None:
    quiet = neighbour()
    assert explained(charge(trouble, 2.0, 120.0, "disk is full"), neighbour(120, **how), own=quiet) is None


def test_slow_here_and_failing_there_may_be_one_trouble() -> None:
    """A shared database that is overloaded makes one service slow, and another that waits less long fail."""
    own = neighbour(120, slower=3.0, errors=0.2)
    assert explained(charge("latency", 3.0, 120.0), neighbour(120, errors=0.2), own=own) is not None


def test_a_level_that_rises_elsewhere_as_well_is_shared() -> None:
    def queue(high: float) -> History:
        values = [(t, high if t > 120 else 10.0) for t in range(-3600, 301, 10)]
        return history(Gauge(t=START + t, service="cart", name=QUEUE, value=value) for t, value in values)

    charged = charge("level", 5.0, 120.0, QUEUE)
    assert explained(charged, queue(50.0)) is not None
    assert explained(charged, queue(11.0)) is None
    assert explained(charge("level", 5.0, 120.0, "other_queue"), queue(50.0)) is None


def test_the_same_alert_counts_while_it_fires() -> None:
    subject = service()
    firing = [*subject.run(-3600, 300), subject.alert("Down", 130)]
    own = neighbour()
    assert explained(charge("alert", since=120.0, detail="Down"), history(firing), own=own) is not None
    assert explained(charge("alert", since=120.0, detail="Slow"), history(firing), own=own) is None
    over = history([*firing, subject.alert("Down", 200, "resolved")])
    assert explained(charge("alert", since=120.0, detail="Down"), over, own=own) is None


def test_an_alert_or_a_message_in_the_middle_of_shared_trouble_is_explained_by_that() -> None:
    """Both services fail; that only one has an alert about it, or logs it, changes nothing."""
    for trouble in ("alert", "log"):
        charged = charge("alert" if trouble == "alert" else "log", since=150.0, detail="ErrorBudgetBurn")
        assert explained(charged, neighbour(120, errors=0.2), own=neighbour(120, errors=0.2)) is not None
        assert explained(charged, neighbour(), own=neighbour(120, errors=0.2)) is None
        assert explained(charged, neighbour(120, errors=0.2), own=neighbour()) is None


def test_an_error_it_has_always_logged_is_not_the_same_trouble() -> None:
    always = history(service().run(-7200, 300, logs={"disk is full": 0.1}))
    assert explained(charge("log", since=120.0, detail="disk is full"), always, own=neighbour()) is None


# -- how much, and when


@pytest.mark.parametrize(("theirs", "shared"), [(0.2, True), (0.1, True), (0.004, False)])
def test_only_trouble_of_comparable_size_is_shared(theirs: float, shared: bool) -> None:
    assert (explained(charge("errors", 0.3, 120.0), neighbour(120, errors=theirs)) is not None) is shared


def test_trouble_that_was_over_before_is_not_the_same() -> None:
    before = neighbour(-600, -300, errors=0.3)
    assert explained(charge(since=120.0), before) is None


def test_a_service_that_fell_silent_shares_nothing() -> None:
    subject = service()
    silent = history([*subject.run(-3600, -50), *subject.run(-50, 100, errors=0.5)])
    assert explained(charge(since=0.0), silent) is None
    assert explained(charge(since=0.0), history([*subject.run(-3600, -50), *subject.run(-50, 300, errors=0.5)]))


def test_a_service_never_heard_of_before_has_no_usual() -> None:
    assert explained(charge(since=120.0), history(service().run(0, 300, errors=0.9))) is None


def test_what_began_before_the_deployment_is_not_its_doing_whoever_else_suffers() -> None:
    found = explained(charge(since=-90.0), neighbour())
    assert found is not None
    assert "before the deployment" in found
    assert "90 s" in found
    unsure = Charge(trouble="errors", since=START - 90, latest=START + 20, size=0.2)
    assert explained(unsure, neighbour()) is None, "it may have begun with it"
    unknown = Charge(trouble="errors", since=START - 90, latest=None, size=0.2)
    assert explained(unknown, neighbour()) is None


# -- those who call us, and those we call


def test_one_that_suffers_less_from_trouble_that_began_with_the_deployment_is_no_excuse() -> None:
    """It calls us, most likely. Where it suffers more, or did before us, it is no such thing."""
    assert explained(charge(size=0.3), neighbour(errors=0.1)) is None
    assert explained(charge("latency", 3.0), neighbour(slower=1.5)) is None
    assert explained(charge(size=0.2), neighbour(errors=0.5)) is not None
    assert explained(charge(size=0.3, since=30.0), neighbour(-120, errors=0.1)) is not None


def test_trouble_that_began_long_after_the_deployment_needs_no_caller_to_explain_it() -> None:
    assert explained(charge(size=0.3, since=200.0), neighbour(200, errors=0.1)) is not None


def test_a_deployment_that_is_slow_to_finish_is_one_until_it_has() -> None:
    slow = Deployed(began_at=START, finished_at=START + 200, warmup=60.0)
    assert explained(charge(size=0.3, since=150.0), neighbour(150, errors=0.1), deployed=slow) is None
    assert explained(charge(size=0.3, since=150.0), neighbour(150, errors=0.1)) is not None


def test_a_declared_dependency_is_believed_however_little_it_suffers_and_whatever_was_deployed_there() -> None:
    found = explained(charge(size=0.3), neighbour(errors=0.1), is_dependency=True, deployed_at=START - 60)
    assert found == "cart, which it depends on, is in the same trouble"
    assert explained(charge(size=0.3), neighbour(), is_dependency=True) is None


@pytest.mark.parametrize("since", [0.0, 200.0])
def test_a_declared_caller_is_no_witness(since: float) -> None:
    assert explained(charge(since=since), neighbour(since, errors=0.9), is_caller=True) is None


# -- two deployments


@pytest.mark.parametrize(
    ("deployed_at", "is_explained"),
    [
        (100.0, True),  # later than ours, and just before it began
        (-100.0, False),  # earlier than ours
        (250.0, False),  # after it began
    ],
)
def test_of_two_deployments_the_one_nearer_before_the_onset_is_the_likelier_cause(
    deployed_at: float, is_explained: bool
) -> None:
    found = explained(charge(since=120.0), neighbour(120, errors=0.3), deployed_at=START + deployed_at)
    assert (found is not None) is is_explained
    assert found is None or "was deployed later" in found


def test_a_nearer_deployment_of_a_service_that_is_well_explains_nothing() -> None:
    assert explained(charge(since=120.0), neighbour(), deployed_at=START + 100) is None


# -- how many are asked


def test_not_all_are_asked_and_the_silent_ones_do_not_count() -> None:
    asked: list[str] = []

    def others(last_at: float) -> Iterator[Other]:
        for k in range(10_000):
            asked.append(str(k))
            yield Other(str(k), History(last_at=last_at))

    assert len(list(comparable(others(NOW), NOW))) == MAX_NEIGHBOURS
    assert len(asked) <= MAX_NEIGHBOURS + 1
    asked.clear()
    assert list(comparable(others(NOW - 1000), NOW)) == []
    assert len(asked) <= 4 * MAX_NEIGHBOURS + 1


def test_the_first_that_explains_it_is_named() -> None:
    sick = neighbour(120, errors=0.4)
    others = [Other("a", neighbour()), Other("b", sick), Other("c", sick)]
    found = other_explanation(charge(since=120.0), DEPLOYED, neighbour(), lambda: others, NOW)
    assert found is not None
    assert found.startswith("b, ")


def test_where_nobody_else_is_watched_nothing_explains_it() -> None:
    assert other_explanation(charge(), DEPLOYED, neighbour(), list, NOW) is None


# -- in the engine


def test_a_firing_alert_of_an_incident_that_was_shared_stays_excused() -> None:
    """It goes on firing when the incident is over, as alerts do; firing anew after that it is a new one."""
    for anew, guilty in ((False, False), (True, True)):
        ours, theirs = Service("shop", every=10.0, probed=False), Service("cart", every=10.0, probed=False, seed=2)
        events = [*ours.deploy("v1", -1200), *ours.run(-1200, 0), *ours.deploy("v2", 0), *ours.run(0, 200)]
        events += [*ours.run(200, 420, errors=0.3), *ours.run(420, 1500)]
        beside = [*theirs.run(-1200, 200), *theirs.run(200, 420, errors=0.3), *theirs.run(420, 1500)]
        alerts = [ours.alert("ErrorBudgetBurn", 300)]
        if anew:
            alerts += [ours.alert("ErrorBudgetBurn", 800, "resolved"), ours.alert("ErrorBudgetBurn", 1000)]
        assert (convicted(alone("alert"), weave(events, beside, alerts)) is not None) is guilty


def two(depends_on: dict[str, tuple[str, ...]]) -> Engine:
    policies = {name: Policy(depends_on=depends_on.get(name, ())) for name in ("shop", "cart")}
    return Engine(lambda name: policies[name], FleetPolicy())


@pytest.mark.parametrize(
    ("depends_on", "blamed"),
    [({}, True), ({"cart": ("shop",)}, True), ({"shop": ("cart",)}, False)],
    ids=["nothing declared", "it calls us", "we call it"],
)
def test_who_depends_on_whom_decides_between_two_that_fail_alike(
    depends_on: dict[str, tuple[str, ...]], blamed: bool
) -> None:
    """Both fail from the deployment on, the service that was deployed more than the other."""
    ours, theirs = service("shop"), service("cart", 2)
    events = [*ours.deploy("v1", -1200), *ours.run(-1200, 0), *ours.deploy("v2", 0), *ours.run(0, 400, errors=0.3)]
    beside = [*theirs.run(-1200, 0), *theirs.run(0, 400, errors=0.15)]
    found = decisions(play(two(depends_on), weave(events, beside)))
    assert [one.service for one in found] == (["shop"] if blamed else [])


def test_what_is_explained_tells_nothing_about_the_release() -> None:
    """Neither degraded nor healthy, while it lasts."""
    ours, theirs = service("shop"), service("cart", 2)
    events = [*ours.deploy("v1", -1200), *ours.run(-1200, 0), *ours.deploy("v2", 0), *ours.run(0, 200)]
    events += ours.run(200, 500, errors=0.3)
    beside = [*theirs.run(-1200, 200), *theirs.run(200, 500, errors=0.4)]
    subject = two({})
    assert decisions(play(subject, weave(events, beside))) == []
    assert subject.peek("shop").verdict == "insufficient"
    assert decisions(play(subject, weave(ours.run(500, 900), theirs.run(500, 900)))) == []
    assert subject.peek("shop").verdict == "healthy"


def test_trouble_that_outlasts_the_shared_incident_is_blamed_on_the_release() -> None:
    ours, theirs = service("shop"), service("cart", 2)
    events = [*ours.deploy("v1", -1200), *ours.run(-1200, 0), *ours.deploy("v2", 0), *ours.run(0, 200)]
    events += ours.run(200, 2800, errors=0.3)
    beside = [*theirs.run(-1200, 200), *theirs.run(200, 500, errors=0.4), *theirs.run(500, 2800)]
    (decision,) = decisions(play(two({}), weave(events, beside)))
    assert 500 < decision.t - START < 2800


# -- the day before


@pytest.mark.parametrize(
    ("rule", "trouble"),
    [("error_ratio", {"errors": 0.2}), ("latency", {"slower": 4.0}), ("traffic_loss", {"rate": 0.1})],
)
@pytest.mark.parametrize("every_day", [True, False])
def test_what_was_the_same_at_this_time_the_day_before_is_not_held_against_it(
    rule: str, trouble: dict[str, Any], every_day: bool
) -> None:
    """A job that runs at night, every night, or this night only."""
    subject, night, day = Service(rate=1, every=60, probed=False), (1200.0, 4800.0), 86_400.0
    before = trouble if every_day else {}
    events = [*subject.deploy("v1", -day - 7200), *subject.run(-day - 7200, night[0] - day)]
    events += [*subject.run(night[0] - day, night[1] - day, **before), *subject.run(night[1] - day, 0)]
    events += [*subject.deploy("v2", 0), *subject.run(0, night[0]), *subject.run(*night, **trouble)]
    assert (convicted(alone(rule, bake=7200), events) is None) == every_day
