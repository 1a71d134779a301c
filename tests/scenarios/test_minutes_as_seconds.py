"""The demonstration's pace: a bake of eight seconds, a warm-up of two, a scrape every half second or second."""

from __future__ import annotations

import statistics

import pytest

from rollbackd.decide.policy import Policy
from tests.support.streams import START, Service, decisions, engine, play, told

QUICK = Policy.model_validate(
    {
        "bake": 8,
        "warmup": 2,
        "cooldown": 60,
        "verify_for": 3,
        "verify_within": 15,
        "rules": {"availability": {"down_for": 2}},
    }
)
SEEDS = range(4)
EVERY = (0.5, 1.0)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_a_good_release_is_accepted(every: float, warmup: float) -> None:
    policy = QUICK.model_copy(update={"warmup": warmup})
    for seed in range(12):
        service = Service(seed=seed, every=every)
        outcomes = play(engine(policy), [*service.deploy("v1", 0), *service.run(0, 12), *service.deploy("v2", 12)])
        assert told(outcomes) == ["v1 opened", "v1 good", "v2 opened"]
        service = Service(seed=seed, every=every)
        events = [*service.deploy("v1", 0), *service.run(0, 12), *service.deploy("v2", 12), *service.run(12, 24)]
        assert told(play(engine(policy), events))[2:] == ["v2 opened", "v2 good"]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ({"errors": 0.2}, "error_ratio"),
        ({"slower": 3.0}, "latency"),
        ({"logs": {"worker # lost its database": 20.0}}, "log_signature"),
        ({"up": False, "metrics": False}, "availability"),
        ({"up": False, "errors": 1.0}, None),
    ],
    ids=["errors", "latency", "logs", "crash", "crash-behind-a-proxy"],
)
def test_a_bad_release_is_decided_upon_before_its_bake_is_over(
    every: float, fault: dict[str, object], rule: str | None
) -> None:
    for seed in SEEDS:
        service = Service(seed=seed, every=every)
        events = [*service.deploy("v1", 0), *service.run(0, 12), *service.deploy("v2", 12)]
        events += service.run(12, 24, **fault)  # type: ignore[arg-type]  # a test's shorthand
        (decision,) = decisions(play(engine(QUICK), events))
        assert (decision.action, decision.to) == ("rollback", "v1")
        assert decision.t - START - 12 <= 7
        assert rule in (None, decision.rule)


@pytest.mark.parametrize("every", EVERY)
def test_the_rollback_is_proven_within_seconds(every: float) -> None:
    """Now and then a few strays make it begin to count anew."""
    took = []
    for seed in range(9):
        service = Service(seed=seed, every=every)
        events = [*service.deploy("v1", 0), *service.run(0, 12), *service.deploy("v2", 12)]
        events += [*service.run(12, 19, errors=0.5), *service.deploy("v1", 19, previous="v2"), *service.run(19, 34)]
        outcomes = play(engine(QUICK), events)
        assert told(outcomes)[-1] == "v1 verified"
        took.append(outcomes[-1].t - START - 19)
    assert statistics.median(took) <= 8
    assert max(took) <= QUICK.verify_within


@pytest.mark.parametrize("every", EVERY)
def test_a_release_that_crashes_and_comes_back_and_crashes_is_decided_upon(every: float) -> None:
    """Up for three samples, down for two, and again."""
    service = Service(every=every)
    events = [*service.deploy("v1", 0), *service.run(0, 12), *service.deploy("v2", 12)]
    for turn in range(4):
        up = 12 + turn * 5 * every
        down = up + 3 * every
        events += [*service.run(up, down), *service.run(down, down + 2 * every, up=False, metrics=False)]
    (decision,) = decisions(play(engine(QUICK), events))
    assert decision.rule == "availability"
    assert decision.to == "v1"
