"""How long trouble must last: the longer the smaller it is, and longer than what the history shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.detect.persistence import (
    ERRORS,
    LATENCY,
    LONGEST_WARMUPS,
    MAX_STRETCHES,
    Piece,
    Scale,
    Spells,
    Stretch,
    has_lasted,
    spells,
)

WARMUP = 60.0
SCALES = [ERRORS, LATENCY]


def pieces(size: float, seconds: float, step: float = 15.0) -> Iterator[Piece]:
    for _ in range(round(seconds / step)):
        yield Piece(step, size, size)


def lasts(size: float, scale: Scale, seen: Spells | None = None) -> float:
    """The seconds after which trouble of this size counts."""
    return next(s for s in range(15, 10_000, 15) if has_lasted(pieces(size, s), scale, WARMUP, seen or Spells()))


# -- size and time


@pytest.mark.parametrize("scale", SCALES, ids=["errors", "latency"])
def test_the_smaller_the_trouble_the_longer_it_must_last(scale: Scale) -> None:
    needed = [lasts(size, scale) for size in (1.2, 2.0, 3.0, 100.0)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] > 2 * needed[-1]
    assert WARMUP * 0.9 <= needed[-1] <= 2 * WARMUP
    assert max(needed) <= WARMUP * LONGEST_WARMUPS


@pytest.mark.parametrize("scale", SCALES, ids=["errors", "latency"])
def test_no_trouble_counts_at_once_and_none_never(scale: Scale) -> None:
    for size in (0.0, 0.5, 1.0, 1e9):
        assert WARMUP * 0.9 <= lasts(size, scale) <= WARMUP * LONGEST_WARMUPS


def test_without_trouble_nothing_has_lasted() -> None:
    assert not has_lasted([], ERRORS, WARMUP, Spells())


def test_a_short_peak_on_a_mild_spell_is_neither_a_long_peak_nor_a_short_spell() -> None:
    """Half a minute of fifty times the usual and four minutes of twice as much."""
    peak, mild = list(pieces(50.0, 30)), list(pieces(2.0, 240))
    assert not has_lasted([*peak, *mild], ERRORS, WARMUP, Spells())
    assert has_lasted(pieces(50.0, 120), ERRORS, WARMUP, Spells())
    assert has_lasted([*pieces(50.0, 120), *mild], ERRORS, WARMUP, Spells()), "what was before takes nothing away"


def test_a_dip_in_between_does_not_undo_large_trouble() -> None:
    dip = [*pieces(20.0, 60), *pieces(1.0, 15), *pieces(20.0, 60)]
    assert has_lasted(dip, ERRORS, WARMUP, Spells())


# -- the history's spells


def test_trouble_like_that_of_the_history_must_outlast_it() -> None:
    seen = Spells((Stretch(200.0, 20.0),), 1)
    assert lasts(20.0, ERRORS) < 200
    assert 200 < lasts(20.0, ERRORS, seen) <= 400
    assert lasts(20.0, ERRORS, Spells((Stretch(5.0, 20.0),), 0)) == lasts(20.0, ERRORS)


def test_much_larger_trouble_than_the_history_s_is_not_excused_by_it_unless_spells_are_usual() -> None:
    mild = (Stretch(300.0, 2.0),)
    assert lasts(500.0, ERRORS, Spells(mild, 1)) == lasts(500.0, ERRORS)
    assert lasts(2.0, ERRORS, Spells(mild, 1)) > 300
    often = Spells((Stretch(300.0, 5.0),), 20)
    assert lasts(12.0, ERRORS, often) > lasts(12.0, ERRORS, Spells(often.longest, 1))


def test_no_history_makes_a_service_unjudgeable() -> None:
    always = Spells((Stretch(1e6, 1e6),), 1000)
    assert lasts(10.0, ERRORS, always) <= WARMUP * LONGEST_WARMUPS


def found(pattern: str, failed: float = 20.0) -> Spells:
    """Of samples of ten seconds, bad where there is an x; their size is how many times 1 % fails."""
    rows = [(10.0, failed if sign == "x" else 0.0, 100.0) for sign in pattern]
    return spells(rows, 0.02, lambda share: share / 0.01, WARMUP)


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [("", 0), ("...", 0), ("x", 10), ("xx.xx", 50), ("xx..xx", 20), ("x.x.x", 50), ("xxx..x", 30), ("..xxxx", 40)],
)
def test_a_single_good_sample_in_between_ends_no_stretch(pattern: str, longest: float) -> None:
    assert max((one.seconds for one in found(pattern).longest), default=0.0) == longest


def test_a_stretch_is_as_large_as_its_share() -> None:
    (one,) = found("...xxxx...", failed=20.0).longest
    assert one.size == pytest.approx(20.0)
    (one,) = found("...xxxx...", failed=5.0).longest
    assert one.size == pytest.approx(5.0)


def test_those_that_outlasted_a_warm_up_are_counted() -> None:
    assert found("xxxx..xxxxxxxx..xxxxxxxx..x").long == 2


def test_of_stretches_neither_longer_nor_larger_than_another_only_the_other_is_kept() -> None:
    rows = [(10.0, failed, 100.0) for failed in (50, 50, 0, 0, 10, 10, 10, 0, 0, 5, 0, 0, 50)]
    kept = spells(rows, 0.02, lambda share: share / 0.01, WARMUP).longest
    assert [one.seconds for one in kept] == [30.0, 20.0]
    assert kept[0].size < kept[1].size


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1), st.floats(0, 1e9)), max_size=200), st.floats(0, 0.99))
def test_stretches_are_few_whatever_the_history(rows: list[tuple[float, float, float]], null: float) -> None:
    seen = spells([(took, part * of, of) for took, part, of in rows], null, lambda share: share / 0.001, WARMUP)
    assert len(seen.longest) <= MAX_STRETCHES
    assert [one.seconds for one in seen.longest] == sorted((one.seconds for one in seen.longest), reverse=True)
    assert seen.outlast(3.0, WARMUP) <= WARMUP * LONGEST_WARMUPS
