"""Exponential histograms as counts up to fixed bounds."""

from __future__ import annotations

import random

import pytest

from rollbackd.detect.histogram import Histogram
from rollbackd.metrics.exponential import custom, exponential, grid
from rollbackd.model import Latency, bounds


@pytest.mark.parametrize("scale", [1.0, 0.001])
def test_the_bounds_are_about_a_millisecond_to_a_minute_and_the_same_for_every_schema(scale: float) -> None:
    _, found = grid(scale)
    assert 0.0009 < float(found[0]) < 0.0011
    assert 60 < float(found[-1]) < 66
    assert len(found) < 60
    for schema in range(-4, 9):
        assert tuple(exponential(schema, [(1, 2.0)], 0.0, 2.0, scale)) == (*found, "+Inf")


def test_counts_up_to_a_bound_are_exact_from_schema_1_on() -> None:
    drawn = random.Random(1)
    seen = sorted(drawn.lognormvariate(-2, 1.5) for _ in range(1000))
    for schema in (1, 3, 8):
        numbers: dict[int, float] = {}
        for seconds in seen:
            number = next_number(seconds, schema)
            numbers[number] = numbers.get(number, 0.0) + 1
        found = exponential(schema, numbers.items(), 0.0, len(seen), 1.0)
        Latency(t=1.0, service="shop", buckets=found)
        for bound, count in found.items():
            assert count == sum(1 for seconds in seen if seconds <= float(bound) * (1 + 1e-12)), (schema, bound)


def next_number(seconds: float, schema: int) -> int:
    """The bucket that holds it, found by trying."""
    number = -100 << schema
    step = 100 << schema
    while step:
        if 2.0 ** ((number + step) / 2**schema) < seconds:
            number += step
        else:
            step //= 2
    return number + 1


def test_a_coarse_bucket_counts_where_all_of_it_is_below() -> None:
    found = exponential(-1, [(0, 5.0), (1, 7.0)], 0.0, 12.0, 1.0)
    histogram = Histogram(bounds(found), tuple(found.values()))
    assert (found["0.707106781187"], found["1"], found["2.82842712475"], found["4"]) == (0, 5, 5, 12)
    assert histogram.total == 12


def test_what_lies_outside_is_counted_at_the_ends() -> None:
    found = exponential(0, [(-100, 1.0), (100, 2.0)], 4.0, 9.0, 1.0)
    counts = list(found.values())
    assert (counts[0], counts[-2], counts[-1]) == (5, 5, 9)


def test_a_total_that_is_too_small_is_that_of_the_buckets() -> None:
    assert exponential(0, [(0, 3.0)], 0.0, 1.0, 1.0)["+Inf"] == 3


def test_many_bounds_are_thinned() -> None:
    found = custom([float(n) for n in range(1, 201)], [1.0] * 201, 201.0, 1.0)
    assert len(bounds(found)) <= 64
    assert next(iter(found.items())) == ("4", 4.0)
    assert found["+Inf"] == 201
