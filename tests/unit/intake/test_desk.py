"""Intakes at work: in turn, and nobody else waits for them."""

from __future__ import annotations

import threading

from rollbackd.intake.base import Intake, Reading
from rollbackd.intake.desk import LARGE_BYTES, Desk
from tests.support.deliveries import NOW, delivery


class Slow(Intake):
    """Notes in which thread it works."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def read(self, delivery: object) -> Reading:
        self.threads.append(threading.get_ident())
        return Reading()

    def settled(self, now: float) -> Reading:
        self.threads.append(threading.get_ident())
        return Reading(dropped={"late": 1})


async def test_what_may_take_long_is_done_beside_the_event_loop() -> None:
    slow, here = Slow(), threading.get_ident()
    desk = Desk({"slow": slow})
    await desk.read("slow", delivery(b"x" * LARGE_BYTES), lambda: None)
    await desk.read("slow", delivery(b"x" * (LARGE_BYTES + 1)), lambda: None)
    assert (await desk.settled("slow", NOW)).dropped == {"late": 1}
    desk.close()
    assert [thread == here for thread in slow.threads] == [True, False, False]


async def test_an_intake_that_settles_nothing_is_not_asked() -> None:
    desk = Desk({"plain": Intake()})
    assert await desk.settled("plain", NOW) == Reading()
    desk.close()
