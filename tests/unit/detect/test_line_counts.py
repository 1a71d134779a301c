"""Lines in steps of ten seconds."""

from __future__ import annotations

from rollbackd.detect.line_counts import LONGEST_PAUSE_S, LineCounts


def test_a_step_is_told_once_it_is_over() -> None:
    counts = LineCounts()
    for t in (1003.0, 1005.0, 1009.9):
        counts.add(t, 1, 2)
    assert counts.series.rows == []
    counts.add(1010.0, 0, 1)
    assert counts.series.rows == [[1000.0, 1010.0, 3.0, 6.0]]


def test_a_pause_is_a_time_without_lines_and_a_long_one_is_no_time() -> None:
    counts = LineCounts()
    counts.add(1000.0, 1, 0)
    counts.add(1055.0, 1, 0)
    assert counts.series.rows == [[1000.0, 1010.0, 1.0, 0.0], [1010.0, 1050.0, 0.0, 0.0]]
    counts.add(1060.0 + LONGEST_PAUSE_S + 10, 1, 0)
    counts.add(1060.0 + LONGEST_PAUSE_S + 20, 1, 0)
    assert counts.series.window(1060.0, 10_000.0)[0] == 0.0


def test_what_comes_a_little_late_counts_now_and_what_comes_very_late_does_not() -> None:
    counts = LineCounts()
    counts.add(1020.0, 1, 0)
    counts.add(1011.0, 1, 0)
    counts.add(500.0, 100, 0)
    assert counts.errors == 2
