"""A past that comes late: a source that can read it does so at its start, when deployments were told of already."""

from __future__ import annotations

from pathlib import Path

from rollbackd.decide.policy import Policy
from rollbackd.engine import SNAPSHOT_FORMAT
from rollbackd.model import AnyEvent
from rollbackd.recording import Recorder, read
from tests.support.streams import Service, engine, play, told

POLICY = Policy(bake=120, warmup=10, cooldown=300, verify_for=20, verify_within=100)
SICK = 0.3


def shop() -> Service:
    return Service(rate=40.0, every=5.0, probed=False)


def test_what_is_older_than_the_deployment_is_remembered_and_judges_nothing() -> None:
    """An hour of trouble that ended before the release came is nothing that the release did."""
    service, subject = shop(), engine(POLICY)
    play(subject, [*service.deploy("v1", -4000), *service.deploy("v2", 0)])
    outcomes = play(subject, service.run(-3600, 0, errors=SICK))
    assert told(outcomes) == []
    assert subject.counted_until("shop") == subject.peek("shop").watch.deployed_at  # type: ignore[union-attr]
    evidence = {one.rule: one for one in subject.peek("shop").evidence}
    assert evidence["error_ratio"].samples == 0
    assert subject.peek("shop").verdict == "insufficient"


def test_a_release_is_judged_by_a_past_that_was_told_after_its_deployment() -> None:
    """Neither trouble that had been there before convicts it, nor is trouble of its own missed for lack of a past."""
    for before, since, ending in ((0.002, SICK, "v2 rollback to v1"), (SICK, SICK, "v2 good")):
        service, subject = shop(), engine(POLICY)
        play(subject, [*service.deploy("v1", -4000), *service.deploy("v2", 0), *service.run(-3600, 0, errors=before)])
        restored = engine(POLICY)
        restored.restore(subject.snapshot(), SNAPSHOT_FORMAT)
        for one in (subject, restored):
            assert told(play(one, shop_after(since)))[0] == ending


def shop_after(errors: float) -> list[AnyEvent]:
    return [*shop().run(0, 200, errors=errors)]


def test_the_past_of_one_kind_is_learnt_though_others_were_seen_since() -> None:
    """A probe that told first takes nothing from those who count requests."""
    service, subject = shop(), engine(POLICY)
    probes = Service(every=1.0, rate=0.0, timed=False)
    play(subject, [*service.deploy("v1", -4000), *service.deploy("v2", 0)])
    play(subject, probes.run(0, 3, metrics=False))
    play(subject, service.run(-3600, 0))
    assert told(play(subject, service.run(5, 200, errors=SICK)))[0] == "v2 rollback to v1"


def test_a_baseline_that_was_used_is_not_exchanged() -> None:
    """A straggler from before the deployment, once the release was looked at, changes nothing."""
    service, subject = shop(), engine(POLICY)
    play(subject, [*service.deploy("v1", -700), *service.run(-700, 0), *service.deploy("v2", 0), *service.run(0, 20)])
    before = subject.peek("shop").evidence
    play(subject, shop().run(-20, -10, errors=SICK))
    after = subject.peek("shop").evidence
    assert [(one.baseline, one.strength) for one in after] == [(one.baseline, one.strength) for one in before]


def test_a_recording_with_a_past_in_it_gives_the_same_decisions(tmp_path: Path) -> None:
    service, live = shop(), engine(POLICY)
    events = [
        *service.deploy("v1", -2),
        *Service(name="other", every=1.0, timed=False).run(-2, 0),
        *service.run(-3600, -5),
        *service.deploy("v2", 60),
        *service.run(-5, 60),
        *service.run(60, 200, errors=SICK),
    ]
    recorder = Recorder(tmp_path / "day.jsonl")
    for event in events:
        recorder.write(event)
    recorder.close()
    outcomes = play(live, events)
    assert "v2 rollback to v1" in told(outcomes)
    assert play(engine(POLICY), read(tmp_path / "day.jsonl")) == outcomes
