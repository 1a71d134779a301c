"""Which release a rollback may go back to."""

from __future__ import annotations

import pytest

from rollbackd.decide.releases import MAX_RELEASES, Releases
from rollbackd.model import Standing


def standing(*stands: tuple[str, Standing]) -> Releases:
    """Releases in order of time, each as it stands now."""
    releases = Releases()
    for at, (version, how) in enumerate(stands):
        releases.stand(version, how, float(at))
        releases.current = version
    return releases


def target(releases: Releases) -> str | None:
    found = releases.last_known_good(other_than=releases.current or "")
    return found.version if found is not None else None


@pytest.mark.parametrize(
    ("stands", "expected"),
    [
        ([("1", "good"), ("2", "baking")], "1"),
        ([("1", "good"), ("2", "good"), ("3", "baking")], "2"),
        ([("1", "good"), ("2", "superseded"), ("3", "baking")], "1"),
        ([("1", "good"), ("2", "bad"), ("3", "baking")], "1"),
        ([("1", "good"), ("2", "good")], "1"),
        ([("1", "unknown"), ("2", "baking")], "1"),
        ([("1", "unknown"), ("2", "unknown"), ("3", "baking")], "2"),
        ([("1", "good"), ("2", "unknown"), ("3", "baking")], "1"),
        ([("1", "bad"), ("2", "baking")], None),
        ([("1", "superseded"), ("2", "baking")], None),
        ([("1", "good")], None),
        ([], None),
    ],
)
def test_the_newest_that_finished_its_bake_good_is_the_one(
    stands: list[tuple[str, Standing]], expected: str | None
) -> None:
    assert target(standing(*stands)) == expected


def test_newest_is_by_when_a_release_was_last_found_good() -> None:
    assert target(standing(("1", "good"), ("2", "good"), ("1", "good"), ("3", "baking"))) == "1"


def test_a_good_release_that_was_condemned_later_is_good_no_more() -> None:
    assert target(standing(("1", "good"), ("2", "good"), ("2", "bad"), ("3", "baking"))) == "1"


def test_a_release_seen_again_keeps_how_it_stands() -> None:
    releases = standing(("1", "good"))
    assert releases.sight("1", 9.0, "unknown").standing == "good"


@pytest.mark.parametrize("count", [1, 25, 26, 45, MAX_RELEASES, MAX_RELEASES + 1, 500])
def test_as_many_releases_are_remembered_as_promised(count: int) -> None:
    releases = standing(*((str(k), "superseded") for k in range(count)))
    assert min(count, MAX_RELEASES) <= len(releases.known) <= MAX_RELEASES + 2
    assert str(count - 1) in releases.known


def test_the_last_known_good_and_the_current_release_are_never_forgotten() -> None:
    releases = standing(("good", "good"), ("now", "baking"))
    for k in range(300):
        releases.stand(str(k), "bad", 10.0 + k)
    assert {"good", "now"} <= set(releases.known)
    assert target(releases) == "good"
    assert len(releases.known) <= MAX_RELEASES + 2
