"""Seeing deployments by looking: when they count, and when they are said to have happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from rollbackd.errors import Permanent, RollbackdError
from rollbackd.targets.base import TargetChange
from rollbackd.targets.watching import Sighting, deployments
from tests.support.clock import ManualClock

Look = Sighting | None | RollbackdError


class Eyes:
    """What the next looks see; the last one stays."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.sees: Look = None
        self.found: list[TargetChange] = []

    async def look(self) -> Sighting | None:
        if isinstance(self.sees, RollbackdError):
            raise self.sees
        return self.sees

    async def watch(self) -> None:
        async for change in deployments(self.look, self.clock, 1.0, "checkout"):
            self.found.append(change)

    @property
    def finished(self) -> list[tuple[str | None, str]]:
        return [(change.previous, change.version) for change in self.found if change.phase == "finished"]


Start = Callable[[Look], Eyes]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    tasks = []

    def begin(sees: Look) -> Eyes:
        eyes = Eyes(ManualClock())
        eyes.sees = sees
        tasks.append(asyncio.create_task(eyes.watch()))
        return eyes

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def see(eyes: Eyes, *looks: Look) -> None:
    for look in looks:
        eyes.sees = look
        await eyes.clock.advance(1.0)


async def test_started_comes_before_finished(start: Start) -> None:
    eyes = start(Sighting("v1"))
    await see(eyes, Sighting("v1"), Sighting("v2"))
    assert [change.phase for change in eyes.found] == ["started", "finished"]
    assert eyes.finished == [("v1", "v2")]


async def test_the_first_deployment_ever_is_one(start: Start) -> None:
    eyes = start(None)
    await see(eyes, None, Sighting("v1"))
    assert eyes.finished == [(None, "v1")]


async def test_a_first_look_that_fails_is_no_look(start: Start) -> None:
    eyes = start(Permanent("no"))
    await see(eyes, Permanent("no"), Sighting("v1"))
    assert eyes.finished == []


async def test_going_there_and_back_between_two_looks_is_not_seen_but_each_seen_step_is(start: Start) -> None:
    eyes = start(Sighting("v1"))
    await see(eyes, Sighting("v1"), Sighting("v2"), Permanent("no"), Sighting("v1"), None, Sighting("v1"))
    assert eyes.finished == [("v1", "v2"), ("v2", "v1")]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (-0.4, -0.4),
        (None, -1.0),
        (-500.0, -1.0),
        (+500.0, 0.0),
    ],
)
async def test_the_moment_lies_between_the_last_look_and_now(
    start: Start, since: float | None, expected: float
) -> None:
    """The file system's own time is finer than ours, but may be wrong.

    A target that cannot tell is taken at the earliest: trouble after the last look may be the new release's already.
    """
    eyes = start(Sighting("v1"))
    await eyes.clock.advance(0.5)
    began = eyes.clock.now() - 0.5
    seen_at = began + 1.0
    await see(eyes, Sighting("v2", None if since is None else seen_at + since))
    assert [change.t - seen_at for change in eyes.found] == pytest.approx([expected] * 2)


async def test_a_fault_that_lasts_is_told_once_and_its_end_too(start: Start) -> None:
    with capture_logs() as logs:
        eyes = start(Sighting("v1"))
        await see(eyes, *[Permanent("no")] * 5, Sighting("v1"), Sighting("v1"))
    assert [entry["event"] for entry in logs] == ["target_unreadable", "target_readable"]
