"""One test of a share: the stretch of trouble that it follows, and the evidence of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.detect.noise import Noise
from rollbackd.detect.sequential import share_evidence
from rollbackd.detect.share_test import ShareTest, is_falling, usual_share, weight_of

NULL = 0.02


def fed(*counts: tuple[float, float], told: bool = True, test: ShareTest | None = None) -> ShareTest:
    """Samples of ten seconds, (failures, total) each."""
    subject = test or ShareTest(0.01, 0.0, NULL)
    for k, (failures, total) in enumerate(counts):
        subject.take(10.0 * k, 10.0 * (k + 1), failures, total, told=told, weight=-1.0)
    return subject


GOOD, BAD = (1.0, 100.0), (20.0, 100.0)


def test_a_stretch_begins_with_the_first_bad_sample_and_goes_on() -> None:
    subject = fed(GOOD, GOOD, BAD, GOOD, BAD)
    assert (subject.began, subject.ended, subject.seconds) == (20.0, 50.0, 30.0)
    assert (subject.failures, subject.total) == (41.0, 300.0)
    assert subject.share == pytest.approx(41 / 300)


def test_while_nothing_is_wrong_there_is_no_stretch_and_no_evidence() -> None:
    subject = fed(GOOD, GOOD, GOOD)
    assert subject.began is None
    assert subject.strength() == subject.strength_with_warmup() == subject.seconds == subject.share == 0.0


def test_calm_samples_may_be_passed_over() -> None:
    """That is what makes a look at a healthy service cheap, and it has to change nothing."""
    assert ShareTest(0.01, 0.0, NULL).calm(*GOOD)
    assert not ShareTest(0.01, 0.0, NULL).calm(*BAD)
    assert not fed(BAD).calm(*GOOD)
    with_them, without = fed(GOOD, GOOD, BAD), ShareTest(0.01, 0.0, NULL)
    without.take(20.0, 30.0, *BAD, told=True, weight=-1.0)
    assert with_them == without


def test_enough_good_samples_end_the_stretch() -> None:
    assert fed(BAD, *[GOOD] * 50).began is None


def test_the_evidence_is_that_of_the_stretch_and_its_beginning_s_weight() -> None:
    subject = fed(GOOD, BAD, BAD)
    assert subject.strength() == pytest.approx((share_evidence(40, 200, NULL) - 1.0) / math.log(10))


def test_what_was_seen_while_warming_up_is_no_evidence_but_counts_where_that_is_asked_for() -> None:
    subject = fed(BAD, BAD, told=False)
    assert subject.strength() == 0.0
    assert subject.strength_with_warmup() == pytest.approx(fed(BAD, BAD).strength())
    subject.take(20.0, 30.0, *BAD, told=True, weight=-1.0)
    assert 0 < subject.strength() < subject.strength_with_warmup()


def test_evidence_can_be_asked_for_against_another_null() -> None:
    subject = fed(BAD, BAD)
    assert subject.strength(0.1) < subject.strength()
    assert subject.strength(0.3) == 0.0


def test_noise_and_a_short_baseline_weaken_the_evidence() -> None:
    plain = fed(BAD, BAD).strength()
    noisy = fed(BAD, BAD, test=ShareTest(0.01, 0.0, NULL, Noise(1e-4))).strength()
    unsure = fed(BAD, BAD, test=ShareTest(0.01, 1e-4, NULL)).strength()
    assert 0 < noisy < plain
    assert 0 < unsure < plain


def test_failures_that_come_together_count_as_few() -> None:
    """A hundred in one sample are one mishap, more than a few strays but less than a hundred."""
    assert fed((100.0, 100.0)).counted == 10.0
    assert fed((3.0, 4.0)).counted == 1.0
    assert fed(*[(3.0, 4.0)] * 5).counted == 5.0


def test_a_stretch_is_over_when_what_came_lately_is_no_more_than_usual() -> None:
    subject = fed(*[BAD] * 5)
    assert subject.is_over(2.0, 500.0)
    assert not subject.is_over(50.0, 500.0)
    assert not subject.is_over(0.0, 5.0), "too little was seen to say"
    assert not ShareTest(0.01, 0.0, NULL).is_over(0.0, 500.0)


def test_it_goes_on_while_the_newest_samples_are_bad() -> None:
    subject = fed(*[BAD] * 5)
    assert subject.goes_on([BAD, BAD])
    assert not subject.goes_on([(0.0, 100.0), BAD])
    assert subject.goes_on([(0.0, 5.0), BAD, BAD]), "as few as can tell"
    assert not subject.goes_on([])


def test_one_stray_failure_does_not_make_a_stretch_go_on() -> None:
    """A sample in which everything failed, and then 200 requests of which one did, as one in a hundred always does."""
    subject = fed((200.0, 200.0), (1.0, 200.0), test=ShareTest(0.002, 0.0, 0.003))
    assert not subject.goes_on([(1.0, 200.0), (200.0, 200.0)])


def test_fresh_is_the_same_null_without_evidence() -> None:
    subject = fed(BAD, BAD, test=ShareTest(0.01, 1e-7, NULL, Noise(1e-6)))
    fresh = subject.fresh()
    assert fresh.strength() == 0.0
    assert (fresh.usual, fresh.error, fresh.null, fresh.noise, fresh.seen) == (
        0.01,
        1e-7,
        NULL,
        Noise(1e-6),
        subject.seen,
    )


def test_the_usual_share_is_set_above_what_was_seen_the_more_the_less_that_was() -> None:
    shares = [usual_share(0.01 * total, total, Noise(), 3600)[0] for total in (100, 1000, 100_000)]
    assert shares == sorted(shares, reverse=True)
    assert all(share > 0.01 for share in shares)
    assert shares[-1] == pytest.approx(0.01, rel=0.1)
    none_failed, error = usual_share(0, 1000, Noise(), 3600)
    assert 0 < none_failed < 0.01
    assert error > 0
    assert usual_share(10, 1000, Noise(1e-5), 3600)[0] > usual_share(10, 1000, Noise(), 3600)[0]


def test_a_beginning_with_the_deployment_weighs_more_than_a_later_one() -> None:
    early, later = (weight_of(100.0 + age, 110.0 + age, 100.0, 60.0, 3600.0) for age in (0.0, 1000.0))
    assert later < early < 0
    assert math.isfinite(weight_of(100.0, 100.0, 100.0, 60.0, 3600.0))
    assert math.isfinite(weight_of(0.0, 1e9, 100.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("lately", "before", "falling"), [(0.1, 0.2, True), (0.19, 0.2, False), (0.2, 0.1, False), (0.1, 0.0, False)]
)
def test_trouble_falls_when_it_is_clearly_smaller_than_just_before(lately: float, before: float, falling: bool) -> None:
    assert is_falling(lately, before) is falling


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1), st.floats(0, 1e12)), max_size=40),
    st.floats(1e-6, 0.99),
    st.floats(0, 1),
)
def test_whatever_is_fed_the_evidence_is_finite_and_not_negative(
    rows: list[tuple[float, float, float]], null: float, error: float
) -> None:
    subject, t = ShareTest(null, error, null, Noise(1e-5)), 0.0
    for took, part, total in rows:
        subject.take(t, t + took, part * total, total, told=t > 100, weight=-3.0)
        t += took
        assert 0 <= subject.strength() < math.inf
        assert 0 <= subject.strength_with_warmup() < math.inf
        assert subject.seconds >= 0
