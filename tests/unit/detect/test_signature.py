"""What makes two log lines the same complaint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.detect.signature import CONSTANT_AFTER, MAX_CHARS, merged, signature


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("connection refused", "connection refused"),
        ("timeout after 250 ms", "timeout after * ms"),
        ("timeout after 0.25s", "timeout after *s"),
        ("balance is -12,50 EUR", "balance is * EUR"),
        ("user 'bob' not found", "user * not found"),
        ('user "o\'hara" not found', "user * not found"),
        ("cannot open /srv/app/2024/x.log: denied", "cannot open *: denied"),
        ("refused by 10.0.0.7:5432", "refused by *"),
        ("order 3f2504e0-4f89-11d3-9a0c-0305e82c3301 lost", "order * lost"),
        ("segfault at 0x7ffe01", "segfault at *"),
        ("commit 9f86d081884c broke", "commit * broke"),
        ("added decade facade", "added decade facade"),
        ("2026-11-23 13:16:46 ERROR cannot write", "ERROR cannot write"),
        ("[2026-11-23T13:16:46.123Z] cannot write", "cannot write"),
        ("2026/11/23 13:16:46,5 +01:00: cannot write", "cannot write"),
        ("2026-11-23 13:16:46", "*** *"),
        ("due 2026-11-23 13:16:46 at last", "due *** * at last"),
        ("  spaced \t out\n", "spaced out"),
        ("", ""),
    ],
)
def test_particulars_are_taken_out(message: str, expected: str) -> None:
    assert signature(message) == expected


def test_lines_that_differ_in_particulars_only_are_the_same() -> None:
    assert signature("shop.py:12 request 81 took 3.5 s") == signature("shop.py:990 request 7 took 12.1 s")


def test_different_complaints_stay_different() -> None:
    assert signature("disk full") != signature("disk slow")


@given(st.text(max_size=2000))
def test_a_signature_is_short_and_of_one_line_whatever_the_message(message: str) -> None:
    made = signature(message)
    assert len(made) <= MAX_CHARS
    assert "\n" not in made


def test_a_message_of_ten_megabytes_costs_no_more_than_a_short_one() -> None:
    assert len(signature("x" * 10_000_000)) <= MAX_CHARS
    assert len(signature("'" * 10_000_000)) <= MAX_CHARS


@pytest.mark.parametrize(
    ("known", "text", "expected"),
    [
        ("cannot reach host alpha now", "cannot reach host beta now", "cannot reach host * now"),
        ("cannot reach host * now", "cannot reach host gamma now", "cannot reach host * now"),
        ("user alice not found", "user bob not found", "user * not found"),
        ("cannot reach host alpha now", "cannot reach host alpha now", "cannot reach host alpha now"),
    ],
)
def test_names_that_a_message_mentions_without_quotes_are_particulars(known: str, text: str, expected: str) -> None:
    assert merged(known, text, 1) == expected


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ("disk full", "disk slow"),  # too short to tell
        ("cannot reach host alpha", "cannot read file alpha"),  # too different
        ("cannot reach host alpha now", "cannot reach host alpha"),  # another number of words
        ("order was lost again", "mail was lost again"),  # its first word says what it is about
    ],
)
def test_different_complaints_are_not_made_one(known: str, text: str) -> None:
    assert merged(known, text, 1) is None


def test_a_word_that_was_always_the_same_belongs_to_the_message() -> None:
    known, text = "cannot reach host alpha now", "cannot reach host beta now"
    assert merged(known, text, 1) is not None
    assert merged(known, text, CONSTANT_AFTER + 1) is None
    assert merged("cannot reach host * now", text, 1000) == "cannot reach host * now"


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 100))
def test_what_is_made_one_covers_both(first: str, second: str, count: int) -> None:
    known, text = signature(first), signature(second)
    together = merged(known, text, count)
    if together is None:
        return
    words = zip(together.split(" "), known.split(" "), text.split(" "), strict=True)
    assert all(word == "*" or (word in (mine, "*") and mine == other) for word, mine, other in words)
    assert merged(together, text, 10**6) == together
