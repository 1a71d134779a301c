"""The engine's memory is bounded, whatever it is fed."""

from __future__ import annotations

import pytest

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import MAX_SERVICES
from rollbackd.model import Alert, AnyEvent, DeploymentEvent, Gauge, Latency, Log, Probe, Requests
from tests.support.churn import churn
from tests.support.streams import START, Service, engine, play

MIB = 2**20
PER_SERVICE = 4 * MIB
"""What rollbackd/decide/state.py promises."""
BUSY = Policy(bake=600, warmup=10, cooldown=30, verify_for=20, verify_within=100)
MANY = FleetPolicy(rollbacks_per_hour=100)


@pytest.mark.parametrize(("seed", "names"), [(1, 10**6), (2, 30)])
def test_churn_in_everything_that_has_a_name_fills_no_memory(seed: int, names: int) -> None:
    """100,000 events: once with ever new versions, gauges, messages, alerts and bucket layouts, once with the same few.

    At the end there is no more than in the middle, give or take what the last deployments brought.
    """
    subject = engine(BUSY, MANY)
    sizes = []
    for count, event in enumerate(churn(seed, 50_000, services=2, names=names), start=1):
        subject.feed(event)
        if count % 12_500 == 0:
            sizes.append(len(subject.snapshot()))
    assert max(sizes) < 2 * PER_SERVICE
    assert sizes[-1] < 1.6 * max(sizes[:2])


def _everything_at_its_largest() -> list[AnyEvent]:
    wide = "\U0001f40c" * 490  # a character that takes four bytes
    letters = "abcdefghijklmnopqrstuvwxyz"
    buckets = {repr(1 + k / 7): 1e14 + k for k in range(63)} | {"+Inf": 1e15}
    events: list[AnyEvent] = [
        DeploymentEvent(t=START - 4000 + k, service="s", version=f"{wide}{k:03}", phase="started") for k in range(60)
    ]
    for row in range(365):
        t = START + row * 1.37
        for k in range(8):
            events.append(Requests(t=t, service="s", version=f"{wide}{k}", total=1e15, errors=1e15 / 3))
            events.append(Latency(t=t, service="s", version=f"{wide}{k}", buckets=buckets))
        events += [Gauge(t=t, service="s", name=f"{wide}{k}", value=1 / 3) for k in range(40)]
        events.append(Probe(t=t, service="s", up=row < 180, duration=1.0))
    for version in ("v1", "v2"):
        at = events[-1].t + 10
        events.append(DeploymentEvent(t=at, service="s", version=version, phase="started"))
        for k in range(400):
            message = "\U0001f40c" * 280 + letters[k % 26] + letters[k // 26] + version.replace("1", "a")
            events.append(Log(t=at + 1 + k / 1000, service="s", level="error", message=message))
    events += [
        Alert(t=events[-1].t, service="s", name=f"{wide}{k}", status="firing", severity="\U0001f40c" * 500)
        for k in range(150)
    ]
    return events


def test_a_service_of_which_everything_is_at_its_largest_stays_within_the_bound() -> None:
    subject = engine(BUSY, MANY)
    play(subject, _everything_at_its_largest())
    size = len(subject.snapshot())
    assert PER_SERVICE / 2 < size < PER_SERVICE


def test_an_ordinary_service_takes_little() -> None:
    service, subject = Service(every=10, rate=3), engine(Policy())
    play(
        subject,
        [*service.deploy("v1", 0), *service.run(0, 3600), *service.deploy("v2", 3600), *service.run(3600, 7000)],
    )
    assert len(subject.snapshot()) < 150_000


def test_further_services_are_counted_and_go_no_further() -> None:
    subject = engine()
    for k in range(MAX_SERVICES + 50):
        subject.feed(DeploymentEvent(t=START, service=f"s{k}", version="1", phase="failed"))
    assert subject.refused == 50
    assert subject.feed(DeploymentEvent(t=START, service="s0", version="2", phase="started")) != []
    assert subject.feed(DeploymentEvent(t=START, service="new", version="2", phase="started")) == []
