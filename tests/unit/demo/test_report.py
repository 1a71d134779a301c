"""The timeline that the demo tells."""

from __future__ import annotations

from rollbackd.demo.report import Moment, Timeline
from rollbackd.demo.traffic import Tally
from rollbackd.web.views import ServiceView


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Moment] = []

    def moment(self, moment: Moment) -> None:
        self.told.append(moment)

    def progress(self, phase: str, service: ServiceView | None, tally: Tally) -> None:
        """Nobody looks."""


def test_seconds_count_from_the_deployment() -> None:
    timeline = Timeline(Listener())
    timeline.add("good", 90.0, "")
    timeline.deployed_at = 100.0
    timeline.add("deployed", 100.0, "")
    timeline.add("detected", 102.5, "")
    assert [timeline.since(event) for event in ("good", "deployed", "detected", "verified")] == [None, 0.0, 2.5, None]


def test_a_moment_is_told_once() -> None:
    listener = Listener()
    timeline = Timeline(listener)
    timeline.add("detected", 102.5, "first")
    timeline.add("detected", 103.5, "again")
    assert [moment.text for moment in listener.told] == ["first"]


def test_moments_are_in_order_of_time_and_not_of_being_noticed() -> None:
    timeline = Timeline(Listener())
    timeline.add("detected", 103.0, "")
    timeline.add("first_bad_request", 101.0, "")
    assert [moment.event for moment in timeline.moments] == ["first_bad_request", "detected"]
