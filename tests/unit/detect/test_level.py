"""Rule `level`: queues that grow without end and memory that fills up, and what merely goes up and down."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import pytest

from rollbackd.detect.level import MAX_LEVELS, kind_of
from rollbackd.detect.settings import LevelSettings
from rollbackd.model import AnyEvent, Gauge
from tests.support.streams import START, Service, decisions, play, weave
from tests.unit.detect.alone import alone, convicted, convicted_after, evidence

QUEUE, MEMORY = "queue_length", "memory_usage_ratio"


def shop(**how: object) -> Service:
    return Service(**{"rate": 20.0, "every": 10.0, "timed": False, "probed": False, **how})  # type: ignore[arg-type]


def gauge(
    begin: float,
    end: float,
    value: Callable[[float], float],
    *,
    name: str = QUEUE,
    service: str = "shop",
    version: str | None = None,
    seed: int = 1,
) -> list[AnyEvent]:
    """A sample every ten seconds, of which each scatters by a seventh around what `value` says of its moment."""
    drawn = random.Random(f"{seed}/{begin}")
    moments = [begin + 10 * k for k in range(1, round((end - begin) / 10) + 1)]
    values = [value(t) * math.exp(drawn.gauss(0, 0.15)) for t in moments]
    return [
        Gauge(t=START + t, service=service, version=version, name=name, value=min(v, 1.0) if name == MEMORY else v)
        for t, v in zip(moments, values, strict=True)
    ]


def released(after: Iterable[AnyEvent], *, before: Iterable[AnyEvent] = (), until: float = 1800) -> list[AnyEvent]:
    """An hour of v1, then v2 at moment 0; its gauge is as given."""
    service = shop()
    usual = [*service.deploy("v1", -3600), *service.run(-3600, 0), *service.deploy("v2", 0), *service.run(0, until)]
    return list(weave(usual, [*(before or gauge(-3600, 0, lambda _: 10.0)), *after]))


def growing(t: float) -> float:
    """From ten on by one every five seconds."""
    return 10.0 + max(t, 0.0) / 5


@pytest.mark.parametrize("seed", range(4))
def test_a_queue_that_grows_without_end_is_found(seed: int) -> None:
    after = convicted_after(alone("level"), released(gauge(0, 1800, growing, seed=seed)))
    assert after is not None
    assert 60 < after < 900


@pytest.mark.parametrize("seed", range(4))
def test_memory_that_fills_up_is_found_before_it_is_full(seed: int) -> None:
    before = gauge(-3600, 0, lambda _: 0.4, name=MEMORY, seed=seed)
    leak = [
        Gauge(t=START + t, service="shop", name=MEMORY, value=min(0.4 + t / 2400, 1.0)) for t in range(10, 1800, 10)
    ]
    after = convicted_after(alone("level"), released(leak, before=before))
    assert after is not None
    assert after < 1440, "when it is full"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "value",
    [
        lambda t: 10.0,
        lambda t: 10.0 + 4 * math.sin(t / 300),
        lambda t: 14.0,  # higher than before, and no more than that
        lambda t: 10.0 + 0.002 * max(t, 0.0),  # the time of day
    ],
    ids=["steady", "waves", "a step", "a slow rise"],
)
def test_what_merely_goes_up_and_down_is_let_pass(value: Callable[[float], float], seed: int) -> None:
    events = released(gauge(0, 1800, value, seed=seed), before=gauge(-3600, 0, value, seed=seed + 50))
    assert convicted(alone("level"), events) is None


@pytest.mark.parametrize("times", [3.0, 6.0])
def test_a_queue_that_is_long_but_does_not_grow_is_let_pass(times: float) -> None:
    """A new level is no backlog that will never be worked off."""
    found = []
    for seed in range(8):
        step = [*gauge(0, 300, lambda _: 10.0, seed=seed), *gauge(300, 1800, lambda _: times * 10.0, seed=seed)]
        found += [seed] if convicted(alone("level"), released(step)) is not None else []
    assert len(found) <= 1, "growth is told at 3.5 standard errors, about fifty times in half an hour"


def test_a_peak_of_two_minutes_is_let_pass() -> None:
    found = []
    for seed in range(8):
        peak = [
            *gauge(0, 300, lambda _: 10.0, seed=seed),
            *gauge(300, 420, lambda _: 80.0, seed=seed),
            *gauge(420, 1800, lambda _: 10.0, seed=seed),
        ]
        found += [seed] if convicted(alone("level"), released(peak)) is not None else []
    assert found == []


def test_a_short_peak_is_let_pass() -> None:
    for seed in range(8):
        peak = [
            *gauge(0, 300, lambda _: 10.0, seed=seed),
            *gauge(300, 360, lambda _: 80.0, seed=seed),
            *gauge(360, 1800, lambda _: 10.0, seed=seed),
        ]
        assert convicted(alone("level"), released(peak)) is None


def test_a_queue_may_be_as_long_as_the_load_is_high() -> None:
    service = shop()
    usual = [*service.deploy("v1", -3600), *service.run(-3600, 0), *service.deploy("v2", 0)]
    rush = [one for k in range(180) for one in service.run(10 * k, 10 * k + 10, rate=20.0 * (1 + k / 20))]
    queue = [*gauge(-3600, 0, lambda _: 10.0), *gauge(0, 1800, lambda t: 10.0 * (1 + t / 200))]
    assert convicted(alone("level"), weave([*usual, *rush], queue)) is None


def test_memory_far_from_its_limit_may_grow() -> None:
    before = gauge(-3600, 0, lambda _: 0.2, name=MEMORY)
    grows = [Gauge(t=START + t, service="shop", name=MEMORY, value=0.2 + t / 6000) for t in range(10, 1800, 10)]
    assert convicted(alone("level"), released(grows, before=before)) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("queue_length", "backlog"),
        ("kafka_consumer_lag", "backlog"),
        ("jobsPending", "backlog"),
        ("http.requests.waiting", "backlog"),
        ("process_memory_ratio", "usage"),
        ("jvm_heap_used", "usage"),
        ("diskUsage", "usage"),
        ("cpu_seconds", None),
        ("temperature", None),
        ("flag_enabled", None),
        ("memorable", None),
        ("", None),
    ],
)
def test_what_a_gauge_is_follows_from_the_words_of_its_name(name: str, kind: str | None) -> None:
    assert kind_of(name, LevelSettings()) == kind


def test_other_gauges_are_not_judged() -> None:
    """CPU and the like do no harm in themselves; what they do to requests shows elsewhere."""
    before = gauge(-3600, 0, lambda _: 10.0, name="cpu_percent")
    subject = alone("level")
    assert convicted(subject, released(gauge(0, 1800, growing, name="cpu_percent"), before=before)) is None
    assert evidence(subject).verdict == "insufficient"


def test_the_words_are_the_operator_s() -> None:
    before = gauge(-3600, 0, lambda _: 10.0, name="parcels")
    events = released(gauge(0, 1800, growing, name="parcels"), before=before)
    assert convicted(alone("level"), events) is None
    assert convicted(alone("level", {"backlogs": ["parcels"]}), events) is not None
    assert convicted(alone("level", {"backlogs": ["parcels"], "factor": 100}), events) is None


def test_without_a_baseline_no_level_is_unusual() -> None:
    subject = alone("level")
    few = gauge(-100, 0, lambda _: 10.0)
    assert convicted(subject, released(gauge(0, 1800, growing), before=few)) is None
    assert evidence(subject).verdict == "insufficient"


def test_growth_from_before_is_not_held_against_the_release() -> None:
    """The queue had grown as high, and the release came into the middle of that."""
    wave = gauge(-3600, 0, lambda t: 10.0 + max(t + 1800, 0.0) / 5)
    assert convicted(alone("level"), released(gauge(0, 600, lambda t: 370.0 + t / 5), before=wave, until=600)) is None


def test_silence_is_no_level() -> None:
    subject = alone("level")
    assert convicted(subject, released([*gauge(0, 60, lambda _: 10.0), *gauge(1700, 1800, lambda _: 10.0)])) is None


def test_growth_shared_with_another_service_is_not_blamed_on_the_release() -> None:
    for shared in (True, False):
        other = shop(name="cart", seed=2)
        beside = [*other.deploy("c1", -3600), *other.run(-3600, 1800)]
        theirs = gauge(-3600, 1800, growing if shared else lambda _: 10.0, service="cart", seed=3)
        outcomes = play(alone("level"), weave(released(gauge(0, 1800, growing)), beside, theirs))
        assert [one.service for one in decisions(outcomes)] == ([] if shared else ["shop"])


def test_a_canary_s_queue_is_told_from_the_old_release_s() -> None:
    """Each under its own label; the old one's goes on beside it."""
    before = gauge(-3600, 0, lambda _: 10.0, version="v1")
    for guilty in (True, False):
        growing_one, steady_one = ("v2", "v1") if guilty else ("v1", "v2")
        both = [
            *gauge(0, 1800, growing, version=growing_one, seed=4),
            *gauge(0, 1800, lambda _: 10.0, version=steady_one, seed=5),
        ]
        events = released(sorted(both, key=lambda one: one.t), before=before)
        assert (convicted(alone("level"), events) is not None) is guilty


def test_however_many_gauges_there_are_so_many_are_followed() -> None:
    many = [
        Gauge(t=START - 3600 + 10 * k, service="shop", name=f"queue_{n}", value=1.0)
        for k in range(360)
        for n in range(MAX_LEVELS + 5)
    ]
    subject = alone("level")
    play(subject, released(gauge(0, 60, lambda _: 10.0), before=many, until=60))
    watch = subject.peek("shop").watch
    assert watch is not None
    assert len(getattr(watch.rules["level"], "levels", {})) == MAX_LEVELS


def test_a_rollback_is_proven_when_the_queue_is_as_before() -> None:
    service = shop()
    subject = alone("level", bake=3000, verify_for=120, verify_within=900)
    usual = [*service.deploy("v1", -3600), *service.run(-3600, 0), *service.deploy("v2", 0), *service.run(0, 900)]
    back = [*service.deploy("v1", 900, previous="v2"), *service.run(900, 1900)]
    queue = [*gauge(-3600, 0, lambda _: 10.0), *gauge(0, 900, growing), *gauge(900, 1900, lambda _: 10.0)]
    outcomes = play(subject, weave([*usual, *back], queue))
    assert [getattr(one, "state", None) for one in outcomes][-1] == "verified"


def test_the_evidence_names_the_gauge_and_its_values() -> None:
    decision = convicted(alone("level"), released(gauge(0, 1800, growing)))
    assert decision is not None
    (found,) = decision.evidence
    assert (found.rule, found.signal, found.verdict) == ("level", QUEUE, "degraded")
    assert found.baseline == pytest.approx(10, rel=0.2)
    assert found.observed is not None
    assert found.worse is not None
    assert found.observed > found.worse > 15
    assert found.onset is not None
    assert 0 <= found.onset - START < 300
    assert found.strength >= found.threshold > 0
    assert QUEUE in found.summary
    assert len(found.chart) > 10
