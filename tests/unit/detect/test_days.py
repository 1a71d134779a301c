"""The memory of days: half hours, two days of them, asked for by the time of the day."""

from __future__ import annotations

from rollbackd.detect.days import DAY_S, MAX_ROWS, ROW_S, Days

NOON = 1_700_006_400.0
"""A moment at which a half hour begins."""


def kept(*samples: tuple[float, float]) -> Days:
    days = Days()
    for t, value in samples:
        days.add(NOON + t, (value, 10.0))
    return days


def test_what_was_counted_around_the_same_time_the_day_before_is_known() -> None:
    days = kept((0, 1), (600, 2), (1700, 4), (1900, 8), (3700, 16))
    assert days.a_day_before(NOON + DAY_S + 1000) == [[7, 30], [8, 10]], "nearer to the half hour after it"
    assert days.a_day_before(NOON + DAY_S + 2000) == [[7, 30], [8, 10]], "nearer to the half hour before it"
    assert days.a_day_before(NOON + DAY_S + 3000) == [[8, 10], [16, 10]]


def test_nothing_is_said_of_a_time_that_was_not_seen() -> None:
    assert Days().a_day_before(NOON) == []
    assert kept((0, 1)).a_day_before(NOON) == []
    assert kept((0, 1)).a_day_before(NOON + DAY_S + 5000) == []


def test_a_late_sample_is_not_lost_and_time_does_not_run_back() -> None:
    days = kept((0, 1), (1900, 8), (1700, 4))
    assert [row[1] for row in days.rows] == [1, 12]


def test_two_days_are_kept_and_no_more() -> None:
    days = kept(*((k * ROW_S, 1.0) for k in range(MAX_ROWS + 20)))
    assert len(days.rows) == MAX_ROWS
    assert MAX_ROWS * ROW_S > 2 * DAY_S


def test_sums_of_another_length_begin_anew() -> None:
    days = kept((0, 1))
    days.add(NOON + ROW_S, (1.0, 2.0, 3.0))
    assert days.rows == [[NOON + ROW_S, 1.0, 2.0, 3.0]]
