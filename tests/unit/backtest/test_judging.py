"""What is said of a deployment, above all of one that cannot be judged: no data is its own answer."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from rollbackd.backtest.deployments import Deployment
from rollbackd.backtest.judging import Trial
from rollbackd.backtest.report import Judgement
from rollbackd.backtest.windows import windows
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.model import AnyEvent, Requests

T = 1_700_000_000.0
POLICY = Policy(bake=600, warmup=30)


def deployed(at: float, version: str, previous: str | None = None, service: str = "shop") -> Deployment:
    return Deployment(deployed_at=T + at, service=service, version=version, previous=previous)


def served(start: float, end: float, failing: float = 0.0, version: str | None = None) -> list[AnyEvent]:
    """A hundred requests every ten seconds in `(start, end]`."""
    moments = range(int(start) + 10, int(end) + 1, 10)
    return [Requests(t=T + t, service="shop", version=version, total=100.0, errors=100.0 * failing) for t in moments]


def judge(
    deployments: list[Deployment], events: Iterable[AnyEvent], good: dict[str, str] | None = None, now: float = 9e9
) -> tuple[list[Judgement], dict[str, str]]:
    """The judgements of one window, and what later ones would take for good."""
    [window] = windows(deployments, deployments, lambda _name: POLICY, 3600, 15, T + now)
    trial = Trial(window, lambda _name: POLICY, FleetPolicy(), good or {})
    for event in sorted([*events, *trial.deployments], key=lambda event: event.t):
        trial.feed(event)
    return trial.judgements(deployments, {}, None), trial.good()


BEFORE = served(-3600, 0)
V2 = deployed(0, "v2", "v1")


def test_a_bad_release_would_have_been_rolled_back_to_what_ran_before() -> None:
    [one], good = judge([V2], [*BEFORE, *served(0, 700, failing=0.3)])
    assert (one.judged, one.to, one.rule, one.previous) == ("rollback", "v1", "error_ratio", "v1")
    assert one.after_s is not None
    assert 0 < one.after_s < 120
    assert one.decisions[0].reason == one.reason
    assert good == {"shop": "v1"}


def test_a_good_release_is_kept() -> None:
    [one], good = judge([V2], [*BEFORE, *served(0, 700)])
    assert (one.judged, one.after_s, one.cause) == ("kept", 600, None)
    assert good == {"shop": "v2"}


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        ([], "no_data"),
        (BEFORE, "no_data"),
        ([*BEFORE, *served(0, 200)], "no_data"),
        ([*BEFORE, *served(0, 700, version="v1")], "no_data"),
        (served(0, 700), "no_baseline"),
    ],
)
def test_what_was_not_seen_is_not_healthy(events: list[AnyEvent], cause: str) -> None:
    [one], _ = judge([V2], events)
    assert (one.judged, one.cause) == ("unjudged", cause)


def test_a_bake_that_is_not_over_is_not_judged() -> None:
    [one], _ = judge([V2], [*BEFORE, *served(0, 300)], now=300)
    assert (one.judged, one.cause) == ("unjudged", "unfinished")


def test_a_release_that_was_replaced_before_its_bake_ended_is_not_judged() -> None:
    first, second = judge([V2, deployed(300, "v3", "v2")], [*BEFORE, *served(0, 1100)])[0]
    assert (first.judged, first.cause) == ("unjudged", "superseded")
    assert (second.judged, second.previous) == ("kept", "v2")


def test_where_nothing_is_known_before_there_is_nothing_to_go_back_to() -> None:
    [one], _ = judge([deployed(0, "v2")], [*BEFORE, *served(0, 700, failing=0.3)])
    assert (one.judged, one.cause) == ("unjudged", "no_previous")


def test_the_same_release_again_is_no_deployment() -> None:
    again = judge([V2, deployed(800, "v2", "v1")], [*BEFORE, *served(0, 1500)])[0][1]
    assert (again.judged, again.cause) == ("unjudged", "not_new")


def test_putting_the_old_release_back_is_a_rollback_that_is_proven() -> None:
    events = [*BEFORE, *served(0, 300, failing=0.3), *served(300, 1000)]
    back = judge([V2, deployed(300, "v1", "v2")], events)[0][1]
    assert back.judged == "kept"
    assert "a rollback that helped" in back.reason


def test_a_window_knows_from_earlier_ones_which_release_was_good() -> None:
    """v2 was condemned there and stayed: the release to go back to is v1."""
    events = [*BEFORE, *served(0, 700, failing=0.3)]
    [one], _ = judge([deployed(0, "v3", "v2")], events, good={"shop": "v1"})
    assert (one.judged, one.previous, one.to) == ("rollback", "v2", "v1")
    [back], _ = judge([deployed(0, "v1", "v2")], [*BEFORE, *served(0, 700)], good={"shop": "v1"})
    assert "a rollback that helped" in back.reason
    [unknown], _ = judge([deployed(0, "v2")], events, good={"shop": "v1"})
    assert (unknown.judged, unknown.to) == ("rollback", "v1")


def test_windows_that_touch_are_one_and_hold_every_deployment_within() -> None:
    first, second, far = deployed(0, "v2"), deployed(4000, "v3"), deployed(50_000, "v4")
    other = deployed(-1000, "c2", service="cart")
    found = windows([first, second, far], [first, second, far, other], lambda _name: POLICY, 3600, 15, T + 50_100)
    assert [[one.version for one in window.deployments] for window in found] == [["c2", "v2", "v3"], ["v4"]]
    assert found[0].start < T - 3600
    assert found[1].end == T + 50_100
