"""How far was read, what of it is known, and what of that survives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.sources import loki_place
from rollbackd.sources.loki_place import MAX_SEEN, Place


def key(moment: int, line: int = 0) -> bytes:
    return moment.to_bytes(8) + line.to_bytes(8)


def test_it_is_read_again_from_so_long_before_as_lines_may_be_late() -> None:
    place = Place(100, delay=30)
    assert place.start == 100, "nothing is read from before the beginning"
    place.reach(120)
    assert place.start == 100
    place.reach(200)
    place.reach(150)
    assert (place.until, place.start) == (200, 170)


def test_what_was_read_is_known_until_it_is_not_asked_for_again() -> None:
    place = Place(100, delay=30)
    place.add(key(110))
    place.reach(140)
    assert place.knows(key(110))
    place.reach(141)
    assert not place.knows(key(110))


def test_of_more_lines_than_are_remembered_less_is_read_again() -> None:
    """None is ever asked for that could have been forgotten, those of the same moment included."""
    place = Place(0, delay=10**9)
    for number in range(4 * MAX_SEEN):
        place.add(key(number // 10, number))
        if number % 1000 == 0:
            assert all(place.knows(key(one // 10, one)) for one in range(place.start * 10, number + 1))
    assert place.start > 0


def test_more_lines_of_one_moment_than_are_remembered_are_not_asked_for_again() -> None:
    place = Place(0, delay=10**9)
    for number in range(MAX_SEEN + 1):
        place.add(key(7, number))
    assert place.start == 8


def test_it_is_the_same_after_it_was_packed() -> None:
    place = Place(100, delay=30)
    for moment in (110, 111, 112):
        place.add(key(moment))
    place.reach(120)
    again = Place.unpacked(place.packed(but=[key(111)]), now=130, delay=30)
    assert again is not None
    assert (again.until, again.start) == (120, 100)
    assert [again.knows(key(moment)) for moment in (110, 111, 112)] == [True, False, True]


def test_a_clock_that_was_set_back_does_not_leave_it_in_the_future() -> None:
    place = Place(10_000, delay=30)
    again = Place.unpacked(place.packed(), now=500, delay=30)
    assert again is not None
    assert (again.until, again.start) == (500, 500)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"until":1,"floor":2,"seen":""}',
        b'{"until":-1,"floor":-1,"seen":""}',
        b'{"until":9,"floor":2,"seen":"AAAA"}',
        b'{"until":9,"floor":2,"seen":"?"}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_what_was_not_packed_is_no_place(data: bytes) -> None:
    assert Place.unpacked(data, now=100, delay=30) is None


@given(st.binary())
def test_hostile_bytes_are_no_place(data: bytes) -> None:
    assert Place.unpacked(data, now=100, delay=30) is None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=300), st.integers(1, 40))
def test_no_line_is_ever_told_twice(lines: list[tuple[int, int]], delay: int) -> None:
    """However they come, as long as what is asked for begins at `start`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loki_place, "MAX_SEEN", 16)
        place, told = Place(0, delay), set[bytes]()
        for moment, line in lines:
            one = key(moment, line)
            if moment >= place.start and not place.knows(one):
                assert one not in told
                told.add(one)
                place.add(one)
            place.reach(moment)
