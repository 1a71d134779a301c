"""Latency distributions: shares and quantiles between bucket bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rollbackd.detect.histogram import Histogram

INF = math.inf
PLAIN = Histogram((0.1, 0.4, 1.6, INF), (50.0, 75.0, 95.0, 100.0))


def _share(odds: float) -> float:
    return odds / (1 + odds)


@pytest.mark.parametrize(
    ("seconds", "share"),
    [
        (0.0, 1.0),
        (0.05, 0.75),  # linear from zero to the first bound
        (0.1, 0.5),
        (0.2, _share(math.sqrt(1 * 1 / 3))),  # half the way from 0.1 to 0.4 the odds are their geometric mean
        (0.4, 0.25),
        (0.8, _share(math.sqrt(1 / 3 * 1 / 19))),
        (1.6, 0.05),
        (99.0, 0.05),  # beyond the last bound nothing is known but that it was exceeded
    ],
)
def test_the_share_of_slower_requests(seconds: float, share: float) -> None:
    assert PLAIN.slower(seconds) == pytest.approx(share)


@pytest.mark.parametrize(
    ("q", "seconds"),
    [(0.25, 0.05), (0.5, 0.1), (1 - _share(math.sqrt(1 / 3)), 0.2), (0.75, 0.4), (0.95, 1.6), (1.0, 1.6)],
)
def test_quantiles(q: float, seconds: float) -> None:
    assert PLAIN.quantile(q) == pytest.approx(seconds)


def test_an_empty_histogram_has_nothing_slow() -> None:
    for empty in (Histogram((), ()), Histogram((0.1, INF), (0.0, 0.0))):
        assert empty.total == 0
        assert empty.slower(0.1) == 0.0
        assert empty.quantile(0.5) >= 0.0


def test_buckets_may_begin_at_zero() -> None:
    """OpenTelemetry's default bounds do."""
    histogram = Histogram((0.0, 0.005, 0.01, INF), (0.0, 10.0, 20.0, 20.0))
    assert histogram.slower(0.0) == 1.0
    assert histogram.slower(0.005) == 0.5
    assert histogram.quantile(0.25) == pytest.approx(0.0025)


def test_one_infinite_bucket_tells_nothing_but_the_count() -> None:
    histogram = Histogram((INF,), (7.0,))
    assert histogram.slower(1.0) == 1.0
    assert histogram.quantile(0.5) == 0.0


finite = st.floats(-10, 1e300)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    bounds = sorted(set(draw(st.lists(finite | st.floats(0, 1), min_size=1, max_size=8))))
    counts = sorted(draw(st.lists(st.floats(0, 1e15), min_size=len(bounds) + 1, max_size=len(bounds) + 1)))
    return Histogram((*bounds, INF), tuple(counts))


@given(histograms(), finite, finite)
def test_a_share_is_a_share_and_falls_with_time_whatever_the_buckets(one: Histogram, a: float, b: float) -> None:
    first, second = one.slower(min(a, b)), one.slower(max(a, b))
    assert 0 <= second <= 1
    assert first >= second - 1e-9


@given(histograms(), st.floats(0, 1))
@example(Histogram((0.5, 1.0, INF), (0.0, 0.5, 2.0)), 0.0)
def test_a_quantile_exists_whatever_the_buckets(one: Histogram, q: float) -> None:
    assert not math.isnan(one.quantile(q))
