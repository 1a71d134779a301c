"""Lines of several streams, folded each for itself, and the place from which to read again."""

from __future__ import annotations

from rollbackd.logs.formats import Line, LineReader
from rollbackd.sources.records import MOST_OPEN, Folding, Record


def folding() -> Folding[int]:
    return Folding(LineReader(), 1000, 0)


def said(records: list[Record]) -> list[str]:
    return [record.line.message for record in records]


def test_a_record_has_the_time_of_its_first_line() -> None:
    one = folding()
    assert one.take("a", "ERROR broke", 1.0, 1) == []
    assert one.take("a", "  at x", 2.0, 2) == []
    assert one.take("a", "next", 3.0, 3) == [Record(Line("error", "ERROR broke\n  at x"), 1.0)]
    assert one.flush() == [Record(Line("info", "next"), 3.0)]


def test_the_place_lies_before_every_line_that_is_not_told() -> None:
    one, places = folding(), []
    for number, (stream, text) in enumerate(
        [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", ""), ("c", " "), ("b", "b2")]
    ):
        one.take(stream, text, 0.0, number + 1)
        places.append(one.place)
    assert places == [0, 0, 1, 1, 1, 2]
    one.flush()
    assert one.place == 6


def test_a_record_is_settled_when_nothing_came_between_two_looks() -> None:
    one = folding()
    one.take("a", "ERROR broke", 0.0, 1)
    assert one.settle() == []
    one.take("a", "  at x", 0.0, 2)
    assert one.settle() == []
    assert (said(one.settle()), one.place) == (["ERROR broke\n  at x"], 2)


def test_a_record_by_itself_ends_the_one_before_it() -> None:
    one = folding()
    one.take("a", "before", 0.0, 1)
    assert said(one.put("a", Line("info", "alone"), 0.0, 2)) == ["before", "alone"]
    assert one.place == 2


def test_no_more_records_are_open_than_the_bound() -> None:
    one = folding()
    over = [record for number in range(MOST_OPEN + 2) for record in one.take(number, f"line {number}", 0.0, number + 1)]
    assert (said(over), one.place) == (["line 0", "line 1"], 2)
