"""What happened, on the page: the facts as on the terminal, and a picture that also those have who cannot see it."""

from __future__ import annotations

import msgspec
import pytest

from rollbackd.model import Evidence
from rollbackd.web.page_chart import HEIGHT, WIDTH, chart
from rollbackd.web.page_explain import decision_details, what_happened
from tests.support.backend import NOW, FakeBackend, decision, evidence, service, watch
from tests.unit.web.test_page import HOSTILE, Reader, page

Points = tuple[tuple[float, float], ...]
COURSE: Points = tuple((NOW - 600 + 20 * k, 0.002 if k < 15 else 0.041) for k in range(25))


def told(**changed: object) -> Evidence:
    whole = msgspec.structs.replace(evidence(strength=4.1), worse=0.012, harmed=46.0, chart=COURSE)
    return msgspec.structs.replace(whole, **changed)


def shapes(one: Evidence, decided_at: float | None = NOW - 120) -> list[tuple[str, dict[str, str | None]]]:
    drawn = chart(one, NOW - 300, decided_at)
    assert drawn is not None
    return Reader(drawn).elements


async def test_a_decision_shows_its_chart_its_facts_and_what_the_guards_said() -> None:
    backend = FakeBackend()
    view = decision()
    older = msgspec.structs.replace(view, id="dec-0")
    explained = msgspec.structs.replace(view.decision, evidence=(told(),))
    backend.decision_list = [msgspec.structs.replace(view, decision=explained), older]
    html = Reader((await page(backend))[0])
    for part in (
        "worse begins above 1.2%",
        "how sure by chance at most once in 12,000 such watches",
        "harmed about 46 requests failed beyond what is usual",
        "other services are as they were",
        "pass cooldown no rollback in the last 10 min",
    ):
        assert part in html.text
    unfolded = [("open" in attributes) for tag, attributes in html.elements if tag == "details"]
    assert unfolded == [True, False]


async def test_a_watch_that_goes_badly_is_explained_and_one_that_goes_well_is_not() -> None:
    badly = msgspec.structs.replace(watch(strength=3.4), evidence=(told(), evidence("latency")))
    backend = FakeBackend([service("bad", watch=badly), service("good")])
    backend.decision_list = []
    elements = Reader((await page(backend))[0]).elements
    assert [tag for tag, _ in elements].count("svg") == 1


def test_the_picture_has_words_for_those_who_do_not_see_it() -> None:
    tag, attributes = shapes(told())[0]
    assert tag == "svg"
    assert attributes["role"] == "img"
    label = attributes["aria-label"] or ""
    assert "usual: 0.20%" in label
    assert "harmed: about 46 requests" in label


def test_no_line_is_drawn_where_there_was_no_data() -> None:
    with_gap = tuple(point for point in COURSE if not 200 < NOW - point[0] < 400)
    lines = [attributes for tag, attributes in shapes(told(chart=with_gap)) if tag == "polyline"]
    assert len(lines) == 2
    assert [tag for tag, _ in shapes(told(chart=COURSE[:1]))].count("circle") == 1


@pytest.mark.parametrize(
    "points",
    [COURSE, ((NOW, 0.0),), ((NOW, 1e308), (NOW + 1, -1e308)), ((NOW - 9000, 1.0), (NOW + 9000, 1e-9)), COURSE[:2]],
)
@pytest.mark.parametrize("decided_at", [None, NOW - 120, NOW + 9000])
def test_everything_lies_inside_the_picture(points: Points, decided_at: float | None) -> None:
    for tag, attributes in shapes(told(chart=points), decided_at):
        for name, most in (("x", WIDTH), ("x1", WIDTH), ("x2", WIDTH), ("cx", WIDTH), ("y", HEIGHT), ("y1", HEIGHT)):
            assert 0 <= float(attributes.get(name) or 0) <= most, tag


def test_a_picture_needs_nothing_that_the_policy_forbids_and_takes_no_markup() -> None:
    hostile = told(unit=HOSTILE, signal=HOSTILE)
    elements = shapes(hostile)
    assert {tag for tag, _ in elements} == {"svg", "line", "text", "polyline"}
    assert not [one for _, attributes in elements for one in attributes if one.startswith("on") or one == "style"]
    assert "<script>" not in what_happened(hostile, NOW - 300)


def test_without_points_there_is_no_picture_and_without_anything_no_fold() -> None:
    assert chart(told(chart=()), NOW, None) is None
    bare = msgspec.structs.replace(decision().decision, evidence=(), considered=(), guards=())
    assert decision_details(bare, unfolded=True) is None
