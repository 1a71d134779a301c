"""Whether another service is in the same trouble for another reason."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from rollbackd.decide.blame import MAX_NEIGHBOURS, neighbour_in_trouble
from rollbackd.detect.base import Trouble
from rollbackd.detect.history import History
from rollbackd.model import AnyEvent
from tests.support.streams import START, Service


def history(events: Iterable[AnyEvent]) -> History:
    remembered = History()
    for event in events:
        remembered.add(event)
    return remembered


def neighbour(**trouble: object) -> History:
    """An hour of health and then a minute of trouble, which ends at 0."""
    service = Service("cart", rate=10, every=10)
    events = [*service.run(-1800, -60), *service.run(-60, 0, **trouble)]  # type: ignore[arg-type]  # a test's shorthand
    return history(events)


def found(trouble: Trouble, other: History, detail: str = "", now: float = START) -> str | None:
    return neighbour_in_trouble(trouble, detail, [("cart", other)], now)


@pytest.mark.parametrize(
    ("trouble", "how"),
    [
        ("errors", {"errors": 0.2}),
        ("latency", {"slower": 3.0}),
        ("traffic", {"rate": 1.0}),
        ("probe", {"up": False}),
        ("log", {"logs": {"disk full": 1.0}}),
    ],
)
def test_the_same_trouble_is_found_and_health_is_not(trouble: Trouble, how: dict[str, object]) -> None:
    assert found(trouble, neighbour(**how), "disk full") == "cart"
    assert found(trouble, neighbour(), "disk full") is None


@pytest.mark.parametrize(
    ("trouble", "how"), [("errors", {"slower": 3.0}), ("latency", {"errors": 0.2}), ("log", {"logs": {"other": 1.0}})]
)
def test_other_trouble_is_not_the_same(trouble: Trouble, how: dict[str, object]) -> None:
    assert found(trouble, neighbour(**how), "disk full") is None


def test_the_same_alert_counts_while_it_fires() -> None:
    service = Service("cart", every=10)
    firing = [*service.run(-60, 0), service.alert("Down", -30)]
    assert found("alert", history(firing), "Down") == "cart"
    assert found("alert", history(firing), "Slow") is None
    assert found("alert", history([*firing, service.alert("Down", -10, "resolved")]), "Down") is None


def test_an_error_it_has_always_logged_is_not_the_same_trouble() -> None:
    service = Service("cart", every=10, rate=1)
    events = service.run(-7200, 0, logs={"disk full": 0.1})
    assert found("log", history(events), "disk full") is None


def test_a_service_that_fell_silent_shares_nothing() -> None:
    assert found("errors", neighbour(errors=0.5), now=START + 600) is None


def test_a_service_never_heard_of_before_has_no_usual() -> None:
    service = Service("cart", rate=10, every=10)
    assert found("errors", history(service.run(-60, 0, errors=0.9))) is None


def test_the_first_in_trouble_is_named_and_not_all_are_asked() -> None:
    asked: list[str] = []

    def others() -> Iterable[tuple[str, History]]:
        for k in range(1000):
            asked.append(str(k))
            yield str(k), History(last_at=START)

    assert neighbour_in_trouble("errors", "", others(), START) is None
    assert len(asked) == MAX_NEIGHBOURS
    sick = neighbour(errors=0.5)
    assert neighbour_in_trouble("errors", "", [("a", neighbour()), ("b", sick), ("c", sick)], START) == "b"
