"""Sums over intervals: bounded, and nothing counted is lost or counted twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.detect.series import MAX_AGE_S, MAX_ROWS, Series

ALWAYS = (-1.0, 1e12)


def filled(*ends: float) -> Series:
    series = Series()
    for end in ends:
        series.add(end, (1.0, 10.0))
    return series


def test_nobody_knows_what_the_first_sample_covers() -> None:
    assert filled(100).window(*ALWAYS) == (0.0, [1.0, 10.0])
    assert filled(100, 110).window(*ALWAYS) == (10.0, [2.0, 20.0])


def test_a_window_holds_the_rows_that_end_in_it() -> None:
    assert filled(10, 20, 30, 40).window(20, 30) == (10.0, [1.0, 10.0])
    assert filled(10, 20, 30, 40).window(10, 30) == (20.0, [2.0, 20.0])


def test_an_empty_window_has_no_sums() -> None:
    assert filled(10, 20).window(20, 30) == (0.0, [])
    assert Series().window(*ALWAYS) == (0.0, [])


def test_reading_a_window_changes_nothing() -> None:
    series = filled(10, 20, 30)
    assert series.window(*ALWAYS) == series.window(*ALWAYS)


def test_a_sample_that_comes_late_hides_no_other() -> None:
    series = filled(100, 110, 120, 50)
    assert series.window(90, 120)[1] == [3.0, 30.0]
    assert series.window(40, 60)[1] == [1.0, 10.0]
    assert series.newest(120) is not None
    assert series.newest(50) is None


def test_a_sample_that_comes_late_covers_no_time() -> None:
    series = filled(100, 110, 120, 115)
    assert series.window(100, 120)[0] == 20.0


def test_the_usual_interval_follows_the_samples() -> None:
    series = filled(*range(0, 1000, 10))
    assert series.interval == pytest.approx(10)
    for t in range(1005, 2000, 5):
        series.add(t, (0.0, 0.0))
    assert series.interval == pytest.approx(5, abs=0.1)


@given(st.lists(st.floats(0, MAX_AGE_S / 2), min_size=1, max_size=800))
def test_compaction_loses_no_count_and_stays_bounded(ends: list[float]) -> None:
    """Whatever the order in which samples come, as long as none is old enough to be forgotten."""
    series = filled(*ends)
    assert series.window(*ALWAYS)[1] == [len(ends), 10.0 * len(ends)]
    assert len(series.rows) <= MAX_ROWS
    assert [row[1] for row in series.rows] == sorted(row[1] for row in series.rows)


def test_the_newest_samples_stay_as_fine_as_they_came() -> None:
    series = filled(*range(0, 50_000, 10))
    newest = series.rows[-MAX_ROWS // 3 :]
    assert all(end - start == 10 for start, end, *_ in newest)


def test_the_past_grows_coarser_but_reaches_back_for_hours() -> None:
    series = filled(*range(0, 100_000, 10))
    oldest = series.rows[0]
    assert oldest[0] < 100_000 - 2 * 3600
    assert oldest[1] >= 100_000 - 10 - MAX_AGE_S - 3600
