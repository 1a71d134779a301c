"""The course of a signal: few points, in order, around the deployment, and true to what was counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.detect.base import Scene
from rollbackd.detect.chart import MAX_POINTS, course
from rollbackd.detect.history import History
from rollbackd.detect.settings import Rules

AT = 10_000.0


def scene(now: float, warmup: float = 60.0) -> Scene:
    return Scene(Rules(), 0.001, warmup, 3600.0, History(), "v2", "v1", AT, now)


def share(row: object) -> float | None:
    assert isinstance(row, list)
    return row[2] / row[3] if row[3] else None


def rows(begin: float, end: float, every: float = 10.0, failed: float = 1.0) -> list[list[float]]:
    count = round((end - begin) / every)
    return [[begin + k * every, begin + (k + 1) * every, failed, 100.0] for k in range(count)]


@pytest.mark.parametrize("after", [0.0, 5.0, 60.0, 600.0, 3600.0])
def test_there_are_few_points_in_order_around_the_deployment(after: float) -> None:
    points = course(rows(AT - 7200, AT + after), scene(AT + after), share)
    times = [t for t, _ in points]
    assert 1 <= len(points) <= MAX_POINTS
    assert times == sorted(set(times))
    assert times[-1] <= AT + after
    assert AT - times[0] >= 0.8 * after, "as long before the deployment as after it"
    assert AT - times[0] >= 60, "and some minutes in any case"


def test_what_happened_with_the_deployment_shows() -> None:
    points = course([*rows(AT - 3600, AT), *rows(AT, AT + 600, failed=30.0)], scene(AT + 600), share)
    assert {value for t, value in points if t <= AT} == {0.01}
    assert {value for t, value in points if t > AT + 30} == {0.3}


def test_a_point_is_the_ratio_of_sums_and_not_the_mean_of_ratios() -> None:
    late = scene(AT + 3600)
    points = course([[AT, AT + 1, 10.0, 10.0], [AT + 1, AT + 2, 0.0, 90.0]], late, share)
    assert points == ((AT + 2, 0.1),)


def test_a_gap_has_no_points() -> None:
    points = course([*rows(AT - 600, AT - 300), *rows(AT - 10, AT + 100)], scene(AT + 100), share)
    assert not [t for t, _ in points if AT - 290 < t < AT - 10]
    assert course([[AT, AT + 10, 0.0, 0.0]], scene(AT + 20), share) == ()
    assert course([], scene(AT + 20), share) == ()


def test_rows_are_not_changed_by_being_looked_at() -> None:
    seen = rows(AT - 600, AT + 600, every=1.0)
    before = [list(row) for row in seen]
    course(seen, scene(AT + 600), share)
    assert seen == before


@given(
    st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(0, 1e4), st.floats(0, 1), st.floats(0, 1e9)), max_size=50),
    st.floats(0, 1e5),
    st.floats(0, 1e4),
)
def test_no_rows_make_it_fail(made: list[tuple[float, float, float, float]], after: float, warmup: float) -> None:
    seen = [[AT + start, AT + start + took, part * of, of] for start, took, part, of in made]
    points = course(seen, scene(AT + after, warmup), share)
    assert len(points) <= MAX_POINTS
    assert all(0 <= value <= 1 + 1e-9 for _, value in points)
