"""Lines that anybody posts, and what all intakes of lines share."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from rollbackd.intake.base import Intake, Reading, Rejected
from rollbackd.intake.reading import REACH_S
from rollbackd.intake.repeats import REMEMBERED, UNDATED_S, WITHIN_S, Repeats
from rollbackd.model import Log
from tests.support.deliveries import NOW, Known, delivery
from tests.support.website import build_intake


def intake(**settings: object) -> Intake:
    return build_intake("json_lines", Known(), settings)


def posted(*entries: object, received_at: float = NOW, **settings: object) -> Reading:
    body = b"\n".join(entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries)
    return intake(**settings).read(delivery(body, received_at, content_type="application/x-ndjson"))


def lines(reading: Reading) -> list[Log]:
    assert all(isinstance(event, Log) for event in reading.observed)
    return [event for event in reading.observed if isinstance(event, Log)]


def entry(**changed: object) -> dict[str, object]:
    return {"service": "checkout", "message": "payment failed", "level": "error"} | changed


def test_a_line_tells_level_message_version_and_moment() -> None:
    [line] = lines(posted(entry(version="v2", time=NOW - 3)))
    assert (line.service, line.version, line.level, line.message, line.t) == (
        "checkout",
        "v2",
        "error",
        "payment failed",
        NOW - 3,
    )


def test_a_line_without_a_level_is_asked_for_it() -> None:
    [line] = lines(posted({"service": "checkout", "message": 'level=error msg="no space left"'}))
    assert (line.level, line.message) == ("error", "no space left")


def test_the_lines_of_a_stack_trace_are_one_record() -> None:
    trace = ["ERROR it broke", "Traceback (most recent call last):", '  File "x.py", line 1', "KeyError: 'x'", "next"]
    found = lines(posted(*({"service": "checkout", "message": text} for text in trace)))
    assert [line.message.count("\n") for line in found] == [3, 0]


def test_lines_of_two_origins_are_not_put_together() -> None:
    found = lines(
        posted(
            {"labels": {"app": "checkout", "pod": "a"}, "message": "ERROR it broke"},
            {"labels": {"app": "checkout", "pod": "b"}, "message": "  at somewhere else"},
        )
    )
    assert [line.message for line in found] == ["ERROR it broke", "  at somewhere else"]


def test_events_come_in_the_order_of_their_moments() -> None:
    assert [line.t for line in lines(posted(entry(time=NOW - 1), entry(time=NOW - 9)))] == [NOW - 9, NOW - 1]


def test_a_moment_ahead_is_now_and_one_too_far_back_is_left_out() -> None:
    reading = posted(entry(time=NOW + 100), entry(time=NOW - REACH_S - 1))
    assert [line.t for line in lines(reading)] == [NOW]
    assert reading.dropped == {"too_old": 1}


def test_what_cannot_be_read_spoils_nothing_else() -> None:
    reading = posted(b"{broken", entry(), b'{"service": 7}')
    assert len(reading.observed) == 1
    assert reading.dropped == {"malformed": 2}


def test_where_nothing_can_be_read_the_last_line_and_its_fault_are_told() -> None:
    with pytest.raises(Rejected, match=r"line 2 is no entry: .*message"):
        posted(b"{broken", {"service": "checkout"})


def test_a_long_line_is_cut_and_counted() -> None:
    reading = posted(entry(message="x" * 1000), max_line=300)
    assert len(lines(reading)[0].message) == 300
    assert reading.dropped == {"line_too_long": 1}


def test_lines_are_matched_by_labels_where_no_name_fits() -> None:
    match = {"search": {"container": "api", "namespace": "find"}}
    labels = {"container": "api", "namespace": "find"}
    assert lines(posted({"labels": labels, "message": "x"}, match=match))[0].service == "search"
    assert posted({"labels": {"container": "api"}, "message": "x"}, match=match).dropped == {"unknown_service": 1}


def test_text_is_taken_with_its_labels_in_the_query() -> None:
    text = delivery(b"ERROR out of memory\nINFO fine\n", content_type="text/plain; charset=utf-8")
    told = structs.replace(text, query={"service": "checkout", "version": "v2"})
    assert [(line.level, line.version) for line in lines(intake().read(told))] == [("error", "v2"), ("info", "v2")]


def test_a_body_that_comes_again_counts_once_and_later_anew() -> None:
    taken, body = intake(), json.dumps(entry()).encode()
    sent = [delivery(body, NOW + after, content_type="application/json") for after in (0, 5, WITHIN_S + 6)]
    assert [len(taken.read(one).observed) for one in sent] == [1, 0, 1]
    assert taken.read(sent[2]).dropped == {"repeated_delivery": 1}


def test_repeats_are_remembered_in_a_bounded_number() -> None:
    repeats = Repeats()
    for number in range(REMEMBERED + 10):
        repeats.take(delivery(str(number).encode()), dated=True)
    assert not repeats.known(delivery(b"0"))
    assert repeats.known(delivery(str(REMEMBERED + 9).encode()))
    assert len(repeats._until) == REMEMBERED


def test_the_same_words_of_another_service_or_release_are_no_repetition() -> None:
    taken = intake()
    for query in ({"service": "checkout"}, {"service": "search"}, {"service": "checkout", "version": "v2"}):
        sent = structs.replace(delivery(b"it broke", content_type="text/plain"), query=query)
        assert len(taken.read(sent).observed) == 1
        assert taken.read(sent).dropped == {"repeated_delivery": 1}


def test_the_same_words_without_a_time_are_meant_anew_before_long() -> None:
    """A job that fails each minute in the same words fails each minute."""
    taken = intake()
    sent = [delivery(entry(), NOW + after, content_type="application/json") for after in (0, UNDATED_S, 60)]
    assert [len(taken.read(one).observed) for one in sent] == [1, 0, 1]
    dated = [delivery(entry(time=NOW), NOW + after, content_type="application/json") for after in (0, 60)]
    assert [len(taken.read(one).observed) for one in dated] == [1, 0]
