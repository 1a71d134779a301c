"""Events made by code are held to the same bounds as those that are read."""

from __future__ import annotations

import math

import msgspec
import pytest

from rollbackd.model import LAST_MOMENT, Alert, AnyEvent, DeploymentEvent, Gauge, Latency, Log, Probe, Requests, bounds


@pytest.mark.parametrize("t", [-1.0, math.nan, math.inf, -math.inf, 1_763_898_248_250.0])
def test_a_moment_is_a_moment(t: float) -> None:
    """Milliseconds, above all, are none: they would carry the engine's time to the end of the calendar."""
    with pytest.raises(ValueError, match="must be a moment in Unix seconds"):
        Probe(t=t, service="shop", up=True, duration=0.1)


def test_the_first_and_the_last_moment_are_moments() -> None:
    for t in (0.0, LAST_MOMENT):
        assert Probe(t=t, service="shop", up=True, duration=0.1).t == t


@pytest.mark.parametrize(("total", "errors"), [(1.0, 1.5), (math.nan, 1.0), (1.0, math.nan)])
def test_no_more_requests_fail_than_there_are(total: float, errors: float) -> None:
    with pytest.raises(ValueError, match="`errors` exceeds `total`"):
        Requests(t=1, service="shop", total=total, errors=errors)


@pytest.mark.parametrize(("total", "errors"), [(math.inf, 1.0), (1.1e15, 0.0), (math.inf, math.inf), (1.0, -1.0)])
def test_counts_are_bounded(total: float, errors: float) -> None:
    """Reading refuses them, so code must not make them either: a recording of them would be lost."""
    with pytest.raises(ValueError, match="must lie between 0 and 1e"):
        Requests(t=1, service="shop", total=total, errors=errors)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_level_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="`value` must be finite"):
        Gauge(t=1, service="shop", name="load", value=value)


@pytest.mark.parametrize("duration", [math.nan, math.inf, -0.1])
def test_a_duration_is_a_number_of_seconds(duration: float) -> None:
    with pytest.raises(ValueError, match="`duration` must be seconds"):
        Probe(t=1, service="shop", up=False, duration=duration)


@pytest.mark.parametrize(
    ("buckets", "fault"),
    [
        ({}, "must end with"),
        ({"+Inf": 1.0, "1": 2.0}, "rising order"),
        ({"1": 1.0, "1.0": 1.0, "+Inf": 1.0}, "rising order"),
        ({"1": 2.0, "+Inf": 1.0}, "cumulative"),
        ({"1": math.nan, "+Inf": 1.0}, "cumulative"),
        ({"1": -1.0, "+Inf": 1.0}, "cumulative"),
        ({"1": 1.0, "+Inf": math.inf}, "counts between 0 and"),
        ({" 1": 1.0, "+Inf": 1.0}, "is neither"),
        ({"": 1.0, "+Inf": 1.0}, "is neither"),
        ({"x" * 1000: 1.0, "+Inf": 1.0}, "`" + "x" * 50 + "` is neither"),
        ({"١": 1.0, "+Inf": 1.0}, "is neither"),
    ],
)
def test_buckets_are_cumulative_and_named_by_rising_bounds(buckets: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Latency(t=1, service="shop", buckets=buckets)


@pytest.mark.parametrize("bounds", [["+Inf"], ["0", "+Inf"], ["-1", "1e-05", ".5", "1.", "+2.5E+1", "+Inf"]])
def test_bounds_are_written_as_numbers_are(bounds: list[str]) -> None:
    assert Latency(t=1, service="shop", buckets=dict.fromkeys(bounds, 3.0)).buckets["+Inf"] == 3.0


def test_the_bounds_of_buckets_are_known_by_their_names() -> None:
    for count in (1.0, 2.0):
        assert bounds({"-1": 0.0, "1e-05": 0.0, "1.": count, "+Inf": count}) == (-1.0, 1e-05, 1.0, math.inf)
    assert bounds({"1": 0.0, "+Inf": 0.0}) == (1.0, math.inf)


@pytest.mark.parametrize(
    "names",
    [[repr(float(n)) for n in range(5000)], ["0." + "1" * 5000], ["1" + "0" * 300, "2" + "0" * 300]],
    ids=["many", "a long one", "large ones"],
)
def test_unusual_layouts_are_layouts(names: list[str]) -> None:
    """They are only not remembered, which nobody can tell."""
    for _ in range(2):
        event = Latency(t=1, service="shop", buckets=dict.fromkeys([*names, "+Inf"], 1.0))
        assert bounds(event.buckets) == (*map(float, names), math.inf)


def test_a_layout_that_was_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="`2` is not"):
            Latency(t=1, service="shop", buckets={"3": 1.0, "2": 2.0, "+Inf": 3.0})


@pytest.mark.parametrize(
    "event",
    [
        DeploymentEvent(t=1, service="shop", version="2", phase="started"),
        Requests(t=1, service="shop", total=1, errors=0),
        Latency(t=1, service="shop", buckets={"+Inf": 1.0}),
        Gauge(t=1, service="shop", name="load", value=-1.0),
        Probe(t=1, service="shop", up=True, duration=0.1),
        Log(t=1, service="shop", level="error", message=""),
        Alert(t=1, service="shop", name="Down", status="firing", severity=""),
    ],
)
def test_an_event_is_never_changed(event: AnyEvent) -> None:
    with pytest.raises(AttributeError):
        event.t = 2.0  # type: ignore[misc]  # the very thing that must fail


def test_each_kind_of_event_names_its_type() -> None:
    written = msgspec.json.encode(Log(t=1, service="shop", level="error", message="x"))
    assert msgspec.json.decode(written)["type"] == "log"
