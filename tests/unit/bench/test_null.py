"""The simulation of good releases: that it runs, is repeatable, and draws what it says; not how often it is fooled."""

from __future__ import annotations

import json
import random

import pytest
from scipy import stats

from bench.null import BOUNDS, PER_STREAM, Service, binomial, poisson, stream
from rollbackd.model import Gauge, Latency, Log, Probe, Requests
from tests.support.streams import START
from tests.unit.bench.running import patient, ran

pytestmark = patient


def bench(*arguments: str) -> str:
    ended = ran("null", "--deployments", "3", "--jobs", "2", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert "3 of 3 deployments" in ended.stderr
    return ended.stdout


def test_the_last_line_says_what_was_measured_against_what() -> None:
    found = json.loads(bench("--json").splitlines()[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine", "interval", "rules", "seed"}
    assert (found["name"], found["peer"], found["deployments"]) == ("null", None, 3)
    low, high = found["interval"]
    assert 0 <= low <= found["ours"] <= high <= 1000
    assert found["ours"] == pytest.approx(1000 * sum(found["rules"].values()) / 3, abs=0.001)


def test_people_get_a_table() -> None:
    printed = bench()
    assert "of 3" in printed
    assert "false decisions" in printed


def test_the_same_seed_gives_the_same_and_another_gives_another() -> None:
    assert stream("1/0", 1) == stream("1/0", 1)
    events = [[*Service(seed, labelled=False).tick(START)] for seed in ("a", "a", "b")]
    assert events[0] == events[1] != events[2]


def test_each_deployment_s_bake_is_watched_to_its_end() -> None:
    """Else what is counted would be other than it says."""
    found = stream("1/0", 2)
    assert found.deployments == 2 <= PER_STREAM
    assert found.good + found.rules.total() == 2


@pytest.mark.parametrize("labelled", [True, False])
def test_a_service_sends_every_kind_of_signal(labelled: bool) -> None:
    service = Service("c", labelled=labelled)
    list(service.deploy("v1", START))
    events = [event for k in range(200) for event in service.tick(START + 10 * k)]
    assert {type(event) for event in events} == {Requests, Latency, Probe, Gauge, Log}
    versions = {event.version for event in events if not isinstance(event, Probe)}  # type: ignore[union-attr]
    assert versions == ({"v1"} if labelled else {None})
    assert all(len(event.buckets) == len(BOUNDS) + 1 for event in events if isinstance(event, Latency))


@pytest.mark.parametrize(("n", "p"), [(5, 0.3), (400, 0.002), (1000, 0.9), (50_000, 0.004)])
def test_binomial_counts_are_distributed_as_such(n: int, p: float) -> None:
    """By the goodness of their mean and variance: five standard errors each."""
    drawn = random.Random(3)
    counts = [binomial(drawn, n, p) for _ in range(4000)]
    assert all(0 <= count <= n for count in counts)
    _holds(counts, *stats.binom(n, p).stats("mvk"))


@pytest.mark.parametrize(("n", "p", "count"), [(10, 0.0, 0), (10, 1.0, 10), (0, 0.5, 0)])
def test_what_is_certain_is_not_left_to_chance(n: int, p: float, count: int) -> None:
    assert binomial(random.Random(5), n, p) == count


@pytest.mark.parametrize("mean", [0.01, 2.0, 30.0, 900.0])
def test_poisson_counts_are_distributed_as_such(mean: float) -> None:
    drawn = random.Random(4)
    _holds([poisson(drawn, mean) for _ in range(4000)], *stats.poisson(mean).stats("mvk"))


def _holds(counts: list[int], mean: float, variance: float, kurtosis: float) -> None:
    n = len(counts)
    assert sum(counts) / n == pytest.approx(mean, abs=5 * (variance / n) ** 0.5)
    seen = sum((count - mean) ** 2 for count in counts) / n
    assert seen == pytest.approx(variance, rel=5 * ((kurtosis + 2) / n) ** 0.5)
