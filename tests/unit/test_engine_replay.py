"""The same events give the same outcomes: again, in another process, and across restarts at any moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import SNAPSHOT_FORMAT, Engine
from rollbackd.model import AnyEvent, Outcome
from rollbackd.recording import decode, encode
from tests.support.churn import churn
from tests.support.streams import Service, engine, play, told, weave
from tests.unit.test_recording import events as any_event

POLICY = Policy(bake=120, warmup=10, cooldown=60, verify_for=20, verify_within=100)
MANY = FleetPolicy(rollbacks_per_hour=100)


def story(seed: int = 3) -> list[AnyEvent]:
    """Good, bad, back, and good again, with a neighbour, labels, logs and an alert."""
    shop, cart = Service("shop", seed, every=5, rate=20), Service("cart", seed, every=5, rate=10, labelled=True)
    shopping = [*shop.deploy("v1", 0), *shop.run(0, 150), *shop.deploy("v2", 150), shop.alert("Slow", 160)]
    shopping += [*shop.run(160, 200, errors=0.3, slower=2, logs={"boom at 0x#": 1}), *shop.deploy("v1", 200)]
    shopping += [
        *shop.run(200, 220),
        shop.alert("Slow", 220, "resolved"),
        *shop.run(220, 300),
        *shop.deploy("v3", 300),
        *shop.run(300, 450),
    ]
    carting = [*cart.deploy("c1", 0), *cart.run(0, 220), *cart.deploy("c2", 220), *cart.run(220, 450, errors=0.1)]
    return list(weave(shopping, carting))


def written(outcomes: list[Outcome]) -> bytes:
    return msgspec.json.encode(outcomes)


def test_the_story_has_every_kind_of_outcome() -> None:
    """Else the tests below would prove little."""
    outcomes = set(told(play(engine(POLICY, MANY), story())))
    assert {"v1 good", "v2 rollback to v1", "v2 condemned", "v1 verified", "v3 good", "c2 rollback to c1"} <= outcomes


def test_ten_times_the_same_bytes() -> None:
    events = story()
    assert len({written(play(engine(POLICY, MANY), events)) for _ in range(10)}) == 1


def test_a_recording_gives_the_same_bytes_as_the_events_that_were_recorded() -> None:
    """Also where a source counted in whole numbers, which come back from JSON as fractions."""
    live, replayed = engine(POLICY, MANY), engine(POLICY, MANY)
    events = story()
    recorded = [decode(encode(event)) for event in events]
    assert written(play(live, events)) == written(play(replayed, recorded))
    assert live.snapshot() == replayed.snapshot()


_ELSEWHERE = """
import hashlib
from tests.support.churn import churn
from tests.unit.test_engine_replay import MANY, POLICY, engine, play, story, written
for events in (story(), churn(5, 3000)):
    subject = engine(POLICY, MANY)
    print(hashlib.sha256(written(play(subject, events)) + subject.snapshot()).hexdigest())
"""


def test_the_same_bytes_in_processes_that_hash_differently() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _ELSEWHERE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "4242")
    ]
    printed = {process.communicate(timeout=50)[0] for process in running}
    assert len(printed) == 1
    assert len(printed.pop().split()) == 2


def restarted(subject: Engine) -> Engine:
    fresh = engine(POLICY, MANY)
    fresh.restore(subject.snapshot(), SNAPSHOT_FORMAT)
    return fresh


@pytest.mark.parametrize("events", [story(), list(churn(9, 400, services=2, names=20))], ids=["story", "churn"])
def test_a_restart_after_every_single_event_changes_nothing(events: list[AnyEvent]) -> None:
    steady, fickle = engine(POLICY, MANY), engine(POLICY, MANY)
    for event in events:
        fickle = restarted(fickle)
        assert fickle.feed(event) == steady.feed(event)
    assert fickle.snapshot() == steady.snapshot()


def test_a_snapshot_is_what_it_was_made_from() -> None:
    subject = engine(POLICY, MANY)
    for event in story():
        subject.feed(event)
    assert restarted(subject).snapshot() == subject.snapshot()
    assert restarted(subject).peek("shop") == subject.peek("shop")


@pytest.mark.parametrize("seed", range(3))
def test_looking_changes_nothing(seed: int) -> None:
    """Peeking, as the status page does, leaves no trace in what follows."""
    drawn = random.Random(seed)
    watched, alone = engine(POLICY, MANY), engine(POLICY, MANY)
    for event in churn(seed, 1500, names=20):
        if drawn.random() < 0.3:
            for service in ("s0", "s1", "ghost"):
                watched.peek(service)
                watched.recovery(service, "v1")
                watched.rollback_target(service)
        assert watched.feed(event) == alone.feed(event)
    assert watched.snapshot() == alone.snapshot()


@settings(max_examples=60, deadline=None)
@given(st.lists(any_event, max_size=25))
def test_no_event_that_can_be_read_ever_fails(events: list[AnyEvent]) -> None:
    """Whatever the order and however far apart; all told of one service, so that they meet."""
    subject = engine(POLICY, MANY)
    for event in events:
        subject.feed(event)
        subject.feed(msgspec.structs.replace(event, service="one"))
    subject.peek("one")
    subject.snapshot()


TINY = Policy(bake=0.001, warmup=0, cooldown=0, verify_for=0, verify_within=0, alpha=0.5)
STRICT = Policy.model_validate(
    {
        "warmup": 0,
        "rules": {
            "error_ratio": {"tolerance": 0, "floor": 0},
            "latency": {"tolerance": 0},
            "availability": {"down_for": 0},
            "traffic_loss": {"remaining": 0},
            "log_signature": {"lines": 1},
            "alert": {"severities": [], "lasting": 0},
        },
    }
)
LAX = Policy.model_validate(
    {"alpha": 1e-300, "bake": "1000000d", "warmup": "1000000d", "rules": {"traffic_loss": {"remaining": 1}}}
)


@pytest.mark.parametrize("policy", [POLICY, TINY, STRICT, LAX], ids=["usual", "tiny", "strict", "lax"])
@pytest.mark.parametrize("names", [10**6, 10])
def test_no_settings_make_the_engine_fail(policy: Policy, names: int) -> None:
    subject = engine(policy, MANY)
    for event in churn(11, 3000, names=names):
        msgspec.json.encode(subject.feed(event))
    for service in ("s0", "s1", "s2"):
        msgspec.json.encode(subject.peek(service).evidence)
