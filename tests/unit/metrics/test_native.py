"""Native histograms as classic ones: counts that never fall, whatever the buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.metrics.native import NativeSample, classic


def sample(count: float, *buckets: tuple[float, float, float]) -> NativeSample:
    return NativeSample(str(count), "1", [(0, repr(left), repr(right), str(held)) for left, right, held in buckets])


def test_a_bucket_counts_from_the_bound_on_that_holds_all_of_it() -> None:
    coarse = sample(7, (0.25, 1.0, 4), (1.0, 4.0, 3))
    counts = classic(coarse, 1.0)
    assert [counts[le] for le in ("0.5", "0.707106781187", "1", "2.82842712475", "4", "+Inf")] == [0, 0, 4, 4, 7, 7]


def test_a_histogram_in_milliseconds_has_bounds_of_its_own_unit() -> None:
    counts = classic(sample(2, (16.0, 32.0, 2)), 0.001)
    assert (counts["16"], counts["32"], counts["+Inf"]) == (0, 2, 2)
    assert max(float(le) for le in counts if le != "+Inf") == pytest.approx(65536)


def test_zero_and_negative_observations_are_at_most_the_smallest_bound() -> None:
    counts = classic(sample(5, (-2.0, -1.0, 1), (-0.001, 0.0005, 4)), 1.0)
    assert set(counts.values()) == {5}


@pytest.mark.parametrize(
    "broken",
    [
        NativeSample("many"),
        NativeSample("NaN"),
        NativeSample("1", "1", [(0, "1", "NaN", "1")]),
        NativeSample("1", "1", [(0, "1", "2", "x")]),
        NativeSample("Inf"),
    ],
)
def test_what_is_no_number_gives_nothing(broken: NativeSample) -> None:
    assert classic(broken, 1.0) == {}


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1000)), max_size=40), st.sampled_from((1.0, 0.001)))
def test_counts_are_cumulative(buckets: list[tuple[float, int]], scale: float) -> None:
    total = sum(held for _, held in buckets)
    counts = [*classic(sample(total, *((0.0, right, held) for right, held in buckets)), scale).values()]
    assert counts == sorted(counts)
    assert counts[-1] == total
