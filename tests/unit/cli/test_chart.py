"""A signal as a chart of characters: it fits, keeps small and large apart, and never draws what is not known."""

from __future__ import annotations

import msgspec
import pytest
from rich.cells import cell_len

from rollbackd.cli.chart import chart
from rollbackd.model import Evidence
from tests.support.backend import NOW, evidence

Points = list[tuple[float, float]]


def signal(points: Points, **changed: object) -> Evidence:
    whole = msgspec.structs.replace(evidence(), worse=0.012, baseline=0.004, onset=None, chart=tuple(points))
    return msgspec.structs.replace(whole, **changed)


def drawn(one: Evidence, width: int = 60, decided_at: float | None = None, *, ascii_only: bool = False) -> str:
    return chart(one, NOW, decided_at, width, ascii_only=ascii_only).plain


def steps(before: float, after: float, count: int = 20) -> Points:
    """Samples at intervals of 20 s: as before up to the deployment at NOW, then as after."""
    return [(NOW + 20 * k, before if k <= 0 else after) for k in range(-count, count // 2)]


def test_a_release_that_fails_is_seen_at_a_glance() -> None:
    page = drawn(signal(steps(0.004, 0.25)), 50, NOW + 180, ascii_only=True)
    rows = page.splitlines()
    assert rows[0].startswith(" 25.0% |") or "25.0% |" in rows[0]
    assert any(row.lstrip().startswith("worse 1.2% |---") for row in rows)
    assert any(row.lstrip().startswith("usual 0.40% |") for row in rows)
    assert rows[0].rstrip().endswith("####")
    axis = next(row for row in rows if "+--" in row)
    assert axis.index("^") < axis.index("x")
    assert "^ deployed" in page
    assert "x decided +3 min" in page
    assert "-6 min 40 s" in page


@pytest.mark.parametrize("width", [40, 47, 60, 72, 80, 200])
@pytest.mark.parametrize("decided_at", [None, NOW + 1, NOW + 180, NOW + 4000])
@pytest.mark.parametrize("onset", [None, NOW - 100, NOW + 10, NOW + 100])
def test_it_fits_its_width_and_is_never_wider_than_72(
    width: int, decided_at: float | None, onset: float | None
) -> None:
    for one in (signal(steps(0.004, 0.25), onset=onset), signal(steps(5, 2), unit="1/s", worse=3.0, baseline=5.0)):
        for ascii_only in (False, True):
            rows = drawn(one, width, decided_at, ascii_only=ascii_only).splitlines()
            assert rows
            assert all(cell_len(row) <= min(width, 72) for row in rows)
            assert "deployed" in "\n".join(rows)


def test_where_there_is_no_room_or_nothing_to_show_nothing_is_drawn() -> None:
    assert drawn(signal([])) == ""
    assert drawn(signal(steps(0.004, 0.25)), 15) == ""
    assert drawn(signal([(NOW, float("nan")), (NOW + 1, float("inf"))])) == ""


def test_values_far_apart_share_a_logarithmic_scale_and_it_says_so() -> None:
    rows = drawn(signal(steps(0.001, 0.9), worse=0.005, baseline=0.001)).splitlines()
    labels = [row.split("┤")[0].strip() for row in rows if "┤" in row]
    assert labels == ["90.0%", "worse 0.50%", "usual 0.10%"]
    assert "log" in "".join(rows)
    assert "log" not in drawn(signal(steps(0.5, 0.9), worse=0.6, baseline=0.5))


def test_no_data_is_blank_and_zero_is_not() -> None:
    points = [point for point in steps(0.0, 0.0, 40) if not -600 < point[0] - NOW < -200]
    row = next(row for row in drawn(signal(points, worse=0.01, baseline=None), 60).splitlines() if " 0% ┤" in row)
    field = row.split("┤")[1]
    middle = field.strip("▁")
    assert middle
    assert set(middle) == {" "}


def test_few_missing_samples_are_no_gap() -> None:
    points = [point for point in steps(0.5, 0.5, 20) if point[0] != NOW - 100]
    for row in drawn(signal(points, worse=None, baseline=None)).splitlines()[2:5]:
        assert set(row.split("│")[-1]) == {"█"} or "┤" in row


def test_nothing_is_drawn_after_the_last_sample() -> None:
    rows = drawn(signal([(NOW - 20 * k, 0.5) for k in range(20)], worse=None, baseline=None), 60, NOW + 300)
    assert rows.splitlines()[3].endswith(" " * 10 + "┊")


def test_the_beginning_is_marked_only_apart_from_the_deployment() -> None:
    assert "began" not in drawn(signal(steps(0.004, 0.25), onset=NOW - 5))
    assert "◆ began +1 min" in drawn(signal(steps(0.004, 0.25), onset=NOW + 60))
    assert "◆ began -1 min" in drawn(signal(steps(0.004, 0.25), onset=NOW - 60))


def test_what_is_worse_can_lie_below() -> None:
    fallen = signal(steps(12.0, 2.0), unit="1/s", worse=6.0, baseline=12.0)
    page = drawn(fallen)
    labels = [row.split("┤")[0].strip() for row in page.splitlines() if "┤" in row]
    assert labels == ["12 per s", "worse 6 per s", "2 per s"]
    styles = {str(part.style) for part in chart(fallen, NOW, None, 60).spans}
    assert "bad" in styles


def test_worse_is_red_and_well_is_green_after_the_deployment() -> None:
    def styles(one: Evidence) -> set[str]:
        return {str(part.style) for part in chart(one, NOW, None, 60).spans}

    assert "bad" in styles(signal(steps(0.004, 0.25)))
    assert "bad" not in styles(signal(steps(0.004, 0.005)))
    assert "good" in styles(signal(steps(0.004, 0.005)))


@pytest.mark.parametrize(
    "points",
    [
        [(NOW, 0.0)],
        [(NOW + 30, 5.0)],
        [(NOW - 30, 0.1), (NOW + 30, 0.2)],
        [(NOW - 30, 1e308), (NOW + 30, -1e308)],
        [(NOW - 30, 1.7e308), (NOW + 30, 1.7e308)],
        [(NOW - 30, -1.7e308), (NOW + 30, -1.7e308)],
        [(NOW - 30, 5e-324), (NOW + 30, 5e-322)],
        [(NOW - 30, -3.0), (NOW + 30, -3.0)],
        [(NOW - 30, 0.0), (NOW + 30, 1e15)],
        [(NOW, 1.0), (NOW, 2.0), (NOW, 2.0)],
        [(0.0, 1.0), (2.5e11, 2.0)],
    ],
)
@pytest.mark.parametrize("unit", ["ratio", "s", "1/s", "a rather long name of a unit", "\x1b[2J\n"])
def test_odd_values_are_drawn(points: Points, unit: str) -> None:
    page = drawn(signal(points, worse=None, baseline=None, unit=unit), 60, NOW + 60)
    assert "deployed" in page
    assert "\x1b" not in page
    assert all(cell_len(row) <= 60 for row in page.splitlines())


def test_ascii_needs_nothing_else() -> None:
    assert drawn(signal(steps(0.004, 0.25), onset=NOW + 60), 60, NOW + 180, ascii_only=True).isascii()


def test_without_colour_the_signs_of_lines_and_bars_differ() -> None:
    page = drawn(signal(steps(0.004, 0.25), worse=0.05), 60, NOW + 180, ascii_only=True)
    assert "----" in page.splitlines()[2] or "----" in page.splitlines()[1]
    assert "####" in page.splitlines()[0]
