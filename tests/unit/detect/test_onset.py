"""When trouble began: the moment and its interval, against simulated changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.detect.onset import pinpoint

EVERY, SAMPLES, CHANGED = 10.0, 120, 70


def changed(drawn: np.random.Generator, before: float, after: float, requests: int) -> list[tuple[float, float, float]]:
    """Samples whose share changes with the one that begins at `CHANGED * EVERY`."""
    shares = [before] * CHANGED + [after] * (SAMPLES - CHANGED)
    counts = drawn.binomial(requests, shares)
    return [(k * EVERY, float(count), float(requests)) for k, count in enumerate(counts)]


CHANGES = [(0.002, 0.02, 200), (0.002, 0.005, 1000), (0.01, 0.1, 20), (0.1, 0.15, 500), (0.0005, 1.0, 30)]
"""Shares before and after, and requests in a sample."""


def guesses(rows: list[tuple[float, float, float]]) -> list[float]:
    """What a rule knows of the share since: that of its stretch of trouble, which may have begun too early."""
    stretches = (rows[CHANGED - 20 :], rows[CHANGED:])
    return [sum(row[1] for row in stretch) / sum(row[2] for row in stretch) for stretch in stretches]


def test_the_moment_lies_within_the_interval_in_nine_cases_of_ten() -> None:
    """Over changes from hardly visible to total; with none of them in less than six of seven."""
    drawn, trials = np.random.default_rng(1), 150
    held = []
    for before, after, requests in CHANGES:
        within = 0
        for trial in range(trials):
            rows = changed(drawn, before, after, requests)
            found = pinpoint(rows, before, guesses(rows)[trial % 2])
            assert found is not None
            assert found.earliest <= found.at <= found.latest
            within += found.earliest <= CHANGED * EVERY <= found.latest
        held.append(within / trials)
    assert np.mean(held) >= 0.9, held
    assert min(held) >= 6 / 7 - 0.04, held


@pytest.mark.parametrize(("before", "after", "requests"), CHANGES)
def test_the_most_likely_moment_is_near(before: float, after: float, requests: int) -> None:
    drawn, away = np.random.default_rng(2), []
    for _ in range(60):
        rows = changed(drawn, before, after, requests)
        found = pinpoint(rows, before, guesses(rows)[1])
        assert found is not None
        away.append(abs(found.at - CHANGED * EVERY))
    assert np.median(away) <= 3 * EVERY


def test_the_clearer_the_change_the_narrower_the_interval() -> None:
    drawn = np.random.default_rng(2)
    widths = []
    for after in (0.004, 0.01, 0.1):
        found = [pinpoint(changed(drawn, 0.002, after, 300), 0.002, after) for _ in range(40)]
        widths.append(np.mean([one.latest - one.earliest for one in found if one is not None]))
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] <= 2 * EVERY


def test_the_share_since_is_found_along_with_the_moment() -> None:
    found = pinpoint(changed(np.random.default_rng(3), 0.002, 0.05, 500), 0.002, 0.02)
    assert found is not None
    assert found.share == pytest.approx(0.05, rel=0.2)


def test_trouble_that_was_there_from_the_first_sample_on_began_with_it() -> None:
    found = pinpoint([(k * EVERY, 20.0, 100.0) for k in range(30)], 0.01, 0.2)
    assert found is not None
    assert (found.at, found.earliest) == (0.0, 0.0)


def test_what_is_no_worse_has_not_begun() -> None:
    assert pinpoint([(k * EVERY, 1.0, 100.0) for k in range(30)], 0.02, 0.2) is None
    assert pinpoint([], 0.02, 0.2) is None
    assert pinpoint([(0.0, 0.0, 0.0)], 0.02, 0.2) is None


def test_samples_of_nothing_in_between_change_nothing() -> None:
    rows = changed(np.random.default_rng(4), 0.002, 0.05, 500)
    with_gaps = [row for start, failed, of in rows for row in ((start, failed, of), (start + 1, 0.0, 0.0))]
    assert pinpoint(rows, 0.002, 0.05) is not None
    first, second = pinpoint(rows, 0.002, 0.05), pinpoint(with_gaps, 0.002, 0.05)
    assert first is not None
    assert second is not None
    assert first.share == second.share
    assert abs(first.at - second.at) <= EVERY


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1), st.floats(0, 1e12)), max_size=30),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_samples_make_it_fail(rows: list[tuple[float, float, float]], before: float, after: float) -> None:
    samples = sorted((start, part * of, of) for start, part, of in rows)
    found = pinpoint(samples, before, after)
    if found is not None:
        assert found.earliest <= found.at <= found.latest
        assert 0 <= found.share <= 1 + 1e-9
