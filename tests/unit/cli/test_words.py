"""Times, spans and amounts for the eye."""

from __future__ import annotations

import msgspec
import pytest

from rollbackd.cli.terminal import printable
from rollbackd.cli.words import numbers, short
from rollbackd.explain.amounts import amount, moment, span, time_of_day
from tests.support.backend import evidence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3900, "1 h 5 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_span_has_two_units_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_times_are_utc() -> None:
    assert moment(1_700_000_000.9) == "2023-11-14 22:13:20 UTC"
    assert time_of_day(1_700_000_000.96) == "22:13:21.0"


@pytest.mark.parametrize("at", [1e18, -1e18])
def test_a_time_beyond_the_calendar_is_still_told(at: float) -> None:
    assert moment(at) == f"@{at:.0f}"
    assert str(int(at * 10))[:5] in time_of_day(at)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "ratio", "0%"),
        (1.0, "ratio", "100%"),
        (0.00234, "ratio", "0.23%"),
        (0.179, "ratio", "17.9%"),
        (0.052, "s", "52 ms"),
        (2.5, "s", "2.50 s"),
        (70.47, "1/s", "70.47 per s"),
        (23.0, "lines", "23 lines"),
        (1234567.0, "", "1.235 M"),
        (512e6, "bytes", "512 M bytes"),
        (99_000.0, "", "9.9e+04"),
        (0.00002, "ratio", "0.002%"),
        (0.0042, "s", "4.2 ms"),
        (0.00007, "s", "0.07 ms"),
        (0.0, "s", "0 ms"),
        (2.5e7, "s", "25 M s"),
        (1e300, "", "1e+300"),
    ],
)
def test_amounts_carry_their_unit(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text


def test_numbers_say_what_evidence_rests_on() -> None:
    assert numbers(evidence()) == "4.1% (95%: 3.0% to 5.2%) against 0.20%, 1,200 samples, since 22:10:00.0"


def test_one_sample_is_one() -> None:
    assert "1 sample," in numbers(msgspec.structs.replace(evidence(), samples=1.0))


def test_nothing_counted_is_no_number() -> None:
    assert numbers(msgspec.structs.replace(evidence(), samples=0.0)) == ""


def test_only_long_ids_are_shortened() -> None:
    assert short("shop-v2-20231114T221120-0b7d52aa") == "0b7d52aa"
    assert short("dec-1") == "dec-1"


def test_text_of_all_languages_is_kept_and_control_is_not() -> None:
    assert printable("prêt → 好\nnext") == "prêt → 好\nnext"
    assert printable("\x1b[2J\u202e\x00\u2028") == "\ufffd[2J\ufffd\ufffd\ufffd"
