"""The life of deployments: what follows from the events, from first sight to a proven rollback."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.detect.pack import PACK
from rollbackd.detect.settings import Rules
from rollbackd.engine import SNAPSHOT_FORMAT, Engine
from rollbackd.errors import Permanent
from rollbackd.model import AnyEvent, Decision, Standing, WatchChange
from tests.support.streams import START, Service, decisions, engine, play, told, weave
from tests.unit.detect.alone import alone

POLICY = Policy(bake=120, warmup=10, cooldown=300, verify_for=20, verify_within=100)
SICK = 0.5
"""An error ratio beyond doubt."""


def shop(**how: object) -> Service:
    settings: dict[str, object] = {"rate": 40.0, "every": 5.0, "timed": False, **how}
    return Service(**settings)  # type: ignore[arg-type]  # a test's shorthand


def baked(service: Service, version: str = "v1", since: float = -200) -> list[AnyEvent]:
    """A release that finishes its bake before moment 0."""
    return [*service.deploy(version, since), *service.run(since, 0)]


def summary(events: Iterable[AnyEvent], policy: Policy = POLICY) -> list[str]:
    return told(play(engine(policy), events))


# -- good ends


def test_what_is_there_at_first_sight_bakes_and_becomes_good() -> None:
    service, subject = shop(), engine(POLICY)
    outcomes = play(subject, [*service.deploy("v1", 0), *service.run(0, 200)])
    assert told(outcomes) == ["v1 opened", "v1 good"]
    opened, good = outcomes
    assert isinstance(opened, WatchChange)
    assert opened.reason == "first sight of what is running"
    assert good.t == START + 120
    assert subject.peek("shop").last_known_good == "v1"


def test_a_good_release_becomes_the_last_known_good() -> None:
    service, subject = shop(), engine(POLICY)
    outcomes = play(subject, [*baked(service), *service.deploy("v2", 0), *service.run(0, 200)])
    assert told(outcomes)[2:] == ["v2 opened", "v2 good"]
    peek = subject.peek("shop")
    assert (peek.current, peek.last_known_good, peek.verdict, peek.watch) == ("v2", "v2", "healthy", None)
    assert subject.rollback_target("shop") == "v1"


def test_while_it_bakes_the_end_of_the_watch_is_known() -> None:
    service, subject = shop(), engine(POLICY)
    play(subject, [*baked(service), *service.deploy("v2", 0), *service.run(0, 50)])
    peek = subject.peek("shop")
    assert peek.ends_at == START + 120
    assert peek.verdict == "healthy"
    assert {found.rule for found in peek.evidence} >= {"error_ratio", "availability", "alert"}


def test_a_release_that_warms_up_is_not_yet_called_healthy_whatever_it_is_forgiven() -> None:
    service, subject = shop(), engine(POLICY)
    play(subject, [*baked(service), *service.deploy("v2", 0), *service.run(0, POLICY.warmup, errors=1.0)])
    peek = subject.peek("shop")
    assert peek.judged_from == START + POLICY.warmup
    assert peek.verdict == "insufficient"
    assert "healthy" not in {one.verdict for one in peek.evidence}


# -- bad ends


def test_a_bad_release_is_rolled_back_once_to_the_last_known_good() -> None:
    service, subject = shop(), engine(POLICY)
    outcomes = play(subject, [*baked(service), *service.deploy("v2", 0), *service.run(0, 200, errors=SICK)])
    assert told(outcomes)[2:] == ["v2 opened", "v2 rollback to v1", "v2 condemned"]
    (decision,) = decisions(outcomes)
    assert decision.service == "shop"
    assert decision.rule == "error_ratio"
    assert decision.deployed_at == START
    assert 0 < decision.t - START < 30
    assert {one.verdict for one in decision.guards} == {"pass"}
    assert [one.rule for one in decision.evidence] == list(PACK)
    peek = subject.peek("shop")
    assert (peek.verdict, peek.watch) == ("degraded", None)


def rolled_back(service: Service, until: float = 200, **after: object) -> list[AnyEvent]:
    """A bad v2, and v1 put back 40 s after it came."""
    return [
        *baked(service),
        *service.deploy("v2", 0),
        *service.run(0, 40, errors=SICK),
        *service.deploy("v1", 40, previous="v2"),
        *service.run(40, until, **after),  # type: ignore[arg-type]  # a test's shorthand
    ]


def test_the_rollback_is_watched_until_the_old_baseline_is_back() -> None:
    service, subject = shop(), engine(POLICY)
    outcomes = play(subject, rolled_back(service))
    assert told(outcomes)[4:] == ["v2 condemned", "v1 opened", "v1 verified"]
    verified = outcomes[-1]
    assert isinstance(verified, WatchChange)
    assert verified.is_rollback
    assert 60 <= verified.t - START <= 100
    assert subject.recovery("shop", "v1")[0] == "healthy"
    assert subject.peek("shop").verdict == "healthy"


def test_while_it_is_verified_recovery_says_how_it_stands() -> None:
    service, subject = shop(), engine(POLICY)
    assert subject.recovery("shop", "v1") == ("insufficient", ())
    play(subject, rolled_back(service, until=55))
    verdict, evidence = subject.recovery("shop", "v1")
    assert verdict == "healthy"
    assert evidence
    assert subject.recovery("shop", "v9") == ("insufficient", ())


def test_a_rollback_that_does_not_help_ends_unrecovered_and_is_not_repeated() -> None:
    """The baseline is that from before the bad release, so trouble that goes on is seen as trouble."""
    service, subject = shop(), engine(POLICY)
    outcomes = play(subject, rolled_back(service, 400, errors=SICK))
    assert told(outcomes)[5:] == ["v1 opened", "v1 unrecovered"]
    assert outcomes[-1].t - START > 140
    assert subject.recovery("shop", "v1")[0] == "degraded"
    assert subject.peek("shop").verdict == "degraded"


def test_one_healthy_sample_and_silence_prove_no_recovery() -> None:
    """Samples go on, but there is nothing in them to count."""
    service = shop(probed=False)
    subject = alone("error_ratio", bake=120, warmup=10, verify_for=20, verify_within=100)
    outcomes = play(subject, [*rolled_back(service, 55), *service.run(55, 400, rate=0)])
    assert told(outcomes)[-2:] == ["v1 opened", "v1 unrecovered"]
    assert subject.recovery("shop", "v1")[0] == "insufficient"


def test_a_rollback_by_hand_is_judged_by_the_baseline_from_before_what_it_undoes() -> None:
    """Held back, so that a human does it. What fails less than under v2 but more than before it is not back yet."""
    frozen = POLICY.model_copy(
        update={
            "freeze": Policy.model_validate(
                {"freeze": [{"start": "2000-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}]}
            ).freeze
        }
    )
    service = shop()
    assert summary(rolled_back(service, 400, errors=0.05), frozen)[3:] == [
        "v2 hold to v1",
        "v2 superseded",
        "v1 opened",
        "v1 unrecovered",
    ]
    assert summary(rolled_back(shop()), frozen)[-1] == "v1 verified"


def test_a_rollback_whose_deployment_fails_leaves_the_release_good() -> None:
    service, subject = shop(), engine(POLICY)
    events = [*baked(service), *service.deploy("v2", 0), *service.run(0, 40, errors=SICK)]
    events += service.deploy("v1", 40, failed=True)
    assert told(play(subject, events))[-2:] == ["v1 opened", "v1 failed"]
    peek = subject.peek("shop")
    assert (peek.current, peek.last_known_good) == ("v2", "v1")


def test_a_bad_release_after_a_superseded_one_goes_back_past_it() -> None:
    service = shop()
    events = [*baked(service), *service.deploy("v2", 0), *service.run(0, 30), *service.deploy("v3", 30)]
    assert summary([*events, *service.run(30, 100, errors=SICK)])[2:] == [
        "v2 opened",
        "v2 superseded",
        "v3 opened",
        "v3 rollback to v1",
        "v3 condemned",
    ]


def test_where_no_release_is_known_to_be_good_people_are_told_once() -> None:
    service = shop()
    events = [*service.deploy("v1", -200, failed=True), *service.run(-200, 0)]
    events += [*service.deploy("v2", 0, previous="v1"), *service.run(0, 400, errors=SICK)]
    outcomes = play(engine(POLICY), events)
    assert told(outcomes)[2:] == ["v2 opened", "v2 escalate to None", "v2 condemned"]
    (decision,) = decisions(outcomes)
    assert decision.reason.endswith("; not rolled back: no release is known to be good")


def test_a_condemned_release_that_is_deployed_again_is_watched_again() -> None:
    service = shop()
    events = [*rolled_back(service), *service.deploy("v2", 400, previous="v1"), *service.run(400, 500, errors=SICK)]
    outcomes = play(engine(POLICY), events)
    assert told(outcomes)[-3:] == ["v2 opened", "v2 rollback to v1", "v2 condemned"]


def test_trouble_of_what_was_there_at_first_sight_makes_it_bake_anew() -> None:
    service = shop()
    events = [*service.deploy("v1", 0), *service.run(0, 60), *service.run(60, 90, up=False, metrics=False)]
    events += service.run(90, 160, up=False, metrics=False)
    assert summary([*events, *service.run(160, 200)]) == ["v1 opened"]
    assert summary([*events, *service.run(160, 700)]) == ["v1 opened", "v1 good"]


def test_while_the_trouble_of_what_was_there_lasts_its_baseline_is_not_taken_at_every_event() -> None:
    """Else an alert that fires for days makes every log line as costly as a deployment."""
    service, subject = shop(), engine(POLICY)
    play(subject, [*service.deploy("v1", 0), *service.run(0, 5), service.alert("Down", 5), *service.run(5, 100)])
    began = set()
    for event in service.run(100, 200, logs={"still down": 5}):
        subject.feed(event)
        watch = subject.peek("shop").watch
        assert watch is not None
        began.add(watch.bakes_from)
    assert 5 <= len(began) <= 100 / 12 + 2


def test_what_is_remembered_without_a_snapshot_can_be_gone_back_to() -> None:
    service, subject = shop(), engine(POLICY)
    known: list[tuple[str, Standing, float, float]] = [
        ("v2", "superseded", START - 500, START - 400),
        ("v1", "good", START - 900, START - 800),
        ("v3", "baking", START - 300, START - 300),
    ]
    subject.remember("shop", known, "v3")
    assert subject.peek("shop").current is None, "what was baking is to be found in place and watched again"
    subject.remember("shop", known, "v2")
    assert subject.peek("shop").current == "v2"
    events = [*service.run(-200, 0), *service.deploy("v4", 0), *service.run(0, 60, errors=SICK)]
    assert told(play(subject, events))[-2:] == ["v4 rollback to v1", "v4 condemned"]


# -- deployments that come in odd ways


def test_a_deployment_that_fails_is_over() -> None:
    service, subject = shop(), engine(POLICY)
    outcomes = play(
        subject, [*baked(service), *service.deploy("v2", 0, failed=True), *service.run(0, 200, errors=SICK)]
    )
    assert told(outcomes)[2:] == ["v2 opened", "v2 failed"]
    assert subject.peek("shop").current == "v1"


def test_two_deployments_in_one_second() -> None:
    service, subject = shop(), engine(POLICY)
    events = [*baked(service), *service.deploy("v2", 0.1, took=0.2), *service.deploy("v3", 0.4, took=0.2)]
    assert told(play(subject, [*events, *service.run(0, 200)]))[2:] == [
        "v2 opened",
        "v2 superseded",
        "v3 opened",
        "v3 good",
    ]
    assert subject.rollback_target("shop") == "v1"


def test_news_heard_twice_is_no_news() -> None:
    service = shop()
    twice = [event for event in service.deploy("v2", 0) for _ in range(3)]
    once = [*baked(shop()), *shop().deploy("v2", 0)]
    assert summary([*baked(service), *twice]) == summary(once)
    events = [*baked(service), *twice, *service.run(0, 200), *twice, *service.run(200, 300)]
    assert summary(events)[2:] == ["v2 opened", "v2 good"]


def test_news_of_an_earlier_deployment_that_come_late_undo_nothing() -> None:
    service, subject = shop(), engine(POLICY)
    late = list(shop().deploy("v2", 0))[1]
    events = [*baked(service), *list(service.deploy("v2", 0))[:1], *service.deploy("v3", 1), late]
    assert told(play(subject, [*events, *service.run(0, 200)]))[-2:] == ["v3 opened", "v3 good"]
    assert subject.peek("shop").current == "v3"


def test_a_deployment_that_is_only_ever_reported_finished() -> None:
    service = shop()
    finished = list(service.deploy("v2", 0))[1:]
    assert summary([*baked(service), *finished, *service.run(0, 200, errors=SICK)])[2:] == [
        "v2 opened",
        "v2 rollback to v1",
        "v2 condemned",
    ]


def test_a_deployment_that_names_itself_as_what_it_replaces() -> None:
    service = shop()
    events = [*service.deploy("v1", 0, previous="v1"), *service.run(0, 200)]
    assert summary(events) == ["v1 opened", "v1 good"]
    assert summary([*service.deploy("v1", 0, previous="v1"), *service.run(0, 100, up=False)]) == ["v1 opened"]
    events = [*baked(shop()), *service.deploy("v2", 0, previous="v2"), *service.run(0, 100, errors=SICK)]
    assert summary(events)[-2] == "v2 rollback to v1"


def test_the_release_before_that_nobody_watched_is_better_than_none() -> None:
    service = shop()
    events = [*service.run(-200, 0), *service.deploy("v2", 0, previous="v1"), *service.run(0, 100, errors=SICK)]
    assert summary(events) == ["v2 opened", "v2 rollback to v1", "v2 condemned"]


# -- silence


def test_silence_is_neither_good_nor_bad() -> None:
    service, subject = shop(), engine(POLICY)
    play(subject, [*baked(service), *service.deploy("v2", 0)])
    other = shop(name="cart")
    assert play(subject, other.run(0, 10_000)) == []
    assert subject.peek("shop").verdict == "insufficient"


@pytest.mark.parametrize(
    "nothing", [{"rate": 0.0}, {"up": False, "metrics": False}, {"metrics": False, "probed": False}]
)
def test_what_shows_nothing_at_work_makes_no_release_good(nothing: dict[str, object]) -> None:
    """Samples without requests, and a first release whose probes never succeeded."""
    service = shop(probed="up" in nothing, timed=True)
    nothing.pop("probed", None)
    events = [*service.deploy("v1", 0), *service.run(0, 400, **nothing)]  # type: ignore[arg-type]  # a shorthand
    assert summary(events) == ["v1 opened"]


def test_the_old_release_s_health_makes_no_canary_good() -> None:
    service = shop(labelled=True, probed=False)
    events = [*baked(service), *service.deploy("v2", 0), *service.run(0, 400, version="v1")]
    assert summary(events)[-1] == "v2 opened"
    assert summary([*events, *service.run(400, 430, version="v2")])[-1] == "v2 good"


def test_a_release_seen_only_at_first_is_not_good() -> None:
    """Somebody else's alerts go on being told, but the release itself is not seen again."""
    service, subject = shop(), engine(POLICY)
    play(subject, [*baked(service), *service.deploy("v2", 0), *service.run(0, 30)])
    alerts = [service.alert("Meh", 100 + k, severity="info") for k in range(300)]
    assert told(play(subject, alerts)) == []
    assert told(play(subject, service.run(400, 410))) == ["v2 good"]


# -- services side by side


def test_services_are_judged_each_by_itself() -> None:
    one, other = shop(), shop(name="cart", seed=2)
    first = [*baked(one), *one.deploy("v2", 0), *one.run(0, 200, errors=SICK)]
    second = [*baked(other, "c1"), *other.deploy("c2", 0), *other.run(0, 200)]
    outcomes = play(engine(POLICY), weave(first, second))
    assert {(one.service, one.version) for one in decisions(outcomes)} == {("shop", "v2")}


def test_two_bad_releases_at_once_do_not_excuse_each_other() -> None:
    """A service whose own release is on trial, or found guilty, proves no common cause."""
    one, other = shop(), shop(name="cart", seed=2)
    first = [*baked(one, since=-600), *one.deploy("v2", 0), *one.run(0, 60, errors=SICK)]
    second = [*baked(other, "c1", -600), *other.run(0, 15), *other.deploy("c2", 15), *other.run(15, 60, errors=0.3)]
    found = decisions(play(engine(POLICY), weave(first, second)))
    assert sorted(one.version for one in found) == ["c2", "v2"]


def test_trouble_in_what_a_service_depends_on_is_not_its_own_even_where_that_was_deployed() -> None:
    one, other = shop(), shop(name="db", seed=2)
    first = [*baked(one, since=-600), *one.run(0, 10), *one.deploy("v2", 10), *one.run(10, 100, errors=0.3)]
    second = [*baked(other, "d1", -600), *other.deploy("d2", 0), *other.run(0, 100, errors=0.3)]
    dependent = POLICY.model_copy(update={"depends_on": ("db", "shop", "ghost")})
    subject = Engine(lambda name: dependent if name == "shop" else POLICY, FleetPolicy())
    assert [one.version for one in decisions(play(subject, weave(first, second)))] == ["d2"]


def test_a_service_that_depends_on_itself_is_judged_all_the_same() -> None:
    service = shop()
    dependent = POLICY.model_copy(update={"depends_on": ("shop",)})
    events = [*baked(service, since=-600), *service.deploy("v2", 0), *service.run(0, 100, errors=0.3)]
    assert summary(events, dependent)[3] == "v2 rollback to v1"


def test_a_service_never_heard_of_is_unknown() -> None:
    subject = engine(POLICY)
    peek = subject.peek("ghost")
    assert (peek.current, peek.last_known_good, peek.verdict, peek.watch) == (None, None, "insufficient", None)
    assert subject.rollback_target("ghost") is None


def test_signals_without_any_deployment_lead_to_nothing() -> None:
    service = shop()
    assert summary(service.run(0, 500, errors=SICK, logs={"boom": 1}, up=False)) == []


# -- policies and snapshots


def test_policies_may_change_in_the_middle_of_a_bake() -> None:
    service, subject = shop(), engine(POLICY)
    play(subject, [*baked(service), *service.deploy("v2", 0), *service.run(0, 50)])
    longer = POLICY.model_copy(update={"bake": 300.0})
    subject.use(lambda _name: longer, FleetPolicy())
    assert told(play(subject, service.run(50, 200))) == []
    assert told(play(subject, service.run(200, 320))) == ["v2 good"]


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x93\x01\x02", b"\x80extra"])
def test_a_damaged_snapshot_is_refused_and_changes_nothing(damage: bytes) -> None:
    service, subject = shop(), engine(POLICY)
    play(subject, baked(service))
    before = subject.snapshot()
    with pytest.raises(Permanent, match="snapshot is damaged"):
        subject.restore(damage, SNAPSHOT_FORMAT)
    with pytest.raises(Permanent, match="format"):
        subject.restore(before, SNAPSHOT_FORMAT + 1)
    assert subject.snapshot() == before


def test_a_decision_is_plain_data() -> None:
    service = shop()
    (decision,) = decisions(
        play(engine(POLICY), [*baked(service), *service.deploy("v2", 0), *service.run(0, 100, errors=SICK)])
    )
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


# -- a third deployment soon after a rollback


def test_our_own_rollback_is_one_even_to_a_release_seen_after_the_bad_one() -> None:
    """v2 is bad, v3 is good, v2 is deployed again: going back to v3 undoes v2, whichever was seen first."""
    service, subject = shop(), engine(POLICY)
    play(subject, rolled_back(service))
    bake = POLICY.bake
    play(subject, [*service.deploy("v3", 1000), *service.run(1000, 1000 + 2 * bake)])
    assert subject.peek("shop").last_known_good == "v3"
    again = 1000 + 2 * bake + 700
    play(subject, [*service.run(again - 60, again), *service.deploy("v2", again)])
    outcomes = told(play(subject, service.run(again, again + 100, errors=SICK)))
    assert outcomes[:2] == ["v2 rollback to v3", "v2 condemned"]
    back = [*service.deploy("v3", again + 101, previous="v2"), *service.run(again + 101, again + 150, errors=SICK)]
    (opened,) = play(subject, back)
    assert isinstance(opened, WatchChange)
    assert opened.is_rollback
    assert subject.recovery("shop", "v3")[0] == "degraded", "it is measured by what was before the bad release"


def test_what_a_condemned_release_left_is_nobodys_baseline() -> None:
    """Fixing forward after a rollback is what comes next: the fix is judged as if the bad release had never been."""
    service, subject = shop(), engine(POLICY)
    play(subject, rolled_back(service))
    events = [*service.run(200, 300), *service.deploy("v3", 300), *service.run(300, 400, errors=0.05)]
    later = Policy(**{**dict(POLICY), "cooldown": 0})
    subject.use(lambda _name: later, FleetPolicy())
    assert told(play(subject, events))[-2:] == ["v3 rollback to v1", "v3 condemned"]


def test_what_fails_at_the_end_of_its_bake_is_not_called_good() -> None:
    """A rule may lack the evidence to convict, yet a release whose every probe fails is no place to go back to."""
    quiet = Policy(bake=120, warmup=10, cooldown=300, verify_for=20, rules=Rules(error_ratio=None, alert=None))
    service, subject = shop(), engine(quiet)
    outcomes = play(subject, [*baked(service), *service.deploy("v2", 0), *service.run(0, 95)])
    outcomes += play(subject, service.run(95, 125, up=False))
    assert "v2 good" not in told(outcomes)


def test_a_change_of_a_watch_tells_what_the_rules_knew() -> None:
    service, subject = shop(), engine(POLICY)
    outcomes = play(subject, [*baked(service), *service.deploy("v2", 0), *service.run(0, 300)])
    good = next(one for one in outcomes if isinstance(one, WatchChange) and one.version == "v2" and one.state == "good")
    assert {one.rule: one.verdict for one in good.evidence}["error_ratio"] == "healthy"


def test_a_service_is_not_healthy_while_a_rule_that_saw_it_cannot_tell() -> None:
    service, subject = shop(), engine(POLICY)
    play(subject, [*service.deploy("v1", 0), *service.run(0, 20)])
    assert subject.peek("shop").verdict == "insufficient"
