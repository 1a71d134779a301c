"""The delivery loop: everything arrives or is given up, and nobody waits for somebody else's broken receiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.ledger.base import OutboxItem
from rollbackd.notify.base import Message, Notifier
from rollbackd.notify.outbox import LONGEST_RETRY_AFTER, LONGEST_WAIT, Outbox
from tests.support.clock import ManualClock, settle

DAY = 86400.0


@dataclass
class Shelf:
    """The outbox's part of a ledger, in memory; `broken` makes it fail as a full disk would."""

    items: dict[int, OutboxItem] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    broken: bool = False
    looks: int = 0

    def put(self, notifier: str, message: Message) -> None:
        number = len(self.items) + 1
        self.items[number] = OutboxItem(id=number, notifier=notifier, message=message, attempts=0, due_at=0.0)

    @property
    def waiting(self) -> list[str]:
        return [item.message.key for item in self.items.values()]

    async def outbox(self, now: float, limit: int = 100) -> Sequence[OutboxItem]:
        self.looks += 1
        self._check()
        return [item for item in self.items.values() if item.due_at <= now][:limit]

    async def delivered(self, item_id: int) -> None:
        self._check()
        del self.items[item_id]

    async def postpone(self, item_id: int, due_at: float, error: str) -> None:
        self._check()
        self.errors.append(error)
        item = self.items[item_id]
        self.items[item_id] = OutboxItem(
            id=item.id, notifier=item.notifier, message=item.message, attempts=item.attempts + 1, due_at=due_at
        )

    async def give_up(self, item_id: int, error: str) -> None:
        self._check()
        self.given_up[item_id] = error
        del self.items[item_id]

    def _check(self) -> None:
        if self.broken:
            raise Temporary("the disk is full")


@dataclass
class Phone:
    """A receiver that fails as told: always, or for the keys in `refuses`."""

    clock: ManualClock
    fails: Exception | None = None
    refuses: dict[str, Exception] = field(default_factory=dict)
    hangs: bool = False
    heard: list[str] = field(default_factory=list)
    tried_at: list[float] = field(default_factory=list)

    async def send(self, message: Message) -> None:
        self.tried_at.append(self.clock.monotonic())
        if self.hangs:
            await asyncio.Event().wait()
        if (error := self.refuses.get(message.key, self.fails)) is not None:
            raise error
        self.heard.append(message.key)

    async def close(self) -> None:
        pass


@dataclass
class Office:
    """An outbox at work, with two receivers."""

    clock: ManualClock
    shelf: Shelf
    one: Phone
    two: Phone
    outbox: Outbox
    work: asyncio.Task[None]

    async def say(self, notifier: str, *keys: str) -> None:
        for key in keys:
            self.shelf.put(notifier, message(key, self.clock.now()))
        self.outbox.nudge()
        await settle()


def message(key: str, t: float) -> Message:
    return Message(key=key, t=t, topic="daemon", service=None, severity="info", title=key, text=key)


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    clock, shelf = ManualClock(), Shelf()
    one, two = Phone(clock), Phone(clock)
    notifiers: dict[str, Notifier] = {"one": one, "two": two}
    outbox = Outbox(shelf, notifiers, clock)
    made = Office(clock, shelf, one, two, outbox, asyncio.create_task(outbox.run()))
    await settle()
    yield made
    made.work.cancel()
    await asyncio.gather(made.work, return_exceptions=True)


async def test_a_message_is_delivered_at_once_when_nudged(office: Office) -> None:
    await office.say("one", "a", "b")
    assert office.one.heard == ["a", "b"]
    assert office.shelf.waiting == []


async def test_a_message_is_found_without_a_nudge(office: Office) -> None:
    office.shelf.put("one", message("a", office.clock.now()))
    await office.clock.advance(30)
    assert office.one.heard == ["a"]


async def test_an_idle_outbox_looks_seldom(office: Office) -> None:
    before = office.shelf.looks
    await office.clock.advance(600)
    assert office.shelf.looks - before <= 21


async def test_waits_grow_up_to_five_minutes(office: Office) -> None:
    office.one.fails = Temporary("busy")
    await office.say("one", "a")
    await office.clock.advance(1800)
    waits = [round(later - sooner) for sooner, later in zip(office.one.tried_at, office.one.tried_at[1:], strict=False)]
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(waits[9:]) == {LONGEST_WAIT}


async def test_a_receivers_own_wish_to_wait_is_kept(office: Office) -> None:
    office.one.fails = Temporary("busy", retry_after=400.0)
    await office.say("one", "a")
    await office.clock.advance(399)
    assert len(office.one.tried_at) == 1
    await office.clock.advance(1)
    assert len(office.one.tried_at) == 2


async def test_an_absurd_wish_to_wait_is_not_kept(office: Office) -> None:
    office.one.fails = Temporary("busy", retry_after=1e12)
    await office.say("one", "a")
    await office.clock.advance(LONGEST_RETRY_AFTER)
    assert len(office.one.tried_at) == 2


async def test_all_arrive_once_the_receiver_is_back(office: Office) -> None:
    office.one.fails = Temporary("down")
    await office.say("one", "a", "b", "c")
    await office.clock.advance(3600)
    office.one.fails = None
    await office.clock.advance(2 * LONGEST_WAIT)
    assert sorted(office.one.heard) == ["a", "b", "c"]
    assert office.shelf.waiting == []


async def test_after_a_success_waits_are_short_again(office: Office) -> None:
    office.one.fails = Temporary("down")
    await office.say("one", "a")
    await office.clock.advance(600)
    office.one.fails = None
    await office.clock.advance(LONGEST_WAIT)
    office.one.fails = Temporary("down again")
    await office.say("one", "b")
    office.one.fails = None
    await office.clock.advance(1)
    assert office.one.heard == ["a", "b"]


async def test_a_receiver_that_is_down_is_not_hammered(office: Office) -> None:
    """However many messages wait for it."""
    office.one.fails = Temporary("down")
    await office.say("one", *(f"m{number}" for number in range(50)))
    await office.clock.advance(3600)
    assert len(office.one.tried_at) < 30


@pytest.mark.parametrize("fault", [Temporary("down"), RuntimeError("a bug"), Permanent("gone")])
async def test_a_broken_receiver_delays_no_other(office: Office, fault: Exception) -> None:
    office.one.fails = fault
    await office.say("one", "a", "b")
    await office.say("two", "x")
    assert office.two.heard == ["x"]
    assert not office.work.done()


async def test_a_hanging_receiver_delays_no_other_however_much_waits_for_it(office: Office) -> None:
    office.one.hangs = True
    await office.say("one", *(f"m{number}" for number in range(1000)))
    await office.say("two", "x")
    assert office.two.heard == ["x"]


async def test_a_message_that_cannot_arrive_is_given_up_and_told(office: Office) -> None:
    office.one.fails = Permanent("no such channel")
    with capture_logs() as logs:
        await office.say("one", "a")
    assert office.shelf.given_up == {1: "no such channel"}
    assert [(entry["event"], entry["notifier"], entry["key"]) for entry in logs] == [
        ("notification_given_up", "one", "a")
    ]


async def test_a_message_that_always_fails_blocks_no_other(office: Office) -> None:
    office.one.refuses = {"poison": Temporary("500")}
    await office.say("one", "poison", "a", "b")
    await office.clock.advance(60)
    assert office.one.heard == ["a", "b"]
    assert office.shelf.waiting == ["poison"]


async def test_after_some_days_a_message_is_given_up(office: Office) -> None:
    office.one.fails = Temporary("down")
    await office.say("one", "a")
    await office.clock.advance(2.9 * DAY)
    assert office.shelf.waiting == ["a"]
    await office.clock.advance(0.2 * DAY)
    assert office.shelf.given_up == {1: "down"}


async def test_an_old_message_is_tried_before_it_is_given_up(office: Office) -> None:
    """The daemon may have been down for a week."""
    office.shelf.put("one", message("old", office.clock.now() - 7 * DAY))
    office.outbox.nudge()
    await settle()
    assert office.one.heard == ["old"]


async def test_a_message_waits_for_a_notifier_that_is_configured_later(office: Office) -> None:
    await office.say("three", "a")
    assert office.shelf.errors == ["no notifier called three is configured"]
    three = replace(office.one, heard=[])
    office.outbox.use({"three": three})
    await office.clock.advance(LONGEST_WAIT)
    assert three.heard == ["a"]


async def test_a_ledger_that_fails_is_ridden_out(office: Office) -> None:
    office.shelf.broken = True
    await office.say("one", "a")
    await office.clock.advance(300)
    office.shelf.broken = False
    await office.clock.advance(60)
    assert office.one.heard == ["a"]
    assert office.shelf.waiting == []


async def test_a_delivery_is_noted_once_the_ledger_can_be_written_again(office: Office) -> None:
    """And not made again."""
    office.one.hangs = True
    await office.say("one", "a")

    class Breaking(Phone):
        async def send(self, message: Message) -> None:
            office.shelf.broken = True
            await super().send(message)

    office.outbox.use({"one": (phone := Breaking(office.clock))})
    office.work.cancel()
    await asyncio.gather(office.work, return_exceptions=True)
    outbox = Outbox(office.shelf, {"one": phone}, office.clock)
    office.work = asyncio.create_task(outbox.run())
    await office.clock.advance(100)
    assert (phone.heard, office.shelf.waiting) == (["a"], ["a"])
    office.shelf.broken = False
    await office.clock.advance(100)
    assert (phone.heard, office.shelf.waiting) == (["a"], [])


async def test_cancelling_leaves_what_was_under_way_for_the_next_start(office: Office) -> None:
    office.one.hangs = True
    await office.say("one", "a")
    office.work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await office.work
    assert office.shelf.waiting == ["a"]
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("outbox-")] == []


async def test_a_ledger_that_fails_for_good_ends_the_loop(office: Office) -> None:
    """Loudly: the daemon then ends too, rather than telling nobody anything for ever."""

    async def broken(item_id: int) -> None:
        raise Permanent("the file is no database")

    office.shelf.delivered = broken  # type: ignore[method-assign]  # one object, not the class
    await office.say("one", "a")
    with pytest.raises(RollbackdError):
        await office.work
